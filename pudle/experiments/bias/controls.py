"""Codes of other samples, a gradient of the wrong sign, and learning that does not learn."""

from pudle.coding import encode
from pudle.experiments.bias.grid import VARIES, plan
from pudle.experiments.bias.run import run
from pudle.experiments.spoil import wrong_sign
from pudle.gradients import unrolled_gradient
from pudle.harness.controls import Control, measure

SETTINGS = {
    "n_samples": 200,
    "n_features": 32,
    "n_atoms": 40,
    "sparsity": 2,
    "signs": "shared",
    "init_noise": 0.03,
    "lams": [0.1, 0.2, 0.4],
    "step": 0.2,
    "n_layers": 300,
    "decay": 0.98,
    "forward": ["fixed", "decayed", "hard"],
    "estimators": [],
    "updates": 200,
    "learning_layers": 50,
    "learning_rate": 3e-3,
}
LEARNING = SETTINGS | {"forward": ["fixed"], "estimators": ["dec", "ae-ls"]}
DECAYED = SETTINGS | {"forward": ["fixed", "decayed"], "estimators": ["ae-ls"], "lams": [0.2, 0.3, 0.4]}


def _shuffled(*arguments, **options):
    return encode(*arguments, **options).roll(1, 0)


CONTROLS = (
    Control(
        id="shuffled-codes",
        claims=("code-bias-proportional", "code-bias-vanishes-decayed", "code-bias-vanishes-hard"),
        statement="Each sample has the codes of another.",
        rows=lambda spoil: measure(run, plan(SETTINGS), range(3), VARIES, encoder=_shuffled if spoil else encode),
    ),
    Control(
        id="no-learning",
        claims=("floor-grows-dec",),
        statement="The learning rate is zero.",
        rows=lambda spoil: measure(run, plan(LEARNING | {"learning_rate": 0} if spoil else LEARNING), range(3), VARIES),
    ),
    Control(
        id="no-learning-decayed",
        claims=("floor-falls-decayed",),
        statement="The learning rate is zero, with fixed and with decayed λ.",
        rows=lambda spoil: measure(run, plan(DECAYED | {"learning_rate": 0} if spoil else DECAYED), range(3), VARIES),
    ),
    Control(
        id="wrong-sign-ae-ls",
        claims=("floor-lower-ae-ls",),
        statement="ae-ls has the wrong sign.",
        rows=lambda spoil: measure(
            run,
            plan(LEARNING),
            range(3),
            VARIES,
            gradient=wrong_sign(unrolled_gradient, "ae-ls") if spoil else unrolled_gradient,
        ),
    ),
)
