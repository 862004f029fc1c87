r"""Unrolled layers on few active entries: exact, in compiled code, sample by sample. Back through them goes
:mod:`pudle.kernels.backward`; both are called by :mod:`pudle.kernels.sparse_layers`.

With :math:`W = I − αDᵀD` a layer is :math:`u_t = z_t W + α x D`, :math:`z_{t+1} = P_t(u_t)`, and few entries of z_t are not 0.
A *full* layer adds up the rows of W of these entries: all p entries of u_t, exactly. Where Dz changes slowly, a *working set*
B of K ≤ 64 entries, those with the largest :math:`|u_t|`, then goes through *restricted* layers, which need W_BB alone. They
are exact too: for an entry i outside of B, as long as B contains all entries that are not 0,

.. math::
    |u_{s,i}| ≤ |u_{t,i}| + α ‖d_i‖_2 ‖D (z_s − z_t)‖_2,

so that z_{s+1,i} is 0 while :math:`α ‖D (z_s − z_t)‖_2^2 < \min_{i ∉ B} (level − |u_{t,i}|)^2 / (α ‖d_i‖_2^2)`, the *squared radius*
of a ball around z_t. The left side is :math:`(z_s − z_t) · (z_s − z_t − u_s + u_t)`, which a restricted layer knows before it computes
z_{s+1}. The first layer outside of the ball runs as a full layer; layers before it are valid. The level is the lowest of the
layers to come, since decay lowers it, less rounding errors. If any value is NaN, no comparison with the radius holds, and all layers are
full ones. In names, ``wide`` is a full layer and ``narrow`` a restricted one.
"""

import math
from collections import namedtuple

from pudle.kernels.cache import compiled
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

WIDTH = 64  # entries of the largest working set: its K × K matrix stays in the first-level cache
SPARE = 24  # entries of a working set beyond the active ones, where there is room
LEAST = 4  # and at least
COMPRESS = 8  # columns of W for each entry of a working set up to which these are picked from a row, beyond which looked up
PAY = 3  # narrow layers that a working set must promise to be used again
CHOICE = 6  # and to be chosen: more where layers are cheap beside gathering W_BB, as they are with few columns
HORIZON = 16  # layers that a ball may hold for where decay lowers the level
ROUNDING = 32  # rounding errors of an entry of u, in epsilons of ‖u‖

# W and Dᵀ (atoms) are padded with zeros: p to P and m to M, multiples of 16. norms: α‖d_i‖² (P,), which is 1 − W_ii.
# lifted: whether the way back adds up (S + Sᵀ)Dᵀ in place of S. given: whether it begins with a z̄ from outside, not with the loss's.
# weights: whether it adds up either at all. slopes: whether it adds up derivatives of λ and α, with rates αν^t of the layers (T,).
# most: active entries beyond which a wide layer is the last, if there are more than before it.
SparseProblem = namedtuple(
    "SparseProblem",
    "transfer atoms levels hard nonnegative norms epsilon infinity lam n_atoms first stop most backward lifted given weights slopes rates",
)
# z_t of one sample is 0 outside index[r, :count[r]], r = row[t]. Where shared[r] these entries are a working set, r is the row of
# all its layers, and values[t, k] belongs to entry index[r, k]. Elsewhere r is t, and values[t] is z_t itself.
History = namedtuple("History", "index values row count shared")
# drive and bar are (P,), inputs (u) and codes (2, P): two layers by turns. Of the working set last chosen: gram W_BB, and inside, which
# is drive on B; members (P,) is 1 for its entries, and gathered its row in the history. nothing: zeros. identity: 0, 1, 2, …
# sums: S_BB, and atoms, which of its entries are not 0, both for lifted sums. slopes (2,): those of λ, and of α times α, so far.
Scratch = namedtuple(
    "Scratch",
    "drive inputs codes bar residual nothing identity places ratio ratio_bits gram inside members gathered anchor back row used errors"
    " anchor_input ring_codes ring_errors ring_lifted ring_held sums atoms slopes",
)

# Counts: wide layers, narrow ones, working sets, operations on rows of D that lifted sums would take, and layers reached.
Tally = namedtuple("Tally", "wide narrow sets rows layers")


@compiled(forceinline=True, **OPTIONS)
def below(level, problem):
    """low = −level, or −∞ for codes ≥ 0: entries of u within (low, level) become 0."""
    return -problem.infinity if problem.nonnegative else -level


