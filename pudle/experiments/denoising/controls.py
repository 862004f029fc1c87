"""Negative controls on few small crops: gradients with the wrong sign or the wrong name, and λ that are all too large."""

from collections.abc import Callable, Iterable
from functools import cache

import pandas as pd

from pudle.analysis.negative_controls import Control, measure
from pudle.core.networks import network_gradient
from pudle.experiments._shared.wrong_gradients import wrong_sign
from pudle.experiments.denoising.grid import VARIES
from pudle.experiments.denoising.run import run

SETTINGS = {
    "train": "skimage-train",
    "test": ["skimage-test"],
    "sigma": 25,
    "n_filters": 16,
    "kernel": 9,
    "stride": 4,
    "n_layers": 5,
    "step": 0.1,
    "lam": 0.16,
    "crop": 65,
    "batch": 2,
    "updates": 50,
    "evaluate_every": 50,
    "learning_rate": 0.003,
    "adam_eps": 0.001
    / 65**2,  # the loss is divided by the number of pixels, and few updates learn nothing if eps exceeds the gradient
    "loss": "mean",
}
HARD = {key: value for key, value in SETTINGS.items() if key != "lam"} | {"threshold": 0.02}
NOISES = ({}, {"sigma": 50, "lam": 0.32})
WATCHED = {"evaluate_every": 25}  # for claims about the second half of training


def _measure(cells: Iterable[dict], gradient: Callable = network_gradient) -> pd.DataFrame:
    return measure(run, cells, range(3), VARIES, gradient=gradient)


@cache
def _ae_ls() -> pd.DataFrame:
    """Rows of ae-ls without corruption, for controls that compare with them."""
    return _measure([SETTINGS | WATCHED | {"estimator": "ae-ls"}])


def _orderings(corrupt: bool) -> pd.DataFrame:
    cells = [SETTINGS | noise | {"estimator": estimator} for noise in NOISES for estimator in ("dec", "ae-ls")]
    return _measure(cells, wrong_sign(network_gradient, "ae-ls") if corrupt else network_gradient)


def _thresholds(corrupt: bool) -> pd.DataFrame:
    hard = _measure([HARD | {"estimator": "ae-ls"}], wrong_sign(network_gradient, "ae-ls") if corrupt else network_gradient)
    return pd.concat([_ae_ls(), hard], ignore_index=True)


def _lams(corrupt: bool) -> pd.DataFrame:
    """Rows for three λ. After few updates a small λ is best."""
    lams = (2.0, 4.0, 8.0) if corrupt else (0.001, 0.02, 8.0)
    return _measure(SETTINGS | {"estimator": "ae-ls", "lam": lam} for lam in lams)


def _ae_lasso(corrupt: bool) -> pd.DataFrame:
    cell = SETTINGS | WATCHED | {"estimator": "ae-lasso"}
    ae_lasso = _measure([cell], _renamed(network_gradient) if corrupt else network_gradient)
    return pd.concat([_ae_ls(), ae_lasso], ignore_index=True)


def _renamed(gradient: Callable) -> Callable:
    """``gradient(…)`` with ae-ls in place of ae-lasso."""

    def wrong(images, network, estimator, *arguments, **options):
        return gradient(images, network, "ae-ls" if estimator == "ae-lasso" else estimator, *arguments, **options)

    return wrong


CONTROLS = (
    Control(
        id="wrong-sign-ae-ls",
        claims=("ae-ls-denoises-better", "ordering-holds-everywhere"),
        statement="ae-ls has the wrong sign.",
        rows=_orderings,
    ),
    Control(
        id="wrong-sign-hard",
        claims=("hard-thresholds-come-close",),
        statement="ae-ls has the wrong sign with hard thresholds.",
        rows=_thresholds,
    ),
    Control(
        id="lams-too-large",
        claims=("best-lam-inside",),
        statement="Every λ is far above the size of the codes.",
        rows=_lams,
    ),
    Control(
        id="ae-ls-for-ae-lasso",
        claims=("ae-lasso-fails",),
        statement="ae-ls runs under the name of ae-lasso.",
        rows=_ae_lasso,
    ),
)
