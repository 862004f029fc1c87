"""Negative control: samples with more non-zeros than the condition assumes."""

from pudle.analysis.negative_controls import Control, measure
from pudle.experiments.support.grid import VARIES, plan
from pudle.experiments.support.run import run

SETTINGS = {
    "n_samples": 100,
    "n_features": 64,
    "dictionaries": ["two-bases"],
    "sparsity": [1, 2],
    "init_noise": [0.0],
    "lams": [0.3, 0.6],
    "step": 0.2,
    "n_layers": 20,
    "low": 1.0,
    "high": 2.0,
}

CONTROLS = (
    Control(
        id="hidden-non-zeros",
        claims=("condition-implies-recovery", "condition-implies-preservation"),
        statement="Samples have eight times the non-zeros that the condition assumes.",
        rows=lambda corrupt: measure(run, plan(SETTINGS), range(3), VARIES, hidden=8 if corrupt else 1),
    ),
)
