"""How biased are the codes and the dictionary learned from them, and which forward pass removes the bias? (PUDLE, Section 4)"""

from pudle.experiments._shared.experiment import Experiment, Later
from pudle.experiments.bias.claims import CLAIMS
from pudle.experiments.bias.figures import FIGURES
from pudle.experiments.bias.grid import VARIES, plan
from pudle.experiments.bias.settings import Settings

EXPERIMENT = Experiment(
    settings=Settings,
    plan=plan,
    varies=VARIES,
    run=Later("pudle.experiments.bias.run:run"),
    figures=FIGURES,
    claims=CLAIMS,
    controls=Later("pudle.experiments.bias.controls:CONTROLS"),
)
