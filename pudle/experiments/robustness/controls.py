"""Negative controls: gradients with the wrong sign in every variant."""

from pudle import methods
from pudle.analysis.negative_controls import Control, measure
from pudle.experiments.robustness.claims import CLAIMS
from pudle.experiments.robustness.grid import VARIES, plan
from pudle.experiments.robustness.run import run

DESCENT = {"learning_rate": 0.01, "adam_eps": 1e-8, "n_layers": 30}
SETTINGS = {
    "n_samples": 1600,
    "n_features": 20,
    "n_atoms": 20,
    "sparsity": 2,
    "signs": "shared",
    "amplitudes": "uniform",
    "noise": 0,
    "init_noise": 0.05,
    "batch": 32,
    "epochs": 1,
    "evaluate_every": 100,
    "variants": {
        # Batches are large, since ae-ls ends above the others if the noise of small batches does not average out.
        "noise-T100": {"noise": 0.12, "batch": 128, "n_samples": 7680, "method_settings": {"n_layers": 50}},
        "noise-T25": {"noise": 0.12, "batch": 128, "n_samples": 7680},
        "batch-4": {"batch": 4, "n_samples": 320},
        "batch-16": {"batch": 16, "n_samples": 800},
        "batch-64": {"batch": 64, "n_samples": 3200},
        "rate-1e-4": {"init_noise": 0.005, "method_settings": {"learning_rate": 1e-4}},
        "rate-1e-2": {"method_settings": {"learning_rate": 0.01}},
        "subgaussian-T100": {"amplitudes": "subgaussian", "method_settings": {"lam": 0.5}},
        "subgaussian-T25": {"amplitudes": "subgaussian", "method_settings": {"lam": 0.5, "n_layers": 25}},
        "independent-signs": {"signs": "independent"},
    },
    "methods": {name: DESCENT for name in ("pudle-dec", "pudle-ae-lasso", "pudle-ae-ls")},
}


def _wrong_sign(name: str, *arguments):
    """The method with the opposite sign of its gradient; dec is unchanged."""
    method = methods.create(name, *arguments)
    if name != "pudle-dec":
        right = method.gradient
        method.gradient = lambda batch: -right(batch)
    return method


CONTROLS = (
    Control(
        id="wrong-sign",
        claims=tuple(claim.id for claim in CLAIMS),
        statement="ae-lasso and ae-ls have the wrong sign.",
        rows=lambda corrupt: measure(run, plan(SETTINGS), range(3), VARIES, create=_wrong_sign if corrupt else methods.create),
    ),
)
