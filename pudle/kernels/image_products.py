r"""Compiled products of one image or its codes with the filters of a convolutional network: Dz, Dᵀx and ⟨x, z⟩.

:mod:`pudle.kernels.image_passes` puts layers together from them.

Codes are (positions, P): a row for each position of the filters, with P filters (padded with zeros to a multiple of 16). Dᵀx, Dz and
⟨x, z⟩ are then products as in :mod:`pudle.kernels.matmul`. They are computed for one row of positions at a time, which stays in the
first-level cache while P_t is applied, or while patches are added to an image.

If few codes are not 0, products use these codes only, one position at a time. Dz and Aū are sums of the atoms in use, ⟨x, z⟩ adds patches
of the image to the atoms in use, and z̄_t = ū_t − α Dᵀq_t is computed at the codes that are not 0, since no other entries are needed.
"""

from typing import NamedTuple

import numpy as np

from pudle.kernels.cache import inner
from pudle.kernels.matmul import WIDE, multiply
from pudle.kernels.simd import OPTIONS, add_dots, add_outer, add_strips, pick

# Dense products are faster above these shares of non-zero codes, as measured with 64 filters of 9 x 9: SPARSE_SHARE for all products with
# AVX2, and for Dz with AVX-512; with AVX-512 the others are ⟨x, z⟩ and z̄_t. Networks use SPARSE_SHARE on all machines for the same bits.
SPARSE_SHARE = 0.85
SPARSE_PRODUCT, SPARSE_BACK = (0.06, 0.12) if WIDE else (SPARSE_SHARE, SPARSE_SHARE)


class Filters(NamedTuple):
    """Filters (p, 1, k, k) both ways, padded with zeros: p to P and k² to K, multiples of 16."""

    taps: np.ndarray  # (k², P) number: a row for each pixel of the filters
    atoms: np.ndarray  # (P, K) number: a row for each filter


class ImageProblem(NamedTuple):
    """The layers of a call, and the grid of J positions. *number* is float32 or float64; an image is (1, pixels), row by row."""

    synthesis: Filters  # D
    analysis: Filters  # A
    decoder: Filters  # C
    levels: np.ndarray  # (T, P) number: thresholds
    fades: np.ndarray  # (T,) number: ν^t, the factors of decay
    hard: bool  # hard or soft thresholding
    nonnegative: bool  # codes ≥ 0
    step: float  # α
    penalty: float  # factor of ‖z‖₁ in the loss
    stop: int  # the layer at which back-propagation ends
    scored: bool  # whether estimates are compared with targets
    from_adjoint: bool  # whether back-propagation starts from an adjoint z̄_T of the caller, instead of that of the loss
    kept: bool  # whether codes and residuals of all layers are those of an earlier call
    of_arrays: bool  # whether derivatives with respect to filters are computed
    of_levels: bool  # the same for thresholds
    of_images: bool  # the same for images
    n_filters: int  # p
    sparse_product: float  # the largest share of codes that are not 0 for which ⟨x, z⟩ is worked out from these alone
    sparse_back: float  # the same for z̄_t
    places: np.ndarray  # (J,) int64: pixels at which filters start
    under: np.ndarray  # (k²,) int64: pixels under a filter, counted from there
    starts: np.ndarray  # (J,) int64: where the codes of a position start in the array of all codes
    entries: np.ndarray  # (P,) int64: 0, 1, 2, …
    across: int  # positions in a row of the grid
    kernel: int  # k
    width: int  # pixels in a row of an image
    inside: np.ndarray  # (pixels,) bool: where the loss counts errors
    infinity: float


@inner(**OPTIONS)
def find_active(t, problem, memory):
    """For codes z of slot t and a = t % 2: active[a, j] = the filters f with z_{j,f} ≠ 0, counts[a, j] how many, shares[a] their share of all
    p codes of all positions.
    """
    codes, total, a = memory.codes[t], 0, t % 2
    for j in range(codes.shape[0]):
        count = pick(memory.active[a, j], memory.identity, codes[j])
        memory.counts[a, j] = count
        total += count
    memory.shares[a] = total / (codes.shape[0] * problem.n_filters)


