"""The size of data: what is computed in units of it is the same whatever units the data are in."""

import math

from torch import Tensor


def power_of_two(x: Tensor) -> float:
    """The largest power of two that is at most the root mean square of ``x``: dividing by it changes no digit. 1 where all are 0."""
    largest = float(x.abs().max())
    if not largest:
        return 1.0
    size = largest * float((x.double() / largest).square().mean().sqrt())
    return math.ldexp(1.0, math.frexp(size)[1] - 1)
