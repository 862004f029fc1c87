"""Repeated computations on a GPU, recorded as CUDA graphs.

An unrolled network starts hundreds of short kernels, and Python takes longer to start them than the GPU takes to run them. :func:`replayed`
records the kernels of a call, and later calls start all of them at once. The results have the same bits.
"""

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

import torch
from torch import Tensor

MAX_CODES = 4_000_000  # codes in a layer; the kernels of larger layers run for longer than it takes to start them
WARM_UP_CALLS = 2  # calls that are not recorded: libraries allocate memory in them, and few computations are repeated
MAX_RECORDINGS = 6  # computations that are remembered; each recording holds the memory of all its arrays

# for each computation, the number of its calls or its recording
_recordings: "OrderedDict[tuple, int | _Recording]" = OrderedDict()
_lock = Lock()


def replayed(function: Callable[..., tuple[Tensor, ...]], *tensors: Tensor | None, **settings) -> tuple[Tensor, ...]:
    """``function(*tensors, **settings)``, which computes tensors on a GPU from ``tensors`` and hashable ``settings``.

    It must not read a value of a tensor, since a recording repeats the kernels only.
    """
    if torch.cuda.is_current_stream_capturing():
        return function(*tensors, **settings)
    key = (function, *map(_kind, tensors), *sorted(settings.items()), *_circumstances())
    with _lock:
        known = _recordings.pop(key, 0)
        if known == WARM_UP_CALLS:
            known = _Recording(lambda *copies: function(*copies, **settings), tensors)
        _recordings[key] = known + 1 if isinstance(known, int) else known
        while len(_recordings) > MAX_RECORDINGS:
            _recordings.popitem(last=False)
        if not isinstance(known, int):
            return known(tensors)
    return function(*tensors, **settings)


class _Recording:
    """The kernels that compute ``function(*tensors)``, with memory for its arguments and results."""

    def __init__(self, function, tensors):
        self.arguments = [None if tensor is None else tensor.clone() for tensor in tensors]
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.results = function(*self.arguments)

    def __call__(self, tensors) -> tuple[Tensor, ...]:
        for argument, tensor in zip(self.arguments, tensors, strict=True):
            if tensor is not None:
                argument.copy_(tensor)
        self.graph.replay()
        return tuple(result.clone() for result in self.results)


def _kind(tensor: Tensor | None) -> tuple | None:
    return None if tensor is None else (tensor.shape, tensor.stride(), tensor.dtype, tensor.device)


def _circumstances() -> tuple:
    """The settings that kernels depend on besides their arguments. Each stream has its own recordings, since those of a stream run in order."""
    precision = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision
    return *precision, torch.get_deterministic_debug_mode(), torch.cuda.current_stream().cuda_stream
