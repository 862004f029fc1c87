"""How fast and how accurately does each published method recover the dictionary from the same data, start and batches? (PUDLE, Section 5)"""

from pudle import methods
from pudle.experiments._shared.experiment import Experiment, Later
from pudle.experiments.baselines.claims import CLAIMS
from pudle.experiments.baselines.figures import FIGURES
from pudle.experiments.baselines.grid import VARIES, plan
from pudle.experiments.baselines.settings import Settings

EXPERIMENT = Experiment(
    settings=Settings,
    plan=plan,
    varies=VARIES,
    run=Later("pudle.experiments.baselines.run:run"),
    figures=FIGURES,
    claims=CLAIMS,
    controls=Later("pudle.experiments.baselines.controls:CONTROLS"),
    plugins=methods.REGISTRY,
)
