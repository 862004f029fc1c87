"""Random numbers in separate streams, so that methods are compared on the same draws.

A seed of an experiment gives one independent stream for each purpose (PCG64 through ``numpy.random.SeedSequence``): asking
for more samples, say, changes neither the true dictionary nor the initial one. Draws are numpy's, made on the CPU, so that they do not
depend on the device; ``torch.as_tensor`` then makes a tensor of them on torch's default device, where experiments compute.
"""

import zlib

import numpy as np

from pudle.core.units import number


def stream(seed: int, purpose: str) -> np.random.Generator:
    """The generator for one ``purpose`` ("codes", "noise", "batches", …) of an experiment's ``seed`` (an integer ≥ 0)."""
    seed = number("seed", seed, whole=True)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(zlib.crc32(purpose.encode()),)))