@inner(forceinline=True, **OPTIONS)
def load_patch(patch, image, place, problem):
    """patch[: k²] = the pixels of image (1, pixels) under the filter at ``place``; patch (K,) is 0 beyond, before and after."""
    kernel = problem.kernel
    for a in range(kernel):
        for b in range(kernel):
            patch[a * kernel + b] = image[0, place + a * problem.width + b]


@inner(**OPTIONS)
def add_image(image, codes, t, filters, problem, memory):
    """image (1, pixels) += Dz, for codes z (J, P) that are 0 where those of slot ``t`` are: each position adds Σ_f z_{j,f} D_f to its pixels.

    Before it, :func:`find_active` has run for slot ``t``, and not for t + 2 or t − 2 since.
    """
    patches, across, a = memory.of_pixels, problem.across, t % 2
    if memory.shares[a] < SPARSE_SHARE:
        patch = patches[0]
        for j in range(codes.shape[0]):
            add_strips(patch, memory.nothing, filters.atoms, memory.active[a, j], codes[j], memory.counts[a, j])
            add_patch(image, patch, problem.places[j], problem)
        return
    for at in range(0, codes.shape[0], across):
        multiply(patches, codes, problem.starts[at : at + across], problem.entries, filters.atoms)
        for j in range(across):
            add_patch(image, patches[j], problem.places[at + j], problem)


@inner(forceinline=True, **OPTIONS)
def add_patch(image, patch, place, problem):
    """The pixels of image (1, pixels) under the filter at ``place`` += patch (K,)."""
    kernel = problem.kernel
    for a in range(kernel):
        for b in range(kernel):
            image[0, place + a * problem.width + b] += patch[a * kernel + b]


@inner(**OPTIONS)
def step_along(out, codes, factor, image, filters, problem, memory, at):
    """out = codes + factor Dᵀ image, for the row of the grid from position ``at`` on; out and codes (J, P) may be the same."""
    change, across = memory.of_codes, problem.across
    multiply(change, image, problem.places[at : at + across], problem.under, filters.taps)
    for j in range(across):
        for f in range(out.shape[1]):
            out[at + j, f] = codes[at + j, f] + factor * change[j, f]


@inner(**OPTIONS)
def step_along_active(out, codes, t, factor, image, filters, problem, memory):
    """out = codes + factor Dᵀ image at the entries where codes of slot ``t`` are not 0; other entries of out (J, P) are unchanged."""
    patch, a = memory.patch, t % 2
    for j in range(codes.shape[0]):
        load_patch(patch, image, problem.places[j], problem)
        add_dots(out[j], codes[j], factor, filters.atoms, memory.active[a, j], memory.counts[a, j], patch)


@inner(**OPTIONS)
def step_back(out, codes, t, factor, image, filters, problem, memory):
    """out = codes + factor Dᵀ image, at least where codes of slot ``t`` are not 0: no other entries of z̄_t count."""
    if memory.shares[t % 2] < problem.sparse_back:
        step_along_active(out, codes, t, factor, image, filters, problem, memory)
    else:
        for at in range(0, codes.shape[0], problem.across):
            step_along(out, codes, factor, image, filters, problem, memory, at)


@inner(**OPTIONS)
def add_product(total, by_atom, image, codes, t, problem, memory, factor):
    """total (k², P) += factor ⟨image, codes⟩, or by_atom (P, K) += its transpose, for codes (J, P) that are 0 where those of slot ``t`` are.

    ⟨image, codes⟩ of pixel q of filter f is Σ_j image[places_j + under_q] codes[j, f].
    """
    a = t % 2
    if memory.shares[a] < problem.sparse_product:
        patch = memory.patch
        for j in range(codes.shape[0]):
            load_patch(patch, image, problem.places[j], problem)
            add_outer(by_atom, memory.active[a, j], codes[j], factor, memory.counts[a, j], patch)
        return
    product = memory.of_filters
    multiply(product, image, problem.under, problem.places, codes)
    for k in range(total.shape[0]):
        for f in range(total.shape[1]):
            total[k, f] += factor * product[k, f]


@inner(**OPTIONS)
def add_transposed(total, by_atom):
    """total (k², P) += by_atomᵀ, of which the first k² columns (P, K) are read."""
    for k in range(total.shape[0]):
        for f in range(total.shape[1]):
            total[k, f] += by_atom[f, k]
