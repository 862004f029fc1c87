"""Negative controls: gradients with the wrong sign, codes of other samples, a gradient that is not back-propagated, and λ = 0."""

from collections.abc import Callable
from functools import cache

import pandas as pd

from pudle.analysis.negative_controls import Control, measure
from pudle.core.gradients import unrolled_gradient
from pudle.experiments._shared.wrong_gradients import detached, shuffled_codes, wrong_sign
from pudle.experiments.unrolling.run import run

SETTINGS = {
    "n_samples": 100,
    "n_features": 50,
    "n_atoms": 100,
    "sparsity": 5,
    "signs": "shared",
    "init_noise": 0.02,
    "lam": 0.2,
    "step": 0.2,
    "n_layers": 30,
    "estimators": ["dec", "ae-lasso", "ae-ls"],
    "dtype": "float64",
}


@cache
def _rows(corrupted_gradient: Callable | None = None, lam: float = SETTINGS["lam"]) -> pd.DataFrame:
    gradient = corrupted_gradient(unrolled_gradient) if corrupted_gradient else unrolled_gradient
    return measure(run, [SETTINGS | {"lam": lam}], range(3), (), gradient=gradient)


def _wrong_dec(gradient: Callable) -> Callable:
    return wrong_sign(gradient, "dec")


def _wrong_back_propagated(gradient: Callable) -> Callable:
    return wrong_sign(gradient, "ae-lasso", "ae-ls")


CONTROLS = (
    Control(
        id="wrong-sign-dec",
        claims=("dec-converges-to-local",),
        statement="dec has the wrong sign.",
        rows=lambda corrupt: _rows(_wrong_dec if corrupt else None),
    ),
    Control(
        id="wrong-sign",
        claims=(
            "ae-lasso-converges-to-local",
            "ae-lasso-converges-faster",
            "ae-lasso-faster-than-codes",
            "ae-ls-closer-to-global",
        ),
        statement="ae-lasso and ae-ls have the wrong sign.",
        rows=lambda corrupt: _rows(_wrong_back_propagated if corrupt else None),
    ),
    Control(
        id="shuffled-codes",
        claims=("codes-converge", "codes-converge-geometrically"),
        statement="Each sample has the codes of another sample.",
        rows=lambda corrupt: _rows(shuffled_codes if corrupt else None),
    ),
    Control(
        id="detached",
        claims=("ae-ls-stays-away-from-local",),
        statement="dec runs under the name of ae-ls, as if the codes of ae-ls were detached.",
        rows=lambda corrupt: _rows(detached if corrupt else None),
    ),
    Control(
        id="lambda-of-zero",
        claims=("ae-ls-stays-away-from-local",),
        statement="λ is zero, so that ae-ls equals ae-lasso.",
        rows=lambda corrupt: _rows(lam=0.0) if corrupt else _rows(),
    ),
)
