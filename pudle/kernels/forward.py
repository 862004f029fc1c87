r"""Compiled unrolled layers for codes with few non-zeros. They process one sample after another, and the result is exact.

:mod:`pudle.kernels.backward` back-propagates through them, and :mod:`pudle.kernels.sparse_layers` calls both.

With :math:`W = I − αDᵀD` a layer computes :math:`u_t = z_t W + α x D` and :math:`z_{t+1} = P_t(u_t)`. A *full* layer computes all p
entries of u_t, as the sum of those rows of W whose entries in z_t are not 0. If Dz changes slowly, the next layers are *restricted* to a
*working set* B of K ≤ 64 entries, those with the largest :math:`|u_t|`. They need W_BB only, and are exact for the following reason. Let B
contain all non-zero entries. Then an entry i outside B satisfies

.. math::
    |u_{s,i}| ≤ |u_{t,i}| + α ‖d_i‖_2 ‖D (z_s − z_t)‖_2.

Therefore z_{s+1,i} is 0 while :math:`α ‖D (z_s − z_t)‖_2^2 < \min_{i ∉ B} (level − |u_{t,i}|)^2 / (α ‖d_i‖_2^2)`. The right side is the
*squared radius* around z_t within which z_s must stay. The left side equals :math:`(z_s − z_t) · (z_s − z_t − u_s + u_t)`, which a
restricted layer knows before it computes z_{s+1}. The first layer beyond the radius runs as a full layer; the layers before it are valid.
Decay lowers the level from layer to layer, so the bound uses the lowest level of the remaining layers, less rounding errors. If any value
is NaN, no comparison with the radius holds, and all layers are full.

The loop of :func:`forward` is a state machine. Its state is the kind of the previous layer: ``START``, ``FULL`` or ``RESTRICTED``. After each
full layer :func:`find_working_set` decides whether restricted layers follow: ``NO_SET``, ``SAME_SET`` or ``NEW_SET``.

The constants below affect the time only, except ROUNDING and SAFETY, which the bound needs.
"""

import math
from typing import NamedTuple

import numpy as np

from pudle.kernels.cache import inner
from pudle.kernels.memory import WIDTH
from pudle.kernels.simd import (
    LANES,
    OPTIONS,
    add_few_rows,
    add_rows,
    clear,
    copy,
    n_nonzero,
    n_outside,
    padded,
    pick,
    pick_padded,
)
from pudle.kernels.thresholding import below, shrink

START, FULL, RESTRICTED = range(3)  # kind of the previous layer
NO_SET, SAME_SET, NEW_SET = range(3)  # the working set after a full layer

SPARE_ENTRIES = 24  # entries of a working set besides the active ones, if there is room, since others become active later
MIN_SPARE_ENTRIES = 4  # the smallest number of these additional entries
LARGEST_PART, OF_PARTS = 3, 5  # a working set has at most 3 of 5 entries: a larger one costs as much as full layers
PACKING_LIMIT = 8  # columns of W per entry of a working set up to which entries of a row are packed, not looked up
REUSE_LAYERS = 3  # a working set is used again if at least so many restricted layers are expected
NEW_SET_LAYERS = 6  # a new one is chosen if at least so many are expected; more with few columns, where gathering W_BB costs more than layers
TYPICAL_RADIUS = 0.3  # guess of the largest squared radius, as a share of level² / α‖d‖², before the radius is computed
BISECTIONS = 8  # steps to find the cut above which a working set has few enough entries, to 1/256 of the level
HORIZON = 16  # the largest number of restricted layers in sequence if decay lowers the level
LOOKUP_FRACTION = 16  # if fewer than one in 16 entries of z_{t-1} are not 0, z_t is searched among them; otherwise in full
ROUNDING = 32  # bound of the rounding errors of an entry of u, in epsilons of ‖u‖
SAFETY = 0.999  # of the squared radius: its own rounding errors, a few epsilons, are far below a thousandth


class SparseProblem(NamedTuple):
    """The layers of a call; *number* is float32 or float64. W and Dᵀ are padded with zeros: p to P and m to M, multiples of 16."""

    transfer: np.ndarray  # (P, P) number: W
    atoms: np.ndarray  # (P, M) number: Dᵀ
    levels: np.ndarray  # (T,) number: the thresholds of the layers, in non-increasing order
    hard: bool  # hard or soft thresholding
    nonnegative: bool  # codes ≥ 0
    norms: np.ndarray  # (P,) number: α‖d_i‖², which is 1 − W_ii
    epsilon: float  # of the numbers
    infinity: float
    lam: float  # λ of the loss
    n_atoms: int  # p
    first: int  # the first layer that runs
    stop: int  # the layer at which back-propagation ends
    max_active: int  # a full layer with more active entries is the last, if it has more than the layer before
    backward: bool  # whether back-propagation follows, so that codes are kept
    decoded: bool  # whether back-propagation accumulates (S + Sᵀ)Dᵀ instead of S
    from_adjoint: bool  # whether it starts from an adjoint z̄_T of the caller, instead of that of the loss
    weights: bool  # whether it accumulates either of these sums
    slopes: bool  # whether it accumulates derivatives with respect to λ and α
    rates: np.ndarray  # (T,) float64: αν^t, or 0 for a hard threshold


