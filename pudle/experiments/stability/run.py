"""Measure norm and direction of each gradient over depth and step size, and the change of the error in short trainings.

Values that are not finite are replaced: norms are at most ``CAP``, the cosine of a gradient that is not finite is 0, and the error after a
training that is not finite is ``FAR`` times the error before. ``FAR`` is also the largest ratio that is recorded.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from pudle.core import theory
from pudle.core.gradients import decoder_gradient, unrolled_gradient
from pudle.core.initialization import perturb_dictionary
from pudle.core.metrics import dictionary_error
from pudle.core.optimization import ConstrainedDescent
from pudle.core.unrolling import Unrolling
from pudle.data.synthetic import SparseData, make_sparse_data
from pudle.harness.record import Record

CAP = 1e30
FAR = 2.0


def run(settings: Mapping, seeds: Sequence[int], record: Record, gradient: Callable = unrolled_gradient) -> None:
    """Run one cell. Only negative controls override ``gradient``."""
    for seed in seeds:
        with record.seed(seed):
            sizes = (settings[key] for key in ("n_samples", "n_features", "n_atoms", "sparsity"))
            data = make_sparse_data(*sizes, signs=settings["signs"], seed=seed, dtype=torch.float64)
            start = perturb_dictionary(data.dictionary, settings["init_noise"], seed)
            for share in settings["steps"]:
                step = share * theory.largest_step(start)
                for n_layers in settings["n_layers"]:
                    _measure(settings, data, start, _unrolling(settings, step, n_layers), {"share": share}, record, gradient)
                for estimator in _estimators(settings):
                    unrolling = _unrolling(settings, step, settings["learning_layers"])
                    moved = _train(settings, data, start, unrolling, estimator, gradient)
                    record.add(settings["learning_layers"], {"error_after_training": moved}, share=share, gradient=estimator)


def _unrolling(settings: Mapping, step: float, n_layers: int) -> Unrolling:
    level = {"lam": settings["lam"]} if settings["thresholding"] == "soft" else {"threshold": step * settings["lam"]}
    return Unrolling(step=step, n_layers=n_layers, acceleration=settings["accelerations"], **level)


def _estimators(settings: Mapping) -> list[str]:
    return ["dec", "ae-lasso", "ae-ls"] if settings["thresholding"] == "soft" else ["dec", "ae-ls"]


def _measure(
    settings, data: SparseData, dictionary: Tensor, unrolling: Unrolling, at: dict, record: Record, of: Callable
) -> None:
    true = decoder_gradient(data.x, dictionary, data.codes)
    wanted = [(name, None) for name in _estimators(settings)]
    wanted += [("ae-ls", depth) for depth in settings["truncations"] if depth < unrolling.n_layers]
    for estimator, depth in wanted:
        found = of(data.x, dictionary, estimator, unrolling, backward_layers=depth).gradient
        finite = bool(torch.isfinite(found).all())
        size = min(float(found.norm() / true.norm()), CAP) if finite else CAP
        cosine = float((found * true).sum() / found.norm() / true.norm()) if finite and 0 < size < CAP else 0.0
        name = f"{estimator}, last {depth}" if depth else estimator
        record.add(unrolling.n_layers, {"norm": max(size, 1 / CAP), "cosine": cosine}, gradient=name, **at)


def _train(settings, data: SparseData, start: Tensor, unrolling: Unrolling, estimator: str, of: Callable) -> float:
    """The error of the dictionary after training divided by that before, at most ``FAR``."""
    dictionary = start.clone()
    before = dictionary_error(start, data.dictionary)
    descent = ConstrainedDescent(torch.optim.Adam([dictionary], lr=settings["learning_rate"]))
    for _ in range(settings["updates"]):
        found = of(data.x, dictionary, estimator, unrolling).gradient
        if not torch.isfinite(found).all() or found.norm() > CAP:
            return FAR
        descent.update(found)
    return min(FAR, float(dictionary_error(dictionary, data.dictionary) / before))
