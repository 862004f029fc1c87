"""The scratch memory of the compiled loops: each structure with the shapes and types of its arrays, and its allocation.

Compiled code allocates no memory. A task of :mod:`pudle.kernels.sparse_layers`, :mod:`pudle.kernels.active_set` or
:mod:`pudle.kernels.image_layers` has one structure, which it uses for one sample or image after another and shares with no other task.

Sizes: p atoms or filters and m features, padded to multiples P and M of 16; T layers; K = ``WIDTH`` entries of a working set. *number*
is the type of the samples, float32 or float64. :func:`pudle.kernels.simd.pick` writes whole vectors, so that the arrays it
writes to have 16 more entries than they hold. Arrays that must be 0 before a loop say so; each loop leaves them 0.
"""

import math
from typing import NamedTuple

import numpy as np

from pudle.kernels.simd import LANES, padded

WIDTH = 64  # K, entries of the largest working set of unrolled layers: its K × K matrix stays in the first-level cache
RING = 16  # layers that back-propagation collects before it adds them to its sums
JOIN = 8  # the largest number of atoms that join an active set at a time
LINE = 64  # bytes of a cache line

Array = np.ndarray


class History(NamedTuple):
    """Codes z_0, …, z_T of one sample, for back-propagation.

    z_t is 0 outside of the entries index[r, :count[r]], where r = row[t]. If shared[r], they are a working set: r is the row of all layers
    that run on it, and values[t, k] belongs to entry index[r, k]. Otherwise r is t, and values[t] is z_t itself.
    """

    index: Array  # (T + 1, P + 16) uint32
    values: Array  # (T + 1, P) number
    row: Array  # (T + 1,) int64
    count: Array  # (T + 1,) int64
    shared: Array  # (T + 1,) bool


class KeptLayers(NamedTuple):
    """The histories of the samples of a task, for :mod:`pudle.kernels.kept_layers`: those that come first, as far as there is room.

    For each layer ``values`` has the codes that are not 0, and ``marks`` which of the entries of row[t] these are. For each working set
    ``places`` has its entries.
    """

    values: Array  # (C,) number
    marks: Array  # (C / 2,) uint8
    places: Array  # (C / 2,) int16
    rows: Array  # (n, T + 1) int32: row
    widths: Array  # (n, T + 1) int32: count[t] where row t is a working set, else −1
    starts: Array  # (n, 3) int64: where values, marks and places of a sample begin
    held: Array  # (1,) int64: the number of samples


class LayerScratch(NamedTuple):
    """The arrays of :mod:`pudle.kernels.forward` and :mod:`pudle.kernels.backward`. B is the working set chosen last."""

    drive: Array  # (P,) number: α x D, 0 beyond p
    inputs: Array  # (2, P) number: u_t of full layers, in turns
    codes: Array  # (2, P) number: z_t of full layers, in turns
    bar: Array  # (P,) number: z̄_t
    residual: Array  # (M,) number: D z_T − x
    nothing: Array  # (max(P, M, K),) number: always 0
    identity: Array  # (max(T + 1, P, K, RING),) uint32: 0, 1, 2, …
    places: Array  # (max(P, K) + 16,) uint32: entries that are not 0
    ratio: Array  # (P,) number: α‖d_i‖² / margin², or a support
    ratio_bits: Array  # (P,) int32 or int64: the same memory as integers
    gram: Array  # (K + 1, K) number: W_BB; one row more than is used, as ``pick`` writes whole vectors, past the end of the last row
    inside: Array  # (K + 16,) number: drive on B
    members: Array  # (P,) number: 1 for the entries of B, 0 for others
    gathered: Array  # (1,) int64: the row of the history with the set that gram, inside and members are of; −1 for none
    anchor: Array  # (K + 16,) number: z on B from which the radius is measured; back: Σ ū
    anchor_input: Array  # (K + 16,) number: u on B there
    back: Array  # (K + 16,) number: z̄_t on B
    row: Array  # (K + 16,) number: u_t on B; back: a row of S_BB
    used: Array  # (K,) number: not 0 for the rows and columns of S_BB that are not 0
    errors: Array  # (T, K) number: ū_t on B
    ring_codes: Array  # (RING, P) number: z_t of the layers held back
    ring_errors: Array  # (RING, P) number: ū_t of these
    ring_decoded: Array  # (RING, M) number: one of both times Dᵀ
    ring_held: Array  # (1,) int64: how many layers are held back
    sums: Array  # (K, K) number: S_BB, for decoded sums
    atoms: Array  # (K + 16,) uint32: the entries of B that are used, for decoded sums
    slopes: Array  # (2,) float64: the derivative with respect to λ, and α times that with respect to α, accumulated so far