class Tally(NamedTuple):
    """Counts: full layers, restricted ones, working sets, operations on rows of D that decoded sums would take, and layers reached."""

    full: int
    restricted: int
    sets: int
    rows: int
    layers: int


N_FULL, N_RESTRICTED, N_SETS, N_ROWS, N_LAYERS = range(5)  # their indices in ``tally`` (5,) int64


@inner(forceinline=True, **OPTIONS)
def keep(problem, history, identity, t, codes, earlier):
    """Keep z_t = ``codes`` (P,) in row t of the history; returns how many entries are not 0.

    earlier : a row of the history that usually has all of these
    """
    index, count, complete = history.index[t], 0, False
    if LOOKUP_FRACTION * history.count[earlier] < codes.shape[0]:
        for k in range(history.count[earlier]):
            j = history.index[earlier, k]
            index[count] = j
            count += codes[j] != 0
        complete = count == n_nonzero(codes)
    if not complete:  # index = {j : z_j ≠ 0}
        count = pick(index, identity, codes)
    history.row[t], history.count[t], history.shared[t] = t, count, False
    if problem.backward:
        copy(history.values[t], codes)
    return count


@inner(forceinline=True, **OPTIONS)
def keep_shared(history, t, row, codes):
    """values[t, k] = z_{t,B_k} for the working set B of ``row`` and z_t = ``codes`` (P,); returns how many of these are not 0."""
    index, values, count, active = history.index[row], history.values[t], history.count[row], 0
    history.row[t] = row
    for k in range(count):
        values[k] = codes[index[k]]
        active += values[k] != 0
    for k in range(count, padded(count)):
        values[k] = 0
    return active


@inner(forceinline=True, **OPTIONS)
def last_layer(problem, t):
    """Restricted layers from t on must end before this layer: T if the level is constant, otherwise at most HORIZON layers later."""
    n_layers, levels = problem.levels.shape[0], problem.levels
    return n_layers if levels[n_layers - 1] == levels[0] else min(n_layers, t + HORIZON)


@inner(forceinline=True, **OPTIONS)
def gather(transfer, index, count, members, gram):
    """gram[a, b] = W[B_a, B_b] for B = index[:count], and 0 for b from count on; members (P,) is 1 for the entries of B, which rise."""
    for a in range(count):
        row, out = transfer[index[a]], gram[a]
        if members.shape[0] <= PACKING_LIMIT * count:
            pick_padded(out, row, members)
        else:
            for b in range(padded(count)):
                out[b] = row[index[b]] if b < count else 0


@inner(**OPTIONS)
def choose(problem, history, scratch, u, t, width, level):
    """Row t of the history = B, at most ``width`` entries with the largest |u|; returns whether there are few enough.

    The smallest cut in (0, level] is wanted with #{j : u_j outside of (low(cut), cut)} ≤ width; active entries are outside of (low, level).
    ``members`` is 1 on B, 0 elsewhere, and the data gathered for the previous set become invalid.
    """
    members = scratch.members
    scratch.gathered[0] = -1
    none, cut = level * 0, level
    for _ in range(BISECTIONS):  # too many entries are above ``none``; few enough above ``cut``, if that was lowered
        middle = (none + cut) / 2
        if n_outside(u, below(middle, problem), middle) > width:
            none = middle
        else:
            cut = middle
    low, one = below(cut, problem), members[0] * 0 + 1
    for j in range(members.shape[0]):  # B = {j : u_j outside of (low, cut)}
        members[j] = one * 0 if (u[j] > low) & (u[j] < cut) else one
    clear(members[problem.n_atoms :])
    count = pick(history.index[t], scratch.identity, members)
    history.count[t], history.shared[t] = count, True
    return count <= width


@inner(forceinline=True, **OPTIONS)
def size(u):
    """‖u‖ of u (w,)"""
    total = u[0] * 0
    for j in range(u.shape[0]):
        total += u[j] * u[j]
    return math.sqrt(total)


