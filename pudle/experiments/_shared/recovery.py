"""The run of `baselines` and `robustness`: a method learns a dictionary from batches of synthetic data and a start near the truth.

Data, start and batches come from random streams that depend on the seed only, so that all methods are compared on the same draws. The method
has no access to the true dictionary. Only its updates are timed.
"""

import time
from collections.abc import Callable, Mapping

import numpy as np
import torch

from pudle import methods
from pudle.core.initialization import perturb_dictionary
from pudle.core.metrics import dictionary_error
from pudle.core.random import stream
from pudle.data.synthetic import make_sparse_data
from pudle.errors import PudleError
from pudle.harness.record import Record

PROBLEM = ("n_samples", "n_features", "n_atoms", "sparsity")
DRAWS = ("amplitudes", "low", "high", "mean", "std", "signs", "noise")


def learn(settings: Mapping, seed: int, record: Record, create: Callable = methods.create) -> None:
    """Run ``settings["method"]`` with ``settings["method_settings"]``. Rows of step k hold the errors after k updates.

    A method that raises an error, takes longer than ``settings["time_limit"]`` seconds or returns values that are not finite ends the seed
    as failed, stalled or diverged. ``create`` makes the method; only negative controls override it.
    """
    draws = {key: settings[key] for key in DRAWS if key in settings}
    x, _, true_dictionary = make_sparse_data(*(settings[key] for key in PROBLEM), **draws, seed=seed)
    start = perturb_dictionary(true_dictionary, settings["init_noise"], seed)
    with record.seed(seed, limit=settings.get("time_limit"), guard=True):
        method = create(settings["method"], start.clone(), settings["method_settings"], stream(seed, "method"))
        seconds, update = 0.0, 0
        _score(method, true_dictionary, update, record)
        batches = _batches(len(x), settings["batch"], settings["epochs"], seed)
        for update, batch in enumerate(batches, start=1):
            samples = x[torch.as_tensor(batch)]
            clock = _now(samples)
            method.update(samples)
            seconds += _now(samples) - clock
            if update % settings["evaluate_every"] == 0 or update == len(batches):
                _score(method, true_dictionary, update, record)
                record.time(update, seconds)
        if getattr(method, "idle", False):
            raise PudleError(
                f"method {settings['method']!r} never learned: {update} batches of {len(samples)} are too few samples"
            )


def _now(samples: torch.Tensor) -> float:
    """Seconds on a clock, read after the GPU, if it holds ``samples``, has finished its work."""
    if samples.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter()


def _score(method: methods.Method, true_dictionary: torch.Tensor, update: int, record: Record) -> None:
    learned = torch.as_tensor(method.dictionary).detach()
    record.check(update, **{"the sum of the dictionary": float(learned.sum())})  # the assignment of atoms fails on NaN
    record.add(
        update,
        {
            "dictionary_error": dictionary_error(learned, true_dictionary),
            "dictionary_error_aligned": dictionary_error(learned, true_dictionary, align=True),
        },
    )


def _batches(n_samples: int, size: int | str, epochs: int, seed: int) -> list[np.ndarray]:
    """Indices of the samples of every batch. Each epoch has a new random order and omits an incomplete last batch.

    With the size "full" every batch holds all samples in their original order.
    """
    if size == "full":
        return [np.arange(n_samples)] * epochs
    draw = stream(seed, "batches")
    orders = [draw.permutation(n_samples) for _ in range(epochs)]
    return [order[i : i + size] for order in orders for i in range(0, n_samples - size + 1, size)]
