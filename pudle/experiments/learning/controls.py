"""Negative controls: gradients with the wrong sign."""

from functools import cache

import pandas as pd

from pudle.analysis.negative_controls import Control, measure
from pudle.core.gradients import unrolled_gradient
from pudle.experiments._shared.wrong_gradients import wrong_sign
from pudle.experiments.learning.grid import VARIES
from pudle.experiments.learning.run import run

SETTINGS = {
    "n_samples": 100,
    "n_features": 20,
    "n_atoms": 24,
    "sparsity": 2,
    "signs": "shared",
    "init_noise": 0.1,
    "lam": 0.2,
    "step": 0.2,
    "updates": 100,
    "learning_rate": 0.01,
    "adam_eps": 1e-8,
}
ESTIMATORS = ("dec", "ae-lasso", "ae-ls")


@cache
def _cell(n_layers: int, estimator: str, wrong: bool) -> pd.DataFrame:
    gradient = wrong_sign(unrolled_gradient, estimator) if wrong else unrolled_gradient
    return measure(run, [SETTINGS | {"n_layers": n_layers, "estimator": estimator}], range(3), VARIES, gradient=gradient)


def _rows(*layers: int, wrong: list[tuple[int, str]]) -> pd.DataFrame:
    """Rows of every estimator with each of ``layers``; gradients of the (layers, estimator) in ``wrong`` have the wrong sign."""
    return pd.concat([_cell(deep, name, (deep, name) in wrong) for deep in layers for name in ESTIMATORS])


CONTROLS = (
    Control(
        id="wrong-sign-ae-ls",
        claims=("order-ae-ls-ae-lasso", "ae-ls-best"),
        statement="ae-ls has the wrong sign.",
        rows=lambda corrupt: _rows(25, 100, wrong=[(25, "ae-ls"), (100, "ae-ls")] if corrupt else []),
    ),
    Control(
        id="wrong-sign-ae-lasso",
        claims=("order-ae-lasso-dec",),
        statement="ae-lasso has the wrong sign at T = 25.",
        rows=lambda corrupt: _rows(25, wrong=[(25, "ae-lasso")] if corrupt else []),
    ),
    Control(
        id="wrong-sign-deep",
        claims=tuple(f"more-layers-help-{name}" for name in ESTIMATORS),
        statement="All three gradients have the wrong sign at T = 100.",
        rows=lambda corrupt: _rows(25, 100, wrong=[(100, name) for name in ESTIMATORS] if corrupt else []),
    ),
)
