"""Negative controls: λ decays at once, no code exceeds the hard threshold, fixed λ is replaced by a hard threshold, and nothing is learned."""

import pandas as pd

from pudle.analysis.negative_controls import Control, measure
from pudle.experiments.baselines.grid import VARIES, plan
from pudle.experiments.baselines.run import run
from pudle.experiments.baselines.settings import Settings

# All claims hold at these sizes: few atoms relative to features, a large λ, and a low learning rate for NOODL.
SETTINGS = {
    "n_features": 64,
    "n_atoms": 30,
    "sparsity": [2],
    "signs": "shared",
    "init_noise": 0.015,
    "batch": 50,
    "epochs": 1,
    "evaluate_every": 10,
}
_DESCENT = {"learning_rate": 0.006, "n_layers": 50}
METHODS = {
    "pudle-ae-ls": _DESCENT | {"lam": 0.4},
    "pudle-ae-ls-ht": _DESCENT,
    "pudle-ae-ls-decay": _DESCENT | {"lam": 0.4, "decay_every": 10},
    "noodl": {"learning_rate": 0.3, "n_layers": 50},
    "noodl-as-published": {"n_layers": 50},
}


def _rows(n_batches: int, methods: dict, **changes) -> pd.DataFrame:
    sizes = SETTINGS | {"n_samples": n_batches * SETTINGS["batch"]}
    return measure(run, plan(Settings.defaults() | sizes | changes | {"methods": methods}), range(3), VARIES)


def _decayed_at_once(corrupt: bool) -> pd.DataFrame:
    chosen = {name: METHODS[name] for name in ("pudle-ae-ls", "pudle-ae-ls-decay")}
    corrupted = {"pudle-ae-ls-decay": METHODS["pudle-ae-ls-decay"] | {"decay_every": 1, "decay_drop": 0.5}} if corrupt else {}
    return _rows(160, chosen | corrupted)


def _without_codes(corrupt: bool) -> pd.DataFrame:
    corrupted = {"pudle-ae-ls-ht": METHODS["pudle-ae-ls-ht"] | {"threshold": 100.0}} if corrupt else {}
    return _rows(40, METHODS | corrupted)


def _unbiased(corrupt: bool) -> pd.DataFrame:
    corrupted = METHODS["pudle-ae-ls-ht"] | {"method": "pudle-ae-ls-ht"}
    return _rows(80, {"pudle-ae-ls": corrupted if corrupt else METHODS["pudle-ae-ls"]})


def _tiny_rate(corrupt: bool) -> pd.DataFrame:
    return _rows(80, {"pudle-ae-ls": METHODS["pudle-ae-ls"] | ({"learning_rate": 1e-9} if corrupt else {})})


CONTROLS = (
    Control(
        id="decay-at-once-in-updates",
        claims=("pudle-ae-ls-decay-removes-bias",),
        statement="ν falls to its smallest value within two updates, so that the codes approach those of least squares.",
        rows=_decayed_at_once,
    ),
    Control(
        id="threshold-too-high",
        claims=("pudle-ae-ls-ht-removes-bias", "ht-beats-decay", "noodl-as-published-slower-than-ht", "noodl-slower-than-ht"),
        statement="The hard threshold is so high that all codes are zero.",
        rows=_without_codes,
    ),
    Control(
        id="no-bias-to-level-off-at",
        claims=("fixed-lambda-levels-off",),
        statement="The method with the hard threshold runs under the name of that with fixed λ.",
        rows=_unbiased,
    ),
    Control(
        id="no-learning",
        claims=("fixed-lambda-levels-off",),
        statement="The learning rate is almost zero, so that the error does not decrease.",
        rows=_tiny_rate,
    ),
)
