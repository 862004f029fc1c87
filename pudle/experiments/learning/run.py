"""Learn a dictionary from a start near the truth with one gradient and full-batch Adam. Atoms keep norm 1."""

from collections.abc import Callable, Mapping, Sequence

import torch

from pudle.core.gradients import unrolled_gradient
from pudle.core.initialization import perturb_dictionary
from pudle.core.metrics import dictionary_error
from pudle.core.optimization import ConstrainedDescent
from pudle.core.unrolling import Unrolling
from pudle.data.synthetic import make_sparse_data
from pudle.harness.record import Record


def run(settings: Mapping, seeds: Sequence[int], record: Record, gradient: Callable = unrolled_gradient) -> None:
    """Run one cell. Only negative controls override ``gradient``."""
    for seed in seeds:
        with record.seed(seed):
            _learn(settings, seed, record, gradient)


def _learn(settings: Mapping, seed: int, record: Record, of: Callable) -> None:
    """Learn, and record the loss and errors after k updates at step k = 0, 1, …"""
    sizes = (settings[key] for key in ("n_samples", "n_features", "n_atoms", "sparsity"))
    x, true_codes, true_dictionary = make_sparse_data(*sizes, signs=settings["signs"], seed=seed)
    unrolling = Unrolling(lam=settings["lam"], step=settings["step"], n_layers=settings["n_layers"])
    dictionary = perturb_dictionary(true_dictionary, settings["init_noise"], seed)
    adam = torch.optim.Adam([dictionary], lr=settings["learning_rate"], eps=settings["adam_eps"])
    descent = ConstrainedDescent(adam)
    for step in range(settings["updates"] + 1):
        gradient, codes, loss = of(x, dictionary, settings["estimator"], unrolling)
        record.add(
            step,
            {
                "loss": loss,
                "code_error_true": torch.linalg.vector_norm(codes - true_codes, dim=1).mean(),
                "dictionary_error": dictionary_error(dictionary, true_dictionary),
                "dictionary_error_aligned": dictionary_error(dictionary, true_dictionary, align=True),
            },
        )
        descent.update(gradient)
