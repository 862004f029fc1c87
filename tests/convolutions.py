"""Small convolutional problems, for the tests of convolutions and of networks."""

from itertools import product

import torch
from hypothesis import strategies as st

from pudle.core.gradients import ESTIMATORS
from pudle.core.networks import Network
from pudle.core.unrolling import Unrolling

LEVELS = [{"lam": 0.1}, {"lam": 0.1, "decay": 0.9}, {"threshold": 0.15}]


UNROLLINGS = [
    Unrolling(**level, nonnegative=nonnegative, step=0.2, n_layers=4) for level, nonnegative in product(LEVELS, (False, True))
]


CASES = [
    (name, unrolling) for name, unrolling in product(ESTIMATORS, UNROLLINGS) if not (name == "ae-lasso" and unrolling.hard)
]


def make(n=2, p=5, kernel=5, stride=2, rows=4, columns=3, seed=0, dtype=torch.float64):
    """Random images with codes of ``rows`` x ``columns``, and filters of unit norm."""
    generator = torch.Generator().manual_seed(seed)
    height, width = ((size - 1) * stride + kernel for size in (rows, columns))
    images = torch.randn(n, 1, height, width, generator=generator, dtype=torch.float64)
    filters = torch.randn(p, 1, kernel, kernel, generator=generator, dtype=torch.float64)
    filters /= filters.flatten(1).norm(dim=1)[:, None, None, None]
    return images.to(dtype), filters.to(dtype)


def free_network(filters, names=("analysis", "decoder", "thresholds"), seed=1):
    """A network around ``filters`` in which the arrays ``names`` are there, and differ from what they would be tied to."""
    generator = torch.Generator().manual_seed(seed)
    like = {
        name: filters + 0.2 * torch.randn(filters.shape, generator=generator, dtype=torch.float64) for name in Network._fields
    }
    like["thresholds"] = 0.01 + 0.03 * torch.rand(len(filters), generator=generator, dtype=torch.float64)
    return Network(filters, **{name: like[name].to(filters.dtype) for name in names})


def matrix(filters, stride, rows, columns):
    """D as a dense matrix (h w, p h' w'), placed entry by entry."""
    p, _, kernel, _ = filters.shape
    D = filters.new_zeros((rows - 1) * stride + kernel, (columns - 1) * stride + kernel, p, rows, columns)
    for i, j in product(range(rows), range(columns)):
        D[i * stride : i * stride + kernel, j * stride : j * stride + kernel, :, i, j] = filters[:, 0].permute(1, 2, 0)
    return D.reshape(-1, p * rows * columns)


def relative(a, b):
    return float((a - b).norm() / b.norm())


SHAPES = {
    "n": st.integers(1, 3),
    "p": st.integers(1, 4),
    "kernel": st.integers(1, 6),
    "stride": st.integers(1, 5),
    "rows": st.integers(1, 4),
    "columns": st.integers(1, 4),
}
