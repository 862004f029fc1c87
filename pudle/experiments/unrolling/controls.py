"""Gradients of the wrong sign, codes of other samples, and a gradient that is not back-propagated."""

from pudle.experiments.spoil import detached, shuffled_codes, wrong_sign
from pudle.experiments.unrolling.run import run
from pudle.gradients import unrolled_gradient
from pudle.harness.controls import Control, measure

SETTINGS = {
    "n_samples": 100,
    "n_features": 50,
    "n_atoms": 100,
    "sparsity": 5,
    "signs": "shared",
    "init_noise": 0.02,
    "lam": 0.2,
    "step": 0.2,
    "n_layers": 40,
    "estimators": ["dec", "ae-lasso", "ae-ls"],
    "dtype": "float64",
}


def _rows(spoiled_gradient):
    return lambda spoil: measure(
        run, [SETTINGS], range(3), (), gradient=spoiled_gradient(unrolled_gradient) if spoil else unrolled_gradient
    )


CONTROLS = (
    Control(
        id="wrong-sign",
        claims=("dec-converges-to-local", "ae-lasso-converges-to-local"),
        statement="dec and ae-lasso have the wrong sign.",
        rows=_rows(lambda gradient: wrong_sign(gradient, "dec", "ae-lasso")),
    ),
    Control(
        id="wrong-sign-ae-lasso",
        claims=("ae-lasso-converges-faster", "ae-lasso-faster-than-codes"),
        statement="ae-lasso has the wrong sign.",
        rows=_rows(lambda gradient: wrong_sign(gradient, "ae-lasso")),
    ),
    Control(
        id="wrong-sign-ae-ls",
        claims=("ae-ls-closer-to-global",),
        statement="ae-ls has the wrong sign.",
        rows=_rows(lambda gradient: wrong_sign(gradient, "ae-ls")),
    ),
    Control(
        id="shuffled-codes",
        claims=("codes-converge", "codes-converge-geometrically"),
        statement="Each sample has the codes of another.",
        rows=_rows(shuffled_codes),
    ),
    Control(
        id="detached",
        claims=("ae-ls-stays-away-from-local",),
        statement="dec is taken for ae-ls, as if its codes had been detached.",
        rows=_rows(detached),
    ),
)
