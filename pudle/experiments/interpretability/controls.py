"""Codes shuffled across the images, and a dictionary that has not been trained."""

import pandas as pd

from pudle.experiments.interpretability.grid import VARIES, plan
from pudle.experiments.interpretability.run import run
from pudle.harness.controls import Control, measure

SETTINGS = {
    "data_set": "digits",
    "classes": [0, 1, 2, 3, 4],
    "n_atoms": 30,
    "n_layers": [30],
    "estimator": "ae-lasso",
    "lam": 0.25,
    "step": 0.1,
    "weight_decay": 0.01,
    "ridge": None,
    "batch": 1000,
    "epochs": 200,
    "learning_rate": 0.02,
    "adam_eps": 1e-15,
    "drop_epochs": [],
    "evaluate_every": 50,
    "n_contributors": None,
    "n_outputs": 1000,
}

CONVERGES = {"n_atoms": 10, "estimator": "dec", "n_layers": [15], "step": 0.3}  # soon


def _rows(**changes) -> pd.DataFrame:
    return measure(run, plan(SETTINGS | changes), range(3), VARIES)


def _shuffled(spoil: bool) -> pd.DataFrame:
    """The run measures shuffled codes beside the others; they are given out as the raw ones."""
    rows = _rows()
    return rows[rows.codes != "raw"].replace({"codes": {"shuffled": "raw"}}) if spoil else rows


CONTROLS = (
    Control(
        id="shuffled-codes",
        claims=("contributors-share-the-class",),
        statement="Each atom's codes are shuffled across the training images.",
        rows=_shuffled,
    ),
    Control(
        id="untrained",
        claims=("relation-holds",),
        statement="The dictionary is as it was at the start.",
        rows=lambda spoil: _rows(
            **CONVERGES, **({"epochs": 1, "drop_epochs": []} if spoil else {"epochs": 1000, "drop_epochs": [600, 800]})
        ),
    ),
)
