"""Gradients of the wrong sign and the right ones under other names, on few and small crops."""

from collections.abc import Callable

import pandas as pd

from pudle.experiments.denoising.grid import VARIES
from pudle.experiments.denoising.run import run
from pudle.experiments.spoil import wrong_sign
from pudle.harness.controls import Control, measure
from pudle.networks import network_gradient

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
    "evaluate_every": 25,
    "learning_rate": 0.003,
    "adam_eps": 0.001,
}
TWO = ({"estimator": "dec"}, {"estimator": "ae-ls"})
