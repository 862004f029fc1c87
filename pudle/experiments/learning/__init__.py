"""Which dictionary does each gradient learn, and how does the number of layers matter? (PUDLE, Section 5)"""

from pudle.experiments._shared.experiment import Experiment, Later
from pudle.experiments.learning.claims import CLAIMS
from pudle.experiments.learning.figures import FIGURES
from pudle.experiments.learning.grid import VARIES, plan
from pudle.experiments.learning.settings import Settings

EXPERIMENT = Experiment(
    settings=Settings,
    plan=plan,
    varies=VARIES,
    run=Later("pudle.experiments.learning.run:run"),
    figures=FIGURES,
    claims=CLAIMS,
    controls=Later("pudle.experiments.learning.controls:CONTROLS"),
)