def layer_memory(n_layers, m, p, dtype):
    """The history and the scratch of one task. Most of a history is never written, and so occupies no memory."""
    n, number, depth, width = n_layers + 1, dtype, padded.py_func(m), padded.py_func(p)
    history = History(
        index=zeros((n, width + LANES), np.uint32),
        values=zeros((n, width), number),
        row=zeros((n,), np.int64),
        count=zeros((n,), np.int64),
        shared=zeros((n,), np.bool_),
    )
    ratio = zeros((width,), number)
    scratch = LayerScratch(
        drive=zeros((width,), number),
        inputs=zeros((2, width), number),
        codes=zeros((2, width), number),
        bar=zeros((width,), number),
        residual=zeros((depth,), number),
        nothing=zeros((max(width, depth, WIDTH),), number),
        identity=np.arange(max(n, width, WIDTH, RING), dtype=np.uint32),
        places=zeros((max(width, WIDTH) + LANES,), np.uint32),
        ratio=ratio,
        ratio_bits=ratio.view(f"i{ratio.itemsize}"),
        gram=zeros((WIDTH + 1, WIDTH), number),
        inside=zeros((WIDTH + LANES,), number),
        members=zeros((width,), number),
        gathered=zeros((1,), np.int64),
        anchor=zeros((WIDTH + LANES,), number),
        anchor_input=zeros((WIDTH + LANES,), number),
        back=zeros((WIDTH + LANES,), number),
        row=zeros((WIDTH + LANES,), number),
        used=zeros((WIDTH,), number),
        errors=zeros((n_layers, WIDTH), number),
        ring_codes=zeros((RING, width), number),
        ring_errors=zeros((RING, width), number),
        ring_decoded=zeros((RING, depth), number),
        ring_held=zeros((1,), np.int64),
        sums=zeros((WIDTH, WIDTH), number),
        atoms=zeros((WIDTH + LANES,), np.uint32),
        slopes=np.zeros(2),
    )
    return history, scratch


class SetScratch(NamedTuple):
    """The arrays of :mod:`pudle.kernels.active_set`: a set S of k atoms out of P. It has at most w atoms, a multiple of 16.

    Arrays (w,) hold the atoms of S in the order of ``index``, in their first k places.
    """

    inverse: Array  # (w, w + 16) float64: G_SS⁻¹; 0 outside of its first k rows and columns, and before a loop
    index: Array  # (w,) uint32: S
    signs: Array  # (w,) float64: s, −1 or 1
    codes: Array  # (w,) float64: z_S
    gap: Array  # (w,) float64: D_Sᵀ(x − Dz) − λs
    step: Array  # (w,) float64: G_SS⁻¹ gap
    column: Array  # (w,) float64: G_Si of an atom that may join; also the share of a step at which each code becomes 0
    product: Array  # (w,) float64: G_SS⁻¹ G_Si
    nothing: Array  # (w,) float64: always 0
    identity: Array  # (w,) uint32: 0, 1, 2, …
    descent: Array  # (P,) float64: Dᵀ(x − Dz)
    weights: Array  # (P,) float64: −z; 0 before a loop
    free: Array  # (P,) float64: 1 outside of S, 0 in it; 1 before a loop
    score: Array  # (P,) float64: |descent| outside of S, 0 in it
    score_bits: Array  # (P,) int64: the same memory as integers
    joining: Array  # (JOIN,) uint32: atoms that join


