"""When is the signed support found, and is it kept? Measured against sufficient conditions. (PUDLE, Section 4)"""

from pathlib import Path

from pudle.experiments._shared.experiment import Experiment, Later
from pudle.experiments.support.claims import CLAIMS
from pudle.experiments.support.figures import FIGURES
from pudle.experiments.support.grid import VARIES, check, plan

EXPERIMENT = Experiment(
    settings=Path(__file__).with_name("settings.yaml"),
    check=check,
    plan=plan,
    varies=VARIES,
    run=Later("pudle.experiments.support.run:run"),
    figures=FIGURES,
    claims=CLAIMS,
    controls=Later("pudle.experiments.support.controls:CONTROLS"),
)