@compiled(forceinline=True, **OPTIONS)
def shrink(out, u, level, problem):
    """out (w,) = P_t(u) (w,), elementwise. NaN stays NaN. out may be u."""
    low = below(level, problem)
    if problem.hard:  # 0 for low < u < level, else u
        for j in range(out.shape[0]):
            out[j] = level * 0 if (u[j] > low) & (u[j] < level) else u[j]
    else:  # u − level above the level, u − low below low, else 0: u minus what clipping leaves of it
        for j in range(out.shape[0]):
            out[j] = u[j] - min(max(u[j], low), level)


@compiled(forceinline=True, **OPTIONS)
def keep(problem, history, identity, t, codes, earlier):
    """Keep z_t = ``codes`` (P,) in row t of the history; returns how many entries are not 0.

    earlier : a row of the history that usually has all of these
    """
    index, count, complete = history.index[t], 0, False
    if 16 * history.count[earlier] < codes.shape[0]:
        for k in range(history.count[earlier]):
            j = history.index[earlier, k]
            index[count] = j
            count += codes[j] != 0
        complete = count == n_nonzero(codes)
    if not complete:
        count = pick(index, identity, codes)
    history.row[t], history.count[t], history.shared[t] = t, count, False
    if problem.backward:
        copy(history.values[t], codes)
    return count


@compiled(forceinline=True, **OPTIONS)
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


@compiled(forceinline=True, **OPTIONS)
def last_layer(problem, t):
    """The layer before which restricted layers from t on must end: T if the level stays, else at most HORIZON later."""
    n_layers, levels = problem.levels.shape[0], problem.levels
    return n_layers if levels[n_layers - 1] == levels[0] else min(n_layers, t + HORIZON)


@compiled(forceinline=True, **OPTIONS)
def gather(transfer, index, count, members, gram):
    """gram[a, b] = W[B_a, B_b] for B = index[:count], and 0 for b from count on; members (P,) is 1 for the entries of B, which rise."""
    for a in range(count):
        row, out = transfer[index[a]], gram[a]
        if members.shape[0] <= COMPRESS * count:
            pick_padded(out, row, members)
        else:
            for b in range(padded(count)):
                out[b] = row[index[b]] if b < count else 0


@compiled(**OPTIONS)
def choose(problem, history, scratch, u, t, width, level):
    """Row t of the history = B, at most ``width`` entries with the largest |u|; returns whether there are few enough.

    The smallest cut in (0, level] is wanted with #{j : u_j outside of (low(cut), cut)} ≤ width; active entries are outside of (low, level).
    ``members`` is 1 on B, 0 elsewhere, and what was gathered for the set before is not valid any more.
    """
    members = scratch.members
    scratch.gathered[0] = -1
    none, cut = level * 0, level
    for _ in range(8):  # bisection for the smallest cut with few enough entries above it
        middle = (none + cut) / 2
        if n_outside(u, below(middle, problem), middle) > width:
            none = middle
        else:
            cut = middle
    low, one = below(cut, problem), members[0] * 0 + 1
    for j in range(members.shape[0]):
        members[j] = one * 0 if (u[j] > low) & (u[j] < cut) else one
    clear(members[problem.n_atoms :])
    count = pick(history.index[t], scratch.identity, members)
    history.count[t], history.shared[t] = count, True
    return count <= width


@compiled(forceinline=True, **OPTIONS)
def size(u):
    """‖u‖ of u (w,)"""
    total = u[0] * 0
    for j in range(u.shape[0]):
        total += u[j] * u[j]
    return math.sqrt(total)


@compiled(forceinline=True, **OPTIONS)
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
    for k in range(history.count[row]):
        ratio[history.index[row, k]] = 0
    top = bits[0]  # as integers, which are faster to compare, numbers ≥ 0 have the same order, and NaN comes last
    for j in range(bits.shape[0]):
        top = max(top, bits[j])
    bits[0] = top
    return 0.999 / ratio[0]


@compiled(forceinline=True, **OPTIONS)
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


