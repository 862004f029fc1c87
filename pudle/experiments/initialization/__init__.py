"""From which starts does learning recover the dictionary? (PUDLE, Section 5; Arora, Ge, Ma & Moitra, COLT 2015)"""

from pudle.experiments._shared.experiment import Experiment, Later
from pudle.experiments.initialization.claims import CLAIMS
from pudle.experiments.initialization.figures import FIGURES
from pudle.experiments.initialization.grid import VARIES, plan
from pudle.experiments.initialization.settings import Settings

EXPERIMENT = Experiment(
    settings=Settings,
    plan=plan,
    varies=VARIES,
    run=Later("pudle.experiments.initialization.run:run"),
    figures=FIGURES,
    claims=CLAIMS,
    controls=Later("pudle.experiments.initialization.controls:CONTROLS"),
)
