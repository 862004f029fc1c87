"""Which dictionary does each gradient learn, and how does the number of layers matter? (PUDLE, Section 5)"""

from pathlib import Path

from pudle.experiments._shared.experiment import Experiment, Later
from pudle.experiments.learning.claims import CLAIMS
from pudle.experiments.learning.figures import FIGURES
from pudle.experiments.learning.grid import VARIES, check, plan

EXPERIMENT = Experiment(
    settings=Path(__file__).with_name("settings.yaml"),
    check=check,
    plan=plan,
    varies=VARIES,
    run=Later("pudle.experiments.learning.run:run"),
    figures=FIGURES,
    claims=CLAIMS,
    controls=Later("pudle.experiments.learning.controls:CONTROLS"),
)
