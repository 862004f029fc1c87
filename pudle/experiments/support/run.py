"""Measure after each layer how many samples have the true signed support or lost it again, and whether the sufficient condition holds."""

from collections.abc import Mapping, Sequence

import numpy as np
import scipy
import torch
from torch import Tensor

from pudle.core import theory
from pudle.core.initialization import perturb_dictionary, unit_norm
from pudle.core.random import stream
from pudle.core.unrolling import Unrolling, iterate
from pudle.data.synthetic import make_sparse_data
from pudle.harness.record import Record


def run(settings: Mapping, seeds: Sequence[int], record: Record, hidden: int = 1) -> None:
    """Run one cell.

    hidden : codes have this many times the non-zeros that the condition assumes; only negative controls override it
    """
    for seed in seeds:
        with record.seed(seed):
            for sparsity in settings["sparsity"]:
                x_of, codes = _codes(settings, sparsity * hidden, seed)
                for noise in settings["init_noise"]:
                    _measure(settings, sparsity, noise, x_of, codes, seed, record)


def _codes(settings: Mapping, sparsity: int, seed: int) -> tuple[Tensor, Tensor]:
    """The true dictionary (m, 2 m) and codes (n, 2 m), in float64."""
    m = settings["n_features"]
    data = make_sparse_data(
        settings["n_samples"], m, 2 * m, sparsity, low=settings["low"], high=settings["high"], signs="independent", seed=seed,
        dtype=torch.float64,
    )  # fmt: skip
    if settings["dictionaries"] == "gaussian":
        return data.dictionary, data.codes
    turn = np.linalg.qr(stream(seed, "rotation").standard_normal((m, m)))[0]
    bases = np.hstack([np.eye(m), scipy.linalg.hadamard(m) / np.sqrt(m)])
    return unit_norm(torch.as_tensor(turn @ bases)), data.codes


def _measure(settings, sparsity: int, noise: float, true: Tensor, codes: Tensor, seed: int, record: Record) -> None:
    x, dictionary = codes @ true.T, perturb_dictionary(true, noise, seed)
    at = {"sparsity": sparsity, "init_noise": noise}
    low, high = theory.support_condition(dictionary, true, sparsity, settings["low"], settings["high"])
    distance = theory.closeness(dictionary, true).delta
    record.add(0, {"low": low, "high": high, "delta": distance, "coherence": theory.coherence(dictionary)}, **at)
    for lam in settings["lams"]:
        unrolling = Unrolling(lam=lam, step=settings["step"], n_layers=1)
        z, once, lost = torch.zeros_like(codes), torch.zeros(len(x), dtype=torch.bool), torch.zeros(len(x), dtype=torch.bool)
        signs, off = codes.sign(), codes == 0
        for layer in range(1, settings["n_layers"] + 1):
            z = iterate(unrolling, z, lambda z: (z @ dictionary.T - x) @ dictionary)
            found = z.sign() == signs
            right = found.all(1)
            lost |= once & ~right
            once |= right
            if layer in (1, 2, 5, 10, 20, 50, 100, 200, settings["n_layers"]):
                contains = (found | off).all(1)
                shares = {"equal": right, "contains": contains, "misses": ~contains, "lost": lost}
                record.add(layer, {name: share.double().mean() for name, share in shares.items()}, lam=lam, **at)
        record.add(0, {"condition": low <= lam < high}, lam=lam, **at)
