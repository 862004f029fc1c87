"""How fast, and how far, does every published method recover the dictionary from the same data, start and budget? (PUDLE, Section 5)"""

from pathlib import Path

from pudle import methods
from pudle.experiments._shared.experiment import Experiment, Later
from pudle.experiments.baselines.claims import CLAIMS
from pudle.experiments.baselines.figures import FIGURES
from pudle.experiments.baselines.grid import VARIES, check, plan

EXPERIMENT = Experiment(
    settings=Path(__file__).with_name("settings.yaml"),
    check=check,
    plan=plan,
    varies=VARIES,
    run=Later("pudle.experiments.baselines.run:run"),
    figures=FIGURES,
    claims=CLAIMS,
    controls=Later("pudle.experiments.baselines.controls:CONTROLS"),
    plugins=methods.REGISTRY,
)
