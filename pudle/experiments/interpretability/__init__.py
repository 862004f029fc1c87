"""Which training images do atoms and outputs consist of? (PUDLE, Section 4)"""

from pudle.experiments._shared.experiment import Experiment, Later
from pudle.experiments.interpretability.claims import CLAIMS
from pudle.experiments.interpretability.figures import FIGURES, small_arrays
from pudle.experiments.interpretability.grid import VARIES, data_sets, plan
from pudle.experiments.interpretability.settings import Settings

EXPERIMENT = Experiment(
    settings=Settings,
    plan=plan,
    varies=VARIES,
    run=Later("pudle.experiments.interpretability.run:run"),
    figures=FIGURES,
    claims=CLAIMS,
    controls=Later("pudle.experiments.interpretability.controls:CONTROLS"),
    data_sets=data_sets,
    small_arrays=small_arrays,
)
