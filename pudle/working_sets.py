r"""Unrolled layers on few active entries: exact, in compiled code, sample by sample. Back through them goes
:mod:`pudle.back_propagation`; both are called by :mod:`pudle.sparse_layers`.

With :math:`W = I − αDᵀD` a layer is :math:`u_t = z_t W + α x D`, :math:`z_{t+1} = P_t(u_t)`, and few entries of z_t are not 0.
A **wide** layer adds up the rows of W of these entries: all p entries of u_t, exactly. Where codes move slowly a **working
set** B of K ≤ 64 entries, those with the largest :math:`|u_t|`, then goes through **narrow** layers, with W_BB alone. They
lose nothing: for an entry i outside B, as long as B holds all that is not 0,

.. math::
    |u_{s,i}| ≤ |u_{t,i}| + ‖W_{B,i}‖_2 ‖z_s − z_t‖_2,

so it stays 0 while :math:`‖z_s − z_t‖_2 < \min_{i ∉ B} (level − |u_{t,i}|) / ‖W_{B,i}‖_2`, the **radius** of a ball around
z_t. As z_s is known before layer s is computed, the layer that leaves the ball is simply wide again, and no layer is ever taken
back. The level is the lowest of the layers to come, as decay lowers it, less rounding errors. No ball has what is not a number.
"""

import math
from collections import namedtuple

from numba import njit

from pudle.rows import (
    LANES,
    OPTIONS,
    add_few_rows,
    add_rows,
    clear,
    copy,
    n_nonzero,
    n_outside,
    nonzeros,
    padded,
    squared_distance,
)

WIDTH = 64  # entries of the largest working set: its K × K matrix stays in the first-level cache
SPARE = 4  # entries of a working set beyond the active ones, at least
PAY = 4  # narrow layers that a working set must promise, to pay for choosing it
HORIZON = 16  # layers that a ball may hold for where decay lowers the level
ROUNDING = 32  # rounding errors of an entry of u, in epsilons of ‖u‖

# W and Dᵀ (atoms) are padded with zeros: p to P and m to M, multiples of 16. coherence: root mean square of W off the diagonal.
Problem = namedtuple(
    "Problem", "transfer atoms levels hard nonnegative coherence epsilon infinity lam n_atoms first stop backward"
)
# z_t of one sample is 0 outside index[r, :count[r]], r = row[t]. Where shared[r] these entries are a working set, r is the row of
# all its layers, and values[t, k] belongs to entry index[r, k]. Elsewhere r is t, and values[t] is z_t itself.
History = namedtuple("History", "index values row count shared")
# drive, u, codes (two layers by turns) and bar are (P,). Of the working set last chosen: weight ‖W_{B,i}‖² (P,), gram W_BB, and
# inside, which is drive on B. nothing: zeros. identity: 0, 1, 2, …
Scratch = namedtuple(
    "Scratch",
    "drive u codes bar residual nothing identity weight ratio ratio_bits gram inside anchor back row errors"
    " ring_codes ring_errors ring_held",
)


@njit(forceinline=True, **OPTIONS)
def below(level, problem):
    """Entries within (below, level) become 0: −level, or −∞ for non-negative codes."""
    return -problem.infinity if problem.nonnegative else -level


@njit(forceinline=True, **OPTIONS)
def shrink(out, u, level, problem):
    """out = P_t(u), elementwise; what is not a number passes."""
    low = below(level, problem)
    if problem.hard:
        for j in range(out.shape[0]):
            out[j] = level * 0 if (u[j] > low) & (u[j] < level) else u[j]
    else:
        for j in range(out.shape[0]):
            out[j] = u[j] - min(max(u[j], low), level)


@njit(forceinline=True, **OPTIONS)
def keep(problem, history, t, codes, earlier):
    """Keep z_t = ``codes`` (P,), with a row of its own; returns how many entries are not 0.

    earlier : a row that most often has them all
    """
    index, count, complete = history.index[t], 0, False
    if 16 * history.count[earlier] < codes.shape[0]:
        for k in range(history.count[earlier]):
            j = history.index[earlier, k]
            index[count] = j
            count += codes[j] != 0
        complete = count == n_nonzero(codes)
    if not complete:
        count = nonzeros(codes, index)
    history.row[t], history.count[t], history.shared[t] = t, count, False
    if problem.backward:
        copy(history.values[t], codes)
    return count


@njit(forceinline=True, **OPTIONS)
def keep_shared(history, t, row, codes):
    """Keep what the working set of ``row`` holds of z_t = ``codes`` (P,); returns how many entries of it are not 0."""
    index, values, count, active = history.index[row], history.values[t], history.count[row], 0
    history.row[t] = row
    for k in range(count):
        values[k] = codes[index[k]]
        active += values[k] != 0
    return active


@njit(forceinline=True, **OPTIONS)
def last_layer(problem, t):
    """The layer before which a ball found before layer t ends."""
    n_layers, levels = problem.levels.shape[0], problem.levels
    return n_layers if levels[n_layers - 1] == levels[0] else min(n_layers, t + HORIZON)


@njit(forceinline=True, **OPTIONS)
def gather(transfer, index, count, gram):
    """gram (K, K) = W_BB, with columns of zeros beyond the entries of B."""
    for a in range(count):
        row, out = transfer[index[a]], gram[a]
        for b in range(count):
            out[b] = row[index[b]]
        for b in range(count, padded(count)):
            out[b] = 0


