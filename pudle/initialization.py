"""Where dictionary learning starts."""

import torch
from torch import Tensor

from pudle.data.streams import stream
from pudle.data.synthetic import unit_norm


def perturb_dictionary(dictionary: Tensor, init_noise: float, seed: int) -> Tensor:
    """A start near the truth: normalise(D* + ``init_noise`` N(0, 1) on every entry), (m, p). Source: PUDLE, Section 5."""
    noise = torch.from_numpy(stream(seed, "initial dictionary").standard_normal(dictionary.shape))
    return unit_norm(dictionary.double() + init_noise * noise.to(dictionary.device)).to(dictionary.dtype)


def random_filters(n_filters: int, kernel: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Gaussian filters of unit norm, (p, 1, k, k)."""
    filters = torch.from_numpy(stream(seed, "initial dictionary").standard_normal((n_filters, 1, kernel, kernel)))
    return (filters / torch.linalg.vector_norm(filters, dim=(1, 2, 3), keepdim=True)).to(dtype)
