"""When do layers find the signed support, and do later layers keep it? Compared with sufficient conditions. (PUDLE, Section 4)"""

from pudle.experiments._shared.experiment import Experiment, Later
from pudle.experiments.support.claims import CLAIMS
from pudle.experiments.support.figures import FIGURES
from pudle.experiments.support.grid import VARIES, plan
from pudle.experiments.support.settings import Settings

EXPERIMENT = Experiment(
    settings=Settings,
    plan=plan,
    varies=VARIES,
    run=Later("pudle.experiments.support.run:run"),
    figures=FIGURES,
    claims=CLAIMS,
    controls=Later("pudle.experiments.support.controls:CONTROLS"),
)
