"""Gradients of the wrong sign, and a λ so small that it leaves no bias for ae-ls to avoid."""

from pudle.experiments.learning.run import run
from pudle.experiments.spoil import wrong_sign
from pudle.gradients import unrolled_gradient
from pudle.harness.cells import grid
from pudle.harness.controls import Control, measure

SETTINGS = {
    "n_samples": 300,
    "n_features": 20,
    "n_atoms": 24,
    "sparsity": 2,
    "signs": "shared",
    "init_noise": 0.1,
    "lam": 0.2,
    "step": 0.2,
    "n_layers": [25, 100],
    "estimators": ["dec", "ae-lasso", "ae-ls"],
    "updates": 150,
    "learning_rate": 0.003,
    "adam_eps": 1e-8,
}
VARIES = ("n_layers", "estimator")


def _rows(settings=SETTINGS, **options):
    return measure(run, grid(settings, n_layers="n_layers", estimator="estimators"), range(3), VARIES, **options)


CONTROLS = (
    Control(
        id="wrong-sign-ae-ls",
        claims=("ae-ls-far-below", "order-ae-ls-ae-lasso"),
        statement="ae-ls has the wrong sign.",
        rows=lambda spoil: _rows(gradient=wrong_sign(unrolled_gradient, "ae-ls") if spoil else unrolled_gradient),
    ),
    Control(
        id="lambda-of-zero",
        claims=("ae-ls-far-below",),
        statement="λ is zero: the codes have no bias that ae-ls could avoid.",
        rows=lambda spoil: _rows(SETTINGS | {"lam": 0.0} if spoil else SETTINGS),
    ),
)
