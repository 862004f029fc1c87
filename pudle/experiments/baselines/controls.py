"""A start that has nothing to do with the truth: no method can then be anywhere near it after one pass."""

from pudle.experiments.baselines.grid import VARIES, plan
from pudle.experiments.baselines.run import run
from pudle.harness.controls import Control, measure

SETTINGS = {
    "n_samples": 20000,
    "n_features": 50,
    "n_atoms": 60,
    "sparsity": [2],
    "signs": "shared",
    "init_noise": 0.02,
    "batch": 50,
    "epochs": 1,
    "evaluate_every": 100,
    "methods": {"pudle-ae-ls": {"learning_rate": 0.003}, "pudle-ae-ls-ht": {"learning_rate": 0.003}},
}

CONTROLS = (
    Control(
        id="start-far-from-the-truth",
        claims=("pudle-ae-ls-ht-removes-bias",),
        statement="The initial dictionary is random.",
        rows=lambda spoil: measure(run, plan(SETTINGS | {"init_noise": 100.0} if spoil else SETTINGS), range(3), VARIES),
    ),
)
