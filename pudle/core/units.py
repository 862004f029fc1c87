"""The size of data: what is computed in units of it is the same whatever units the data are in. And numbers that are arguments, checked."""

import math

from torch import Tensor

from pudle.errors import PudleError


def power_of_two(x: Tensor) -> float:
    """The largest power of two that is at most the root mean square of ``x``: dividing by it changes no digit. 1 where all are 0."""
    largest = float(x.abs().max())
    if not largest:
        return 1.0
    size = largest * float((x.double() / largest).square().mean().sqrt())
    return math.ldexp(1.0, math.frexp(size)[1] - 1)


def number(name: str, value: object, *, least: float = 0, above: bool = False, whole: bool = False) -> float | int:
    """``value`` as a finite number of at least ``least``, or above it; ``whole``: an integer. Else a :class:`PudleError` that names it."""
    if getattr(value, "requires_grad", False):
        raise PudleError(f"{name} requires a gradient, and there is none to it: pass {name}.item()")
    convert = getattr(value, "__index__" if whole else "__float__", None)
    try:
        found = convert() if convert else None
    except (TypeError, ValueError, RuntimeError):  # of an array, or of a tensor of several
        found = None
    if found is None:
        raise PudleError(f"{name} must be {'an integer' if whole else 'a number'}, not {value!r}")
    if not least <= found < math.inf or (above and found == least):
        limit = f"{'above' if above else 'at least'} {least}{'' if whole else ' and finite'}"
        raise PudleError(f"{name} must be {limit}, not {found}")
    return found