@inner(forceinline=True, **OPTIONS)
def squared_radius(problem, history, scratch, u, row, level):
    """min over i outside of B of margin_i² / α‖d_i‖², where margin_i = min(level − u_i, u_i − low): the bound of α‖DΔz‖².

    If the codes that gave ``u`` (P,) change by Δz, with α‖DΔz‖² below it, no entry outside of the working set B of ``row`` reaches
    ``level``. Where a margin is 0 it is 0. ``ratio`` is overwritten.
    """
    norms, ratio, bits = problem.norms, scratch.ratio, scratch.ratio_bits
    low, zero = below(level, problem), level * 0
    for j in range(u.shape[0]):
        margin = max(min(level - u[j], u[j] - low), zero)
        ratio[j] = norms[j] / (margin * margin)
    for k in range(history.count[row]):  # entries of B do not count
        ratio[history.index[row, k]] = 0
    top = bits[0]  # as integers, which are faster to compare, numbers ≥ 0 have the same order, and NaN comes last
    for j in range(bits.shape[0]):
        top = max(top, bits[j])
    bits[0] = top
    return SAFETY / ratio[0]


@inner(forceinline=True, **OPTIONS)
def squared_change(codes, anchor, u, anchor_u, error):
    """α‖DΔz‖² = Δz · (Δz − Δu) for Δz = codes − anchor and Δu = u − anchor_u = Δz W, plus ``error`` ‖Δz‖; all (w,).

    u and anchor_u are the inputs to which the codes lead, up to rounding errors; ``error`` bounds these.
    """
    total, square = codes[0] * 0, codes[0] * 0
    for j in range(codes.shape[0]):
        change = codes[j] - anchor[j]
        total += change * (change - (u[j] - anchor_u[j]))
        square += change * change
    return total + error * math.sqrt(square)