@compiled(**OPTIONS)
def forward(problem, history, scratch, tally):
    """All layers of one sample from ``first`` on: z_T in codes[T % 2], and z_first, …, z_T in the history.

    Before it, codes[first % 2] and row ``first`` of the history hold z_first, and ``drive`` holds α x D. Returns the layer after the last,
    which is earlier than T where more and more entries came to be active, over ``most``.

    tally : (5,), the numbers of :class:`Tally`; all but the last are increased
    """
    n_layers, t = problem.levels.shape[0], problem.first
    widest, pace = (
        min(WIDTH, scratch.bar.shape[0] * 3 // 5 // LANES * LANES),
        problem.infinity,
    )  # pace: α‖DΔz‖² of the last layer
    was_wide, n_before = False, problem.transfer.shape[0]
    while t < n_layers:
        u, before, after, earlier = scratch.inputs[t % 2], scratch.codes[t % 2], scratch.codes[(t + 1) % 2], history.row[t]
        index, count = history.index[earlier], history.count[earlier]
        if history.shared[earlier]:
            index, count = scratch.places, pick(scratch.places, index, history.values[t][: padded(count)])
        add_rows(u, scratch.drive, problem.transfer, index, before, count)
        if was_wide:
            pace = squared_change(before, after, u, scratch.inputs[(t + 1) % 2], u[0] * 0)
        was_wide = True
        shrink(after, u, problem.levels[t], problem)
        t += 1
        tally[0] += 1
        active, width, stays = 0, padded(history.count[earlier]), False
        if history.shared[earlier]:  # the working set stays if it holds all of z_t, and is not much too large for it
            active = keep_shared(history, t, earlier, after)
            stays = active == n_nonzero(after) and width < active + SPARE + LANES
        if not stays:
            active = keep(problem, history, scratch.identity, t, after, earlier)
            width = min(padded(active + SPARE), widest)
        tally[3] += 4 * active * (t > problem.stop)
        if active > max(problem.most, n_before):
            break
        n_before = active
        if t == n_layers or active + LEAST > width:
            continue
        level = problem.levels[last_layer(problem, t) - 1]
        promise = PAY if stays or u.shape[0] > COMPRESS * width else CHOICE
        if not promise * promise * pace * problem.norms[0] < 0.3 * level * level:
            continue
        error = ROUNDING * problem.epsilon * size(u)
        radius = squared_radius(problem, history, scratch, u, earlier, level - error) if stays else pace * 0
        if not PAY * PAY * pace < radius:
            if not choose(problem, history, scratch, u, t, width, level):
                keep(problem, history, scratch.identity, t, after, earlier)
                continue
            radius = squared_radius(problem, history, scratch, u, t, level - error)
            if not promise * promise * pace < radius or not holds(history, t, before):
                keep(problem, history, scratch.identity, t, after, earlier)
                continue
            tally[2] += 1
            tally[3] += active * active
            index, count = history.index[t], history.count[t]
            gather(problem.transfer, index, count, scratch.members, scratch.gram)
            pick_padded(scratch.inside, scratch.drive, scratch.members)
            scratch.gathered[0] = t
            keep_shared(history, t, t, after)
        start = t
        t, pace = narrow_layers(problem, history, scratch, t, radius, error)
        was_wide = False
        tally[1] += t - start
    return t


@compiled(forceinline=True, **OPTIONS)
def holds(history, row, codes):
    """Whether the working set of ``row`` has all entries of ``codes`` (P,) that are not 0."""
    held = 0
    for k in range(history.count[row]):
        held += codes[history.index[row, k]] != 0
    return held == n_nonzero(codes)


@compiled(forceinline=True, **OPTIONS)
def narrow_layers(problem, history, scratch, t, radius, error):
    """Layers from t on, on the set B of row[t], which holds z_{t-1} and z_t; returns the next layer, and the pace.

    They end before T, before the level falls below that of the radius, and before α‖D(z_s − z_{t-1})‖² reaches ``radius``. ``gram``, ``inside``
    and ``members`` are those of B. The last codes are in codes[s % 2] at the end.
    """
    before, after, u_before, row = scratch.codes[(t - 1) % 2], scratch.codes[t % 2], scratch.inputs[(t - 1) % 2], history.row[t]
    index, count, width, end = history.index[row], history.count[row], padded(history.count[row]), last_layer(problem, t)
    anchor, anchor_input, u = scratch.anchor[:width], scratch.anchor_input[:width], scratch.row[:width]
    start, moved = t, radius
    pick_padded(scratch.anchor, before, scratch.members)  # z_{t-1} on B, the centre of the ball
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