@njit(**OPTIONS)
def choose(problem, history, scratch, t, width, level):
    """A working set of at most ``width`` entries around u_{t-1}, as row t of the history; whether there is one."""
    u, transfer, index, weight, inside = scratch.u, problem.transfer, history.index[t], scratch.weight, scratch.inside
    none, cut = level * 0, level
    for _ in range(8):  # bisection for the smallest cut with few enough entries above it
        middle = (none + cut) / 2
        if n_outside(u, below(middle, problem), middle) > width:
            none = middle
        else:
            cut = middle
    low, count = below(cut, problem), 0
    for j in range(problem.n_atoms):  # without branches, as they could not be predicted
        index[count] = j
        count += not ((u[j] > low) & (u[j] < cut))
    if count > width:
        return False
    history.count[t], history.shared[t] = count, True
    clear(weight)
    for k in range(count):
        row = transfer[index[k]]
        for j in range(weight.shape[0]):
            weight[j] += row[j] * row[j]
    clear(inside)
    for k in range(count):
        inside[k] = scratch.drive[index[k]]
    gather(transfer, index, count, scratch.gram)
    return True


@njit(forceinline=True, **OPTIONS)
def squared_radius(problem, history, scratch, row, level):
    """How far codes may move from where they gave u before an entry outside the set of ``row`` may reach ``level``, squared."""
    u, weight, ratio, bits = scratch.u, scratch.weight, scratch.ratio, scratch.ratio_bits
    size, zero = u[0] * 0, level * 0
    for j in range(u.shape[0]):
        size += u[j] * u[j]
    level -= ROUNDING * problem.epsilon * math.sqrt(size)
    low = below(level, problem)
    for j in range(u.shape[0]):
        margin = max(min(level - u[j], u[j] - low), zero)
        ratio[j] = weight[j] / (margin * margin)
    for k in range(history.count[row]):
        ratio[history.index[row, k]] = 0
    top = bits[0]  # as integers, which are faster to compare, numbers ≥ 0 have the same order, and NaN comes last
    for j in range(bits.shape[0]):
        top = max(top, bits[j])
    bits[0] = top
    return 0.999 / ratio[0]


@njit(**OPTIONS)
def forward(problem, history, scratch, tally):
    """All layers of one sample from ``first`` on, where codes[first % 2] and row ``first`` of the history hold its codes."""
    n_layers, u = problem.levels.shape[0], scratch.u
    widest, t = min(WIDTH, u.shape[0] // 2), problem.first
    while t < n_layers:
        before, after, earlier = scratch.codes[t % 2], scratch.codes[(t + 1) % 2], history.row[t]
        add_rows(u, scratch.drive, problem.transfer, history.index[earlier], before, history.count[earlier])
        shrink(after, u, problem.levels[t], problem)
        t += 1
        tally[0] += 1
        active, width, stays = 0, padded(history.count[earlier]), False
        if history.shared[earlier]:  # the working set stays if it holds all of z_t, and is not much too large for it
            active = keep_shared(history, t, earlier, after)
            stays = active == n_nonzero(after) and width < active + SPARE + LANES
        if not stays:
            active = keep(problem, history, t, after, earlier)
            width = padded(active + SPARE)
        if t == n_layers or width > widest:
            continue
        moved, level = squared_distance(after, before), problem.levels[last_layer(problem, t) - 1]
        if not PAY * PAY * moved * problem.coherence * problem.coherence * width < 0.1 * level * level:
            continue
        radius = squared_radius(problem, history, scratch, earlier, level) if stays else 0.0
        if not moved < radius:
            if not choose(problem, history, scratch, t, width, level):
                keep(problem, history, t, after, earlier)
                continue
            tally[2] += 1
            held, index = 0, history.index[t]
            for k in range(history.count[t]):
                held += before[index[k]] != 0
            keep_shared(history, t, t, after)
            if held == n_nonzero(before):
                radius = squared_radius(problem, history, scratch, t, level)
        if moved < radius:
            start, t = t, narrow_layers(problem, history, scratch, t, moved, radius)
            tally[1] += t - start


@njit(forceinline=True, **OPTIONS)
def narrow_layers(problem, history, scratch, t, moved, radius):
    """Layers from t on, on the set that holds z_{t-1} and z_t, within the ball around z_{t-1}; returns the next layer."""
    before, after, row = scratch.codes[(t - 1) % 2], scratch.codes[t % 2], history.row[t]
    index, count, width, end = history.index[row], history.count[row], padded(history.count[row]), last_layer(problem, t)
    anchor = scratch.anchor[:width]
    clear(anchor)
    for k in range(count):
        anchor[k] = before[index[k]]
        before[index[k]] = 0
        after[index[k]] = 0
    while t < end and moved < radius:
        following = history.values[t + 1][:width]
        add_few_rows(following, scratch.inside, scratch.gram, scratch.identity, history.values[t], count)
        shrink(following, following, problem.levels[t], problem)
        moved = squared_distance(following, anchor)
        t += 1
        history.row[t] = row
    final, values = scratch.codes[t % 2], history.values[t]
    for k in range(count):
        final[index[k]] = values[k]
    return t
