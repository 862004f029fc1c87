"""The magnitude of data, by which computations can be made independent of the data's units, and checks of numeric arguments."""

import math

import torch
from torch import Tensor

from pudle.errors import PudleError


def power_of_two(x: Tensor) -> float:
    """The largest power of two that is at most the root mean square of ``x``; 1 if ``x`` is 0. Division by it is exact."""
    largest = float(x.abs().max())
    if not largest:
        return 1.0
    return power_below(largest * float((x.double() / largest).square().mean().sqrt()))


def power_below(size: float) -> float:
    """The largest power of two that is at most ``size`` > 0; 1 if ``size`` is 0."""
    return math.ldexp(1.0, math.frexp(size)[1] - 1) if size else 1.0


def widened(x: Tensor) -> Tensor:
    """``x`` in float32 if its type has 16 bits, since factorisations have no such types; otherwise ``x`` itself."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def number(name: str, value: object, *, least: float = 0, above: bool = False, integer: bool = False) -> float | int:
    """``value`` as a finite number that is at least ``least``, or with ``above`` greater than ``least``; ``integer`` requires an integer.

    Raises :class:`PudleError`, which gives the ``name``, for all other values.
    """
    if getattr(value, "requires_grad", False):
        raise PudleError(f"{name} requires a gradient, but derivatives with respect to it are not computed: pass {name}.item()")
    convert = getattr(value, "__index__" if integer else "__float__", None)
    try:
        found = convert() if convert else None
    except (TypeError, ValueError, RuntimeError):  # raised by arrays and by tensors with several elements
        found = None
    if found is None:
        raise PudleError(f"{name} must be {'an integer' if integer else 'a number'}, not {value!r}")
    if not least <= found < math.inf or (above and found == least):
        limit = f"{'above' if above else 'at least'} {least}{'' if integer else ' and finite'}"
        raise PudleError(f"{name} must be {limit}, not {found}")
    return found
