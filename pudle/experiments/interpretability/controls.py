"""Negative controls: untrained and trained starts, reversed training, shuffled codes, and the images that contribute least."""

from functools import cache

import pandas as pd

from pudle.analysis.negative_controls import Control, measure
from pudle.experiments.interpretability.grid import VARIES
from pudle.experiments.interpretability.run import run, train_dictionary
from pudle.harness.record import Record

SETTINGS = {
    "data_set": "digits",
    "classes": [0, 1, 2, 3, 4],
    "n_atoms": 30,
    "n_layers": 15,
    "estimator": "ae-lasso",
    "lam": 0.25,
    "step": 0.1,
    "weight_decay": 0.01,
    "ridge": None,
    "batch": 1000,
    "epochs": 60,
    "learning_rate": 0.02,
    "adam_eps": 1e-15,
    "drop_epochs": [],
    "evaluate_every": 60,
    "n_contributors": None,
    "n_outputs": 1000,
}
# With few atoms, a large weight decay and codes held constant, training reaches a stationary point, and the relation holds up to rounding.
STATIONARY = SETTINGS | {
    "classes": [0, 1],
    "n_atoms": 4,
    "n_layers": 20,
    "estimator": "dec",
    "step": 0.3,
    "weight_decay": 0.5,
    "epochs": 400,
    "drop_epochs": [250, 330],
    "evaluate_every": 20,
}


@cache
def _trained(few_atoms: bool = False) -> pd.DataFrame:
    return measure(run, [STATIONARY if few_atoms else SETTINGS], range(3), VARIES)


def _untrained() -> pd.DataFrame:
    return measure(run, [STATIONARY | {"epochs": 1, "drop_epochs": []}], range(3), VARIES)


def _backwards() -> pd.DataFrame:
    rows = _trained(few_atoms=True)
    return rows.assign(step=rows.step.where(rows.quantity != "relation_residual", STATIONARY["epochs"] - rows.step))


def _trained_before() -> pd.DataFrame:
    """Training from a trained dictionary, with a small learning rate, since Adam's first steps do not depend on the gradient's size."""

    def end(settings, x, seed):
        return train_dictionary(STATIONARY, x, seed, Record())

    return measure(run, [STATIONARY | {"learning_rate": 1e-6}], range(3), VARIES, start_of=end)


def _shuffled() -> pd.DataFrame:
    """Rows of shuffled codes, which every run measures, relabelled as raw codes."""
    rows = _trained()
    return rows[rows.codes != "raw"].replace({"codes": {"shuffled": "raw"}})


def _smallest() -> pd.DataFrame:
    return measure(run, [SETTINGS], range(3), VARIES, order=lambda contributions: contributions.argsort(descending=True))


CONTROLS = (
    Control(
        id="untrained",
        claims=("relation-holds-many-layers", "relation-holds-few-layers", "outputs-from-contributions"),
        statement="The dictionary is trained for one epoch only.",
        rows=lambda corrupt: _untrained() if corrupt else _trained(few_atoms=True),
    ),
    Control(
        id="backwards",
        claims=("relation-approached",),
        statement="The order of epochs is reversed.",
        rows=lambda corrupt: _backwards() if corrupt else _trained(few_atoms=True),
    ),
    Control(
        id="trained-before",
        claims=("relation-needs-convergence",),
        statement="Training starts from a trained dictionary.",
        rows=lambda corrupt: _trained_before() if corrupt else _trained(few_atoms=True),
    ),
    Control(
        id="shuffled-codes",
        claims=("contributors-share-the-class",),
        statement="Each atom's codes are shuffled across the training images.",
        rows=lambda corrupt: _shuffled() if corrupt else _trained(),
    ),
    Control(
        id="smallest-contributors",
        claims=("top-contributors-matter",),
        statement="The images that contribute least replace those that contribute most.",
        rows=lambda corrupt: _smallest() if corrupt else _trained(),
    ),
)