def set_memory(n_atoms, most):
    """The scratch of one task, for sets of up to ``most`` of ``n_atoms`` atoms, a multiple of 16."""
    width = padded.py_func(most)
    score = np.zeros((n_atoms,), float)
    return SetScratch(
        inverse=np.zeros((width, width + LANES), float),  # rows a power of 2 apart would share few lines of the cache
        index=np.zeros((width,), np.uint32),
        **{name: np.zeros((width,), float) for name in ("signs", "codes", "gap", "step", "column", "product", "nothing")},
        identity=np.arange(width, dtype=np.uint32),
        **{name: np.zeros((n_atoms,), float) for name in ("descent", "weights")},
        free=np.ones(n_atoms),
        score=score,
        score_bits=score.view(np.int64),
        joining=np.zeros((JOIN,), np.uint32),
    )


class ByAtom(NamedTuple):
    """Sums that are added to :class:`ImageSums` at the end, with a row for each filter."""

    synthesis: Array  # (P, K) number
    analysis: Array  # (P, K) number
    decoder: Array  # (P, K) number


class ImageScratch(NamedTuple):
    """The arrays of :mod:`pudle.kernels.image_passes` for one image: J positions, P filters, K = k² pixels of a filter, padded.

    Back-propagation goes through the last L layers. It needs their inputs z_t and the last codes, in L + 1 slots, and r_t in L. Which codes are
    not 0 is known for two slots in succession: for slot s in place s % 2.
    """

    codes: Array  # (L + 1, J, P) number: z_t
    active: Array  # (2, J, P + 16) uint32: the filters whose code is not 0, in rising order
    counts: Array  # (2, J) int64: their number
    shares: Array  # (2,) float64: the share of codes that are not 0
    identity: Array  # (P,) uint32: 0, 1, 2, …
    residuals: Array  # (max(1, L), 1, pixels) number: r_t
    bar: Array  # (J, P) number, or (0, P) if L is 0: z̄_t
    image: Array  # (1, pixels) number: C z_T − x, or A ū
    of_codes: Array  # (codes of a row of the grid, P) number
    of_pixels: Array  # (the same, K) number
    of_filters: Array  # (k², P) number
    patch: Array  # (K,) number: k² pixels, and 0 beyond
    nothing: Array  # (K,) number: always 0
    by_atom: ByAtom


class ImageSums(NamedTuple):
    """Derivatives, summed over the images of a task."""

    synthesis: Array  # (k², P) number: in D
    analysis: Array  # (k², P) number: in A
    decoder: Array  # (k², P) number: in C
    thresholds: Array  # (P,) number: in θ


def image_memory(n_back, n_places, across, n_pixels, taps, atoms):
    """The scratch of one task; ``taps`` (k², P) and ``atoms`` (P, K) are those of a dictionary, for sizes and type."""
    (n_taps, n_atoms), n_patch, number = taps.shape, atoms.shape[1], taps.dtype
    return ImageScratch(
        codes=empty((n_back + 1, n_places, n_atoms), number),
        active=empty((2, n_places, n_atoms + LANES), np.uint32),
        counts=empty((2, n_places), np.int64),
        shares=empty((2,), np.float64),
        identity=np.arange(n_atoms, dtype=np.uint32),
        residuals=empty((max(1, n_back), 1, n_pixels), number),
        bar=empty((n_places if n_back else 0, n_atoms), number),
        image=empty((1, n_pixels), number),
        of_codes=empty((across, n_atoms), number),
        of_pixels=empty((across, n_patch), number),
        of_filters=empty((n_taps, n_atoms), number),
        patch=zeros((n_patch,), number),
        nothing=zeros((n_patch,), number),
        by_atom=ByAtom(*(zeros((n_atoms, n_patch), number) for _ in range(3))),
    )


def zeros(shape, dtype):
    """Zeros that begin at a cache line; a vector that lies across two lines takes twice as long to load."""
    return _aligned(np.zeros, shape, dtype)


def empty(shape, dtype):
    """The same as :func:`zeros`, but not initialised."""
    return _aligned(np.empty, shape, dtype)


def _aligned(new, shape, dtype):
    size = math.prod(shape) * np.dtype(dtype).itemsize
    room = new(size + LINE, np.uint8)
    start = -room.ctypes.data % LINE
    return room[start : start + size].view(dtype).reshape(shape)


def pad(matrix):
    """``matrix``, a tensor, as an array with rows and columns of zeros up to multiples of 16."""
    array = zeros([padded.py_func(size) for size in matrix.shape], matrix.numpy().dtype)
    array[: matrix.shape[0], : matrix.shape[1]] = matrix.numpy()
    return array
