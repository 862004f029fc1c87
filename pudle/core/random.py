"""Random numbers in separate streams, so that methods are compared on the same draws.

A seed of an experiment gives one independent stream for each purpose (PCG64 with ``numpy.random.SeedSequence``). For example, drawing more
samples changes neither the true dictionary nor the initial one. numpy draws on the CPU, so that draws do not depend on the device;
``torch.as_tensor`` then moves them to torch's default device, where experiments compute.
"""

import zlib

import numpy as np

from pudle.core.units import number


def stream(seed: int, purpose: str) -> np.random.Generator:
    """The generator for one ``purpose`` ("codes", "noise", "batches", …) and the ``seed`` of an experiment (an integer ≥ 0)."""
    seed = number("seed", seed, integer=True)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(zlib.crc32(purpose.encode()),)))
