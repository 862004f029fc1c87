"""Measure, for t = 1 … T at a fixed dictionary, distances of codes from the lasso's and the true codes, and of gradients from ĝ and g*."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from pudle.core.gradients import decoder_gradient, unrolled_gradient
from pudle.core.initialization import perturb_dictionary
from pudle.core.lasso import lasso
from pudle.core.unrolling import Unrolling
from pudle.data.synthetic import make_sparse_data
from pudle.harness.record import Record


def run(settings: Mapping, seeds: Sequence[int], record: Record, gradient: Callable = unrolled_gradient) -> None:
    """Run one cell. Only negative controls override ``gradient``."""
    for seed in seeds:
        with record.seed(seed):
            _measure(settings, seed, record, gradient)


def _measure(settings: Mapping, seed: int, record: Record, of: Callable) -> None:
    x, true_codes, true_dictionary = make_sparse_data(
        settings["n_samples"],
        settings["n_features"],
        settings["n_atoms"],
        settings["sparsity"],
        signs=settings["signs"],
        seed=seed,
        dtype=getattr(torch, settings["dtype"]),
    )
    dictionary = perturb_dictionary(true_dictionary, settings["init_noise"], seed)
    lasso_codes = lasso(x, dictionary, settings["lam"], tol=1e-9)
    local = decoder_gradient(x, dictionary, lasso_codes)
    true = decoder_gradient(x, dictionary, true_codes)
    for n_layers in range(1, settings["n_layers"] + 1):
        unrolling = Unrolling(lam=settings["lam"], step=settings["step"], n_layers=n_layers)
        for estimator in settings["estimators"]:
            gradient, codes, _ = of(x, dictionary, estimator, unrolling)
            distances = {"gradient_error_local": (gradient - local).norm(), "gradient_error_true": (gradient - true).norm()}
            record.add(n_layers, distances, estimator=estimator)
        record.add(
            n_layers, {"code_error_lasso": _distance(codes, lasso_codes), "code_error_true": _distance(codes, true_codes)}
        )
    for name, found in (("true", true_codes), ("unrolled", codes), ("lasso", lasso_codes)):
        record.array(f"code/{name}", found[0])  # of one sample, for a figure


def _distance(codes: Tensor, reference: Tensor) -> Tensor:
    return torch.linalg.vector_norm(codes - reference, dim=1).mean()