@inner(**OPTIONS)
def forward(problem, history, scratch, tally):
    """All layers of one sample from ``first`` on: z_T in codes[T % 2], and z_first, …, z_T in the history.

    Before it, codes[first % 2] and row ``first`` of the history hold z_first, and ``drive`` holds α x D. Returns the layer after the last,
    which is below T if more than ``max_active`` entries became active.

    tally : (5,), the numbers of :class:`Tally`; all but the last are increased
    """
    n_layers, t = problem.levels.shape[0], problem.first
    widest = min(WIDTH, scratch.bar.shape[0] * LARGEST_PART // OF_PARTS // LANES * LANES)
    pace = problem.infinity  # α‖DΔz‖² of the last layer
    state, n_before = START, problem.transfer.shape[0]
    while t < n_layers:
        u, before, after, earlier = scratch.inputs[t % 2], scratch.codes[t % 2], scratch.codes[(t + 1) % 2], history.row[t]
        full_input(u, problem, history, scratch, t, before)  # u_t = z_t W + α x D
        if state == FULL:  # ``after`` is still z_{t-1}
            pace = squared_change(before, after, u, scratch.inputs[(t + 1) % 2], u[0] * 0)
        state = FULL
        shrink(after, u, problem.levels[t], problem)  # z_{t+1} = P_t(u_t)
        t += 1
        tally[N_FULL] += 1
        active, width, stays = keep_full(problem, history, scratch, t, earlier, after, widest)
        tally[N_ROWS] += 4 * active * (t > problem.stop)
        if active > max(problem.max_active, n_before):
            break
        n_before = active
        if t == n_layers or active + MIN_SPARE_ENTRIES > width:
            continue
        found, radius, error = find_working_set(
            problem, history, scratch, tally, t, u, before, after, earlier, active, width, stays, pace
        )
        if found == NO_SET:
            continue
        start = t
        t, pace = restricted_layers(problem, history, scratch, t, radius, error)
        state = RESTRICTED
        tally[N_RESTRICTED] += t - start
    return t


@inner(forceinline=True, **OPTIONS)
def full_input(u, problem, history, scratch, t, before):
    """u (P,) = z_t W + α x D, for z_t = ``before`` (P,), by the rows of W whose entries of z_t are not 0."""
    row = history.row[t]
    index, count = history.index[row], history.count[row]
    if history.shared[row]:  # a working set has entries that are 0
        index, count = scratch.places, pick(scratch.places, index, history.values[t][: padded(count)])
    add_rows(u, scratch.drive, problem.transfer, index, before, count)


@inner(forceinline=True, **OPTIONS)
def keep_full(problem, history, scratch, t, earlier, after, widest):
    """Keep z_t = ``after`` (P,) of a full layer; returns its active entries, the size of a set for it, and whether that of z_{t-1} stays.

    The working set of row ``earlier`` stays if it holds all of z_t, and is not much too large for it.
    """
    if history.shared[earlier]:
        width, active = padded(history.count[earlier]), keep_shared(history, t, earlier, after)
        if active == n_nonzero(after) and width < active + SPARE_ENTRIES + LANES:
            return active, width, True
    active = keep(problem, history, scratch.identity, t, after, earlier)
    return active, min(padded(active + SPARE_ENTRIES), widest), False


@inner(forceinline=True, **OPTIONS)
def find_working_set(problem, history, scratch, tally, t, u, before, after, earlier, active, width, stays, pace):
    """A working set that holds z_{t-1} = ``before`` and z_t = ``after``, for layers from t on; returns NO_SET, SAME_SET or NEW_SET.

    It must promise several restricted layers: with α‖DΔz‖² = ``pace`` a layer, n of them move by n² pace at most, which must be below the
    squared radius. Returns that and the rounding error of u as well. For NEW_SET, ``gram``, ``inside`` and ``members`` are those of the set.
    """
    level = problem.levels[last_layer(problem, t) - 1]
    promise = REUSE_LAYERS if stays or u.shape[0] > PACKING_LIMIT * width else NEW_SET_LAYERS
    if not promise * promise * pace * problem.norms[0] < TYPICAL_RADIUS * level * level:
        return NO_SET, 0.0, 0.0
    error = ROUNDING * problem.epsilon * size(u)
    radius = squared_radius(problem, history, scratch, u, earlier, level - error) if stays else pace * 0
    if REUSE_LAYERS * REUSE_LAYERS * pace < radius:
        return SAME_SET, radius, error
    if choose(problem, history, scratch, u, t, width, level):
        radius = squared_radius(problem, history, scratch, u, t, level - error)
        if promise * promise * pace < radius and holds(history, t, before):
            tally[N_SETS] += 1
            tally[N_ROWS] += active * active
            load_working_set(problem, history, scratch, t, after)
            return NEW_SET, radius, error
    keep(problem, history, scratch.identity, t, after, earlier)
    return NO_SET, 0.0, 0.0


@inner(forceinline=True, **OPTIONS)
def load_working_set(problem, history, scratch, t, after):
    """gram = W_BB, inside = (α x D)_B, and z_t = ``after`` on B, for the working set B of row t; ``members`` is 1 on B."""
    gather(problem.transfer, history.index[t], history.count[t], scratch.members, scratch.gram)
    pick_padded(scratch.inside, scratch.drive, scratch.members)
    scratch.gathered[0] = t
    keep_shared(history, t, t, after)


@inner(forceinline=True, **OPTIONS)
def holds(history, row, codes):
    """Whether the working set of ``row`` has all entries of ``codes`` (P,) that are not 0."""
    held = 0
    for k in range(history.count[row]):
        held += codes[history.index[row, k]] != 0
    return held == n_nonzero(codes)


@inner(forceinline=True, **OPTIONS)
def restricted_layers(problem, history, scratch, t, radius, error):
    """Layers from t on, on the set B of row[t], which holds z_{t-1} and z_t; returns the next layer, and the pace.

    They end before T, before the level falls below that of the radius, and before α‖D(z_s − z_{t-1})‖² reaches ``radius``. ``gram``, ``inside``
    and ``members`` are those of B. The last codes are in codes[s % 2] at the end.
    """
    before, after, u_before, row = scratch.codes[(t - 1) % 2], scratch.codes[t % 2], scratch.inputs[(t - 1) % 2], history.row[t]
    index, count, width, end = history.index[row], history.count[row], padded(history.count[row]), last_layer(problem, t)
    anchor, anchor_input, u = scratch.anchor[:width], scratch.anchor_input[:width], scratch.row[:width]
    start, moved = t, radius
    pick_padded(scratch.anchor, before, scratch.members)  # z_{t-1} on B, from which the radius is measured
    pick_padded(scratch.anchor_input, u_before, scratch.members)  # u_{t-1} on B
    clear(before)
    clear(after)
    while t < end:
        codes = history.values[t][:width]  # z_t on B
        active = pick(scratch.places, scratch.identity, codes)
        add_few_rows(u, scratch.inside, scratch.gram, scratch.places, codes, active)  # u_t on B = z_t W_BB + (α x D)_B
        moved = squared_change(codes, anchor, u, anchor_input, error)
        if not moved < radius:
            break
        shrink(history.values[t + 1][:width], u, problem.levels[t], problem)  # z_{t+1} on B
        t += 1
        history.row[t] = row
    final, values = scratch.codes[t % 2], history.values[t]
    for k in range(count):
        final[index[k]] = values[k]
    n_layers = t - start + 1
    return t, moved / (n_layers * n_layers)
