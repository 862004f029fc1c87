"""A gradient of the wrong sign, on few and small crops."""

from pudle.experiments.denoising.run import run
from pudle.experiments.spoil import wrong_sign
from pudle.harness.cells import grid
from pudle.harness.controls import Control, measure
from pudle.networks import network_gradient

SETTINGS = {
    "train": "skimage-train",
    "test": "skimage-test",
    "sigma": 25,
    "n_filters": 16,
    "kernel": 9,
    "stride": 4,
    "n_layers": 5,
    "step": 0.1,
    "lam": 0.16,
    "l1_weighting": "",
    "estimators": ["dec", "ae-ls"],
    "crop": 65,
    "batch": 2,
    "updates": 50,
    "evaluate_every": 50,
    "learning_rate": 0.003,
    "adam_eps": 0.001,
}

CONTROLS = (
    Control(
        id="wrong-sign-ae-ls",
        claims=("ae-ls-denoises-better",),
        statement="ae-ls has the wrong sign.",
        rows=lambda spoil: measure(
            run,
            grid(SETTINGS, estimator="estimators"),
            range(3),
            ("estimator", "l1_weighting"),
            gradient=wrong_sign(network_gradient, "ae-ls") if spoil else network_gradient,
        ),
    ),
)
