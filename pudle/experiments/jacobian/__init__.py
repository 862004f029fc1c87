"""When does the derivative of the codes with respect to the dictionary converge to that of the lasso? (PUDLE, Section 4)"""

from pudle.experiments._shared.experiment import Experiment, Later
from pudle.experiments.jacobian.claims import CLAIMS
from pudle.experiments.jacobian.figures import FIGURES
from pudle.experiments.jacobian.grid import VARIES, plan
from pudle.experiments.jacobian.settings import Settings

EXPERIMENT = Experiment(
    settings=Settings,
    plan=plan,
    varies=VARIES,
    run=Later("pudle.experiments.jacobian.run:run"),
    figures=FIGURES,
    claims=CLAIMS,
    controls=Later("pudle.experiments.jacobian.controls:CONTROLS"),
)
