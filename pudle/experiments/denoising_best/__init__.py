"""How well does the paper's network denoise with better training, and how well with the additions of CSCNet?"""

from pudle.experiments._shared.experiment import Experiment, Later
from pudle.experiments.denoising_best.claims import CLAIMS
from pudle.experiments.denoising_best.figures import FIGURES
from pudle.experiments.denoising_best.grid import VARIES, data_sets, plan
from pudle.experiments.denoising_best.settings import Settings

EXPERIMENT = Experiment(
    settings=Settings,
    plan=plan,
    varies=VARIES,
    run=Later("pudle.experiments.denoising_best.run:run"),
    figures=FIGURES,
    claims=CLAIMS,
    data_sets=data_sets,
)
