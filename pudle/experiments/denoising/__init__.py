"""Which gradient learns the convolutional dictionary that denoises photographs best? (PUDLE, Section 5)"""

from pudle import denoisers
from pudle.experiments._shared.experiment import Experiment, Later
from pudle.experiments.denoising.claims import CLAIMS
from pudle.experiments.denoising.figures import FIGURES
from pudle.experiments.denoising.galleries import small_arrays
from pudle.experiments.denoising.grid import VARIES, data_sets, plan
from pudle.experiments.denoising.settings import Settings

EXPERIMENT = Experiment(
    settings=Settings,
    plan=plan,
    varies=VARIES,
    run=Later("pudle.experiments.denoising.run:run"),
    figures=FIGURES,
    claims=CLAIMS,
    controls=Later("pudle.experiments.denoising.controls:CONTROLS"),
    plugins=denoisers.REGISTRY,
    data_sets=data_sets,
    small_arrays=small_arrays,
)
