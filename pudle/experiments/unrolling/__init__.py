"""How do the codes and the three gradients converge as the number of layers grows, at a fixed dictionary near the truth? (PUDLE, Section 5)"""

from pudle.experiments._shared.experiment import Experiment, Later
from pudle.experiments.unrolling.claims import CLAIMS
from pudle.experiments.unrolling.figures import FIGURES
from pudle.experiments.unrolling.grid import VARIES, plan
from pudle.experiments.unrolling.settings import Settings

EXPERIMENT = Experiment(
    settings=Settings,
    plan=plan,
    varies=VARIES,
    run=Later("pudle.experiments.unrolling.run:run"),
    figures=FIGURES,
    claims=CLAIMS,
    controls=Later("pudle.experiments.unrolling.controls:CONTROLS"),
)
