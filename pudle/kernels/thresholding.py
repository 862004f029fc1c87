r"""Soft and hard thresholding in compiled loops; that of tensors is in :mod:`pudle.core.unrolling`.

Numbers are all float32 or all float64, and a threshold is at least 0. ``problem`` has the fields ``hard`` (hard or soft thresholding),
``nonnegative`` (codes ≥ 0) and ``infinity``, as :class:`pudle.kernels.forward.SparseProblem` and
:class:`pudle.kernels.image_products.ImageProblem` do. Arrays have widths w that are multiples of 16.
"""

from pudle.kernels.cache import inner
from pudle.kernels.simd import OPTIONS


@inner(forceinline=True, **OPTIONS)
def below(level, problem):
    """low = −level, or −∞ for codes ≥ 0: entries of u within (low, level) become 0."""
    return -problem.infinity if problem.nonnegative else -level


@inner(forceinline=True, **OPTIONS)
def threshold(u, level, problem):
    """P(u) of one entry: u − clip(u, low, level) for soft thresholding; 0 for low < u < level, else u, for hard. NaN stays NaN."""
    low = below(level, problem)
    if problem.hard:
        return level - level if (u > low) & (u < level) else u  # level - level is 0 of the type of u
    return u - min(max(u, low), level)  # u − level above the level, u − low below low, else 0


@inner(forceinline=True, **OPTIONS)
def shrink(out, u, level, problem):
    """out (w,) = P(u) (w,), elementwise with one ``level``. out may be u."""
    for j in range(out.shape[0]):
        out[j] = threshold(u[j], level, problem)


@inner(**OPTIONS)
def shrink_rows(codes, levels, problem, first, last):
    """codes[j] (w,) = P(codes[j]) with thresholds ``levels`` (w,), for rows j from ``first`` to before ``last``."""
    for j in range(first, last):
        for f in range(codes.shape[1]):
            codes[j, f] = threshold(codes[j, f], levels[f], problem)
