"""Synthetic sparse data x = D* z* + noise with a known dictionary and known codes."""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pudle.core.initialization import unit_norm
from pudle.core.random import stream
from pudle.core.units import number
from pudle.errors import PudleError, one_of

AMPLITUDES = ("uniform", "subgaussian")
SIGNS = ("shared", "independent")


class SparseData(NamedTuple):
    """Samples x (n, m), their true codes z* (n, p), and the true dictionary D* (m, p) with atoms of norm 1."""

    x: Tensor
    codes: Tensor
    dictionary: Tensor


def make_sparse_data(
    n_samples: int,
    n_features: int,
    n_atoms: int,
    sparsity: int,
    *,
    amplitudes: str = "uniform",
    low: float = 1.0,
    high: float = 2.0,
    mean: float = 5.0,
    std: float = 1.0,
    signs: str = "shared",
    noise: float = 0.0,
    seed: int,
    dtype: torch.dtype = torch.float32,
) -> SparseData:
    """Draw a dictionary with independent Gaussian atoms of norm 1, codes with ``sparsity`` non-zeros each, and x = D* z* + noise.

    amplitudes : "uniform" on [``low``, ``high``], or "subgaussian", which is Gaussian with ``mean`` and ``std``
    signs : "shared" gives all non-zeros of a sample one random sign, as in the published code, so that E[z_i z_j] ≠ 0;
        "independent" gives each non-zero its own random sign, as the theory assumes
    noise : standard deviation of Gaussian noise on every entry of x

    Dictionary, supports, amplitudes, signs and noise come from separate streams of ``seed``. They are computed in float64 on the CPU, so that
    they are the same on every device, and then moved to torch's default device. Raises :class:`PudleError` if there are no samples, if the
    sparsity exceeds the number of atoms, or if a name is unknown. Source: PUDLE, Section 5 and Appendix.
    """
    one_of(amplitudes, AMPLITUDES, "amplitudes")
    one_of(signs, SIGNS, "signs")
    n_samples, n_features, n_atoms, sparsity = (
        number(name, value, least=1, integer=True)
        for name, value in (("n_samples", n_samples), ("n_features", n_features), ("n_atoms", n_atoms), ("sparsity", sparsity))
    )
    std, noise, low = number("std", std), number("noise", noise), number("low", low, least=-math.inf)
    high, mean = number("high", high, least=low), number("mean", mean, least=-math.inf)
    if sparsity > n_atoms:
        raise PudleError(f"sparsity={sparsity} non-zeros do not fit into codes of n_atoms={n_atoms}")
    dictionary = unit_norm(torch.from_numpy(stream(seed, "dictionary").standard_normal((n_features, n_atoms))))
    supports = _supports(stream(seed, "supports"), n_samples, n_atoms, sparsity)
    draw = stream(seed, "amplitudes")
    shape = (n_samples, sparsity)
    values = draw.uniform(low, high, shape) if amplitudes == "uniform" else draw.normal(mean, std, shape)
    values *= stream(seed, "signs").choice([-1.0, 1.0], (n_samples, 1) if signs == "shared" else shape)
    entries = torch.from_numpy(supports), torch.from_numpy(values)
    # D* z*, from s atoms per sample
    x = F.embedding_bag(entries[0], dictionary.T.contiguous(), per_sample_weights=entries[1], mode="sum")
    codes = torch.zeros(n_samples, n_atoms, dtype=dtype, device="cpu").scatter_(1, entries[0], entries[1].to(dtype))
    if noise:
        x += noise * torch.from_numpy(stream(seed, "noise").standard_normal(x.shape))
    return SparseData(*(tensor.to(torch.get_default_device(), dtype) for tensor in (x, codes, dictionary)))


def _supports(draw: np.random.Generator, n_samples: int, n_atoms: int, sparsity: int, block: int = 10_000) -> np.ndarray:
    """Uniformly random supports (n_samples, sparsity), drawn in blocks so that no (n_samples, n_atoms) array is needed."""
    sizes = [min(block, n_samples - start) for start in range(0, n_samples, block)]
    return np.concatenate([np.argpartition(draw.random((size, n_atoms)), sparsity - 1)[:, :sparsity] for size in sizes])
