"""Negative controls: codes of other samples, a fixed λ everywhere, a wrong sign, λ that decays at once, and a rate of zero."""

from collections.abc import Callable
from functools import cache

import pandas as pd

from pudle.analysis.negative_controls import Control, measure
from pudle.core.encoding import encode
from pudle.core.gradients import unrolled_gradient
from pudle.experiments._shared.wrong_gradients import wrong_sign
from pudle.experiments.bias.grid import VARIES
from pudle.experiments.bias.run import run

SETTINGS = {
    "n_samples": 100,
    "n_features": 24,
    "n_atoms": 24,
    "sparsity": 2,
    "signs": "shared",
    "init_noise": 0.03,
    "lams": [0.2, 0.4],
    "step": 0.2,
    "n_layers": 300,
    "decay": 0.98,
    "updates": 60,
    "learning_layers": 40,
    "learning_rate": 0.01,
}
# All λ of the controls exceed the interference between atoms in the first layers, as the theory requires.
CODES = SETTINGS | {"n_features": 64, "n_atoms": 64, "lams": [0.2, 0.3, 0.4]}
FORWARD = ("fixed", "decayed", "hard")


def _codes(encoder: Callable = encode) -> pd.DataFrame:
    cells = [CODES | {"forward": forward, "learner": "codes"} for forward in FORWARD]
    return measure(run, cells, range(3), VARIES, encoder=encoder)


def _shuffled(*arguments, **options):
    return encode(*arguments, **options).roll(1, 0)


def _fixed(x, dictionary, *, threshold: float | None = None, decay: float = 1, **options):
    """Codes with a fixed λ, of the same threshold in the first layer."""
    return encode(x, dictionary, **options | ({} if threshold is None else {"lam": threshold / options["step"]}))


@cache
def _floor(forward: str, learner: str, wrong: bool = False, **changes: float) -> pd.DataFrame:
    """Rows of one cell, for several controls; with ``wrong`` its gradient has the wrong sign."""
    gradient = wrong_sign(unrolled_gradient, learner) if wrong else unrolled_gradient
    cell = SETTINGS | changes | {"forward": forward, "learner": learner}
    return measure(run, [cell], range(3), VARIES, gradient=gradient)


def _floors(wrong: str = "", decay: float = SETTINGS["decay"], **changes: float) -> pd.DataFrame:
    """Rows of all pairs of forward pass and gradient; the gradients named ``wrong`` have the wrong sign, and ``decay`` is that of λ."""
    pairs = (("fixed", "dec", {}), ("fixed", "ae-ls", {}), ("decayed", "ae-ls", {"decay": decay}))
    cells = (_floor(forward, learner, learner == wrong, **changes, **decays) for forward, learner, decays in pairs)
    return pd.concat(cells, ignore_index=True)


def _reversed(corrupt: bool) -> pd.DataFrame:
    rows = _floors()
    return rows.assign(lam=rows.lam.map(dict(zip(SETTINGS["lams"], SETTINGS["lams"][::-1], strict=True)))) if corrupt else rows


CONTROLS = (
    Control(
        id="shuffled-codes",
        claims=("code-bias-proportional", *(f"code-bias-vanishes-{forward}-every-lambda" for forward in FORWARD[1:])),
        statement="Each sample has the codes of another sample.",
        rows=lambda corrupt: _codes(_shuffled if corrupt else encode),
    ),
    Control(
        id="fixed-everywhere",
        claims=tuple(f"code-bias-vanishes-{forward}" for forward in FORWARD[1:]),
        statement="Every forward pass has a fixed λ.",
        rows=lambda corrupt: _codes(_fixed if corrupt else encode),
    ),
    Control(
        id="no-learning",
        claims=("floor-falls-decayed",),
        statement="The learning rate is zero.",
        rows=lambda corrupt: _floors(learning_rate=0, updates=1) if corrupt else _floors(),
    ),
    Control(
        id="lambdas-swapped",
        claims=("floor-grows-dec",),
        statement="Dictionaries learned with λ = 0.2 are labelled 0.4, and those learned with 0.4 are labelled 0.2.",
        rows=_reversed,
    ),
    Control(
        id="decay-at-once",
        claims=("floor-falls-decayed-every-lambda",),
        statement="Each layer divides λ by ten, so that the codes approach those of least squares.",
        rows=lambda corrupt: _floors(decay=0.1) if corrupt else _floors(),
    ),
    Control(
        id="wrong-sign-ae-ls",
        claims=("floor-lower-ae-ls",),
        statement="ae-ls has the wrong sign.",
        rows=lambda corrupt: _floors(wrong="ae-ls" if corrupt else ""),
    ),
)
