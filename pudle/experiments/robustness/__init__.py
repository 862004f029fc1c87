"""Is the order of the gradients the same with noise, minibatches, other learning rates, other codes and independent signs? (PUDLE, Appendix)"""

from pudle import methods
from pudle.experiments._shared.experiment import Experiment, Later
from pudle.experiments.robustness.claims import CLAIMS
from pudle.experiments.robustness.figures import FIGURES
from pudle.experiments.robustness.grid import VARIES, plan
from pudle.experiments.robustness.settings import Settings

EXPERIMENT = Experiment(
    settings=Settings,
    plan=plan,
    varies=VARIES,
    run=Later("pudle.experiments.robustness.run:run"),
    figures=FIGURES,
    claims=CLAIMS,
    controls=Later("pudle.experiments.robustness.controls:CONTROLS"),
    plugins=methods.REGISTRY,
)
