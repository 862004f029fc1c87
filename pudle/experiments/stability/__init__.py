"""Where do back-propagated gradients explode, and do other losses, steps, depths or truncation prevent it? (PUDLE, Section 4)"""

from pudle.experiments._shared.experiment import Experiment, Later
from pudle.experiments.stability.claims import CLAIMS
from pudle.experiments.stability.figures import FIGURES
from pudle.experiments.stability.grid import VARIES, plan
from pudle.experiments.stability.settings import Settings

EXPERIMENT = Experiment(
    settings=Settings,
    plan=plan,
    varies=VARIES,
    run=Later("pudle.experiments.stability.run:run"),
    figures=FIGURES,
    claims=CLAIMS,
    controls=Later("pudle.experiments.stability.controls:CONTROLS"),
)
