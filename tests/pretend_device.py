"""A device that every machine has: tensors whose numbers are on the CPU, but which behave as if they were on another device.

Inside ``with pretended():`` torch's default device is "meta", and a tensor there holds its numbers in one on the CPU, where torch works. As
with a GPU, it has no numpy array, and whatever combines it with a tensor on the CPU is an error, unless CUDA allows it.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("meta")
aten = torch.ops.aten
COPYING = {aten.copy_.default, aten._to_copy.default}
INDEXING = {aten.index.Tensor, aten.index_put_.default}  # by indices on either device
PRODUCTS = {aten.mm.default, aten.addmm.default, aten.bmm.default, aten.convolution.default, aten.convolution_backward.default}


class Elsewhere(torch.Tensor):
    """A tensor on the device; ``numbers`` is the one on the CPU."""

    @staticmethod
    def __new__(cls, numbers: torch.Tensor):
        layout = {"strides": numbers.stride(), "storage_offset": numbers.storage_offset(), "dtype": numbers.dtype}
        made = torch.Tensor._make_wrapper_subclass(cls, numbers.size(), **layout, device=DEVICE)
        made.numbers = numbers
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function, types, arguments=(), options=None):
        raise AssertionError("outside of pretended()")


class _Operations(TorchDispatchMode):
    """Runs every operation on the numbers, and puts its results where they belong; counts products on the device and on the CPU."""

    def __init__(self, products: Counter):
        super().__init__()
        self.products = products

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        options = options or {}
        there = {id(leaf.numbers): leaf for leaf in _tensors(arguments, options) if isinstance(leaf, Elsewhere)}
        operands = _tensors(arguments[:1], arguments[2:]) if function in INDEXING else _tensors(arguments, options)
        if there and function not in COPYING and any(leaf.ndim and not isinstance(leaf, Elsewhere) for leaf in operands):
            raise RuntimeError(f"{function}: expected all tensors to be on the same device")
        asked = options.get("device")
        on_device = asked == DEVICE or (asked is None and bool(there))
        if function in PRODUCTS:
            self.products["device" if on_device else "cpu"] += 1
        options = options | ({"device": torch.device("cpu")} if asked == DEVICE else {})
        results = function(*tree_map(_numbers, arguments), **tree_map(_numbers, options))
        return tree_map(lambda result: _placed(result, there), results) if on_device else results


class _Functions(TorchFunctionMode):
    """What is no operation: tensors made of Python's numbers and lists and of numpy's arrays, and the other way."""

    def __torch_function__(self, function, types, arguments=(), options=None):
        options = options or {}
        if function is torch.Tensor.tolist or (function is torch.Tensor.numpy and options.get("force")):
            return function(*map(_numbers, arguments), **options)
        if function is torch.Tensor.__getitem__ and isinstance(arguments[1], list | np.ndarray):
            arguments = arguments[0], torch.from_numpy(np.asarray(arguments[1]))
        if function is torch.Tensor.new_tensor and isinstance(arguments[0], Elsewhere):
            return function(*map(_numbers, arguments), **options).to(DEVICE)
        if function in (torch.tensor, torch.as_tensor) and options.get("device") in (None, DEVICE):
            return function(*map(_numbers, arguments), **options | {"device": "cpu"}).to(DEVICE)
        return function(*arguments, **options)


def _tensors(*values) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]


def _numbers(value):
    return value.numbers if isinstance(value, Elsewhere) else value


def _placed(result, there):
    """``result`` on the device: the argument that it is the numbers of, if that was worked on in place."""
    if not isinstance(result, torch.Tensor):
        return result
    return there[id(result)] if id(result) in there else Elsewhere(result)


@contextmanager
def pretended() -> Iterator[Counter]:
    """Yields how many products of matrices and convolutions ran on the "device" and on the "cpu"."""
    products = Counter()
    with DEVICE, _Functions(), _Operations(products):
        yield products
