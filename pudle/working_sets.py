r"""Unrolled layers on few active entries: exact, in compiled code, sample by sample.

With :math:`W = I − αDᵀD` a layer is :math:`u_t = z_t W + α x D`, :math:`z_{t+1} = P_t(u_t)`, and few entries of z_t are not 0.
A **wide** layer adds up the rows of W of these entries: all p entries of u_t, exactly. Where codes move slowly a **working set**
B of K ≤ 64 entries, those with the largest :math:`|u_t|`, then goes through **narrow** layers, with W_BB alone. They lose nothing:
for an entry i outside B

.. math::
    |u_{s,i}| ≤ |u_{t,i}| + ‖W_{B,i}‖_2 ‖z_s − z_t‖_2,

so it stays 0 as long as :math:`‖z_s − z_t‖_2 ≤ \min_{i ∉ B} (level − |u_{t,i}|) / ‖W_{B,i}‖_2`, the set's **radius**. As z_s is known
before layer s is computed, the layer that leaves the ball is simply wide again, and no layer is ever taken back. The level is the
lowest of the layers to come, as decay lowers it. What is not a number is in no ball.

Back through the layers nothing has to be watched: :math:`\bar u_t` lives where z_{t+1} is not 0. Layers with one working set
collect :math:`S_{BB} = \sum_t z_tᵀ \bar u_t` in a K × K matrix, the others several at a time in the rows of S.
"""

import math
from collections import namedtuple

import numpy as np
import torch
from numba import njit

from pudle.rows import LANES, OPTIONS, add_few_rows, add_products, add_rows, nonzeros

WIDTH = 64  # entries of the largest working set: its K × K matrix stays in the first-level cache
SPARE = 4  # entries of a working set beyond the active ones, at least
PAY = 4  # narrow layers that a working set must promise, to pay for choosing it
HORIZON = 16  # layers that a radius may hold for where decay lowers the level
ROUNDING = 32  # rounding errors of a pre-activation, in epsilons of ‖u‖
RING = 16  # layers whose outer products are added to S in one go

# below: the row of W for each atom; atoms: Dᵀ. Rows are padded with zeros to a multiple of 16 columns: P, M.
Problem = namedtuple(
    "Problem", "transfer atoms levels hard nonnegative coherence epsilon infinity lam n_atoms first stop backward"
)
# z_t of one sample is 0 outside index[r, :count[r]] with r = row[t]. Where shared[r], these are a working set, r is the row of all its
# layers, and values[t] lists the entries of z_t on it; elsewhere values[t] is z_t itself, all of it.
History = namedtuple("History", "index values row count shared")
Scratch = namedtuple(
    "Scratch",
    "drives nothing u codes weight ratio ratio_bits identity gram inside anchor back outer errors bar residual "
    "ring_codes ring_errors ring_held",
)


@njit(forceinline=True, **OPTIONS)
def copy(out, values):
    """out = values. (Slice assignment looks for overlaps first.)"""
    for j in range(out.shape[0]):
        out[j] = values[j]


@njit(forceinline=True, **OPTIONS)
def below(level, problem):
    """Entries within (below, level) become 0: −level, or −∞ for non-negative codes."""
    return -problem.infinity if problem.nonnegative else -level


@njit(forceinline=True, **OPTIONS)
def shrink(out, u, low, level, hard):
    """out = P_t(u), elementwise; what is not a number passes."""
    if hard:
        for j in range(out.shape[0]):
            out[j] = level * 0 if (u[j] > low) & (u[j] < level) else u[j]
    else:
        for j in range(out.shape[0]):
            out[j] = u[j] - min(max(u[j], low), level)


@njit(forceinline=True, **OPTIONS)
def squared_distance(a, b):
    """‖a − b‖²."""
    total = a[0] * 0
    for j in range(a.shape[0]):
        total += (a[j] - b[j]) * (a[j] - b[j])
    return total


@njit(forceinline=True, **OPTIONS)
def n_outside(u, low, high):
    """How many entries are not within (low, high)."""
    count = np.int32(0)
    for j in range(u.shape[0]):
        count += not ((u[j] > low) & (u[j] < high))
    return count


@njit(forceinline=True, **OPTIONS)
def outside(u, n, low, high, index):
    """Write which of the first n entries are not within (low, high) to ``index``; returns how many. No branches: none is predictable."""
    count = 0
    for j in range(n):
        index[count] = j
        count += not ((u[j] > low) & (u[j] < high))
    return count


@njit(forceinline=True, **OPTIONS)
def n_nonzero(z):
    """How many entries are not 0."""
    count = np.int32(0)
    for j in range(z.shape[0]):
        count += z[j] != 0
    return count


@njit(forceinline=True, **OPTIONS)
def keep(problem, history, t, codes, earlier):
    """Keep z_t, dense (P,), with a row of its own that lists its entries that are not 0; returns how many.

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
    """Keep z_t, dense (P,), on the working set of ``row``; returns how many entries there are not 0."""
    index, values, count, active = history.index[row], history.values[t], history.count[row], 0
    history.row[t] = row
    for k in range(count):
        values[k] = codes[index[k]]
        active += values[k] != 0
    return active


@njit(**OPTIONS)
def choose(problem, history, scratch, t, width):
    """A working set of at most K = ``width`` entries around u_{t-1} as row t of the history; whether there is one."""
    u, transfer, n = scratch.u, problem.transfer, problem.n_atoms
    level = lowest_level(problem, t)
    none, cut = level * 0, level
    for _ in range(8):  # bisection for the smallest cut with at most K entries above it
        middle = (none + cut) / 2
        if n_outside(u, below(middle, problem), middle) > width:
            none = middle
        else:
            cut = middle
    index = history.index[t]
    count = outside(u, n, below(cut, problem), cut, index)
    if count > width:
        return False
    history.count[t], history.shared[t] = count, True
    weight = scratch.weight
    for j in range(weight.shape[0]):
        weight[j] = 0
    for k in range(count):
        row = transfer[index[k]]
        for j in range(weight.shape[0]):
            weight[j] += row[j] * row[j]
    for k in range(count):
        weight[index[k]] = 0
    gather(transfer, index, count, width, scratch.gram)
    return True


@njit(forceinline=True, **OPTIONS)
def lowest_level(problem, t):
    """The lowest level of the layers from t on that a radius holds for."""
    return problem.levels[last_layer(problem, t) - 1]


@njit(forceinline=True, **OPTIONS)
def last_layer(problem, t):
    """The layer before which a radius found at layer t ends."""
    n_layers, levels = problem.levels.shape[0], problem.levels
    return n_layers if levels[n_layers - 1] == levels[0] else min(n_layers, t + HORIZON)


@njit(forceinline=True, **OPTIONS)
def squared_radius(problem, scratch, level):
    """Squared: how far codes may move from where they gave u until an entry outside the working set may wake; weight: ‖W_{B,i}‖², 0 in B."""
    u, weight, ratio, bits = scratch.u, scratch.weight, scratch.ratio, scratch.ratio_bits
    size = u[0] * 0
    for j in range(u.shape[0]):
        size += u[j] * u[j]
    level -= ROUNDING * problem.epsilon * math.sqrt(size)
    low, tiny = below(level, problem), problem.epsilon * problem.epsilon
    for j in range(u.shape[0]):
        margin = max(min(level - u[j], u[j] - low), tiny)
        ratio[j] = weight[j] / (margin * margin)
    top = bits[0]
    for j in range(bits.shape[0]):  # non-negative floats and what is not a number compare like the integers of their bits
        top = max(top, bits[j])
    bits[0] = top
    return u.dtype.type(0.999) / ratio[0]


@njit(forceinline=True, **OPTIONS)
def gather(transfer, index, count, width, gram):
    """gram (K, K) = W_BB, with zeros beyond the entries of B."""
    for a in range(count):
        row, out = transfer[index[a]], gram[a]
        for b in range(count):
            out[b] = row[index[b]]
        for b in range(count, width):
            out[b] = 0


@njit(**OPTIONS)
def forward(problem, history, scratch, tally):
    """All layers of one sample from ``first`` on, where codes[first % 2] and row ``first`` of the history hold its codes."""
    levels, n_layers, hard = problem.levels, problem.levels.shape[0], problem.hard
    u, drives, gram, inside, anchor = scratch.u, scratch.drives, scratch.gram, scratch.inside, scratch.anchor
    t, width, row = problem.first, 0, 0
    while t < n_layers:
        before, after = scratch.codes[t % 2], scratch.codes[(t + 1) % 2]
        r = history.row[t]
        add_rows(u, drives, problem.transfer, history.index[r], before, history.count[r])
        shrink(after, u, below(levels[t], problem), levels[t], hard)
        tally[0] += 1
        t += 1
        zero = levels[0] * 0
        # the working set stays if it holds all of z_t, and if it is not much too large
        active, stays = 0, False
        if width > 0:
            active = keep_shared(history, t, row, after)
            stays = active + SPARE + LANES > width and active == n_nonzero(after)
        if not stays:
            active, width = keep(problem, history, t, after, r), 0
        if t == n_layers:
            break
        wanted = width if stays else (active + SPARE + LANES - 1) // LANES * LANES
        level = lowest_level(problem, t)
        if wanted > min(WIDTH, u.shape[0] // 2):
            continue
        moved = squared_distance(after, before)
        if not PAY * PAY * moved * problem.coherence * problem.coherence * wanted <= u.dtype.type(0.1) * level * level:
            continue
        reach = squared_radius(problem, scratch, level) if stays else zero
        if not moved <= reach:
            width = 0
            if not choose(problem, history, scratch, t, wanted):
                keep(problem, history, t, after, r)
                continue
            tally[2] += 1
            row, width = t, wanted
            index, count = history.index[row], history.count[row]
            held = 0
            for k in range(count):
                held += before[index[k]] != 0
            keep_shared(history, t, row, after)
            for k in range(count):
                inside[k] = drives[index[k]]
            for k in range(count, width):
                inside[k] = 0
            reach = squared_radius(problem, scratch, level)
            if held != n_nonzero(before):
                reach = zero
        index, count = history.index[row], history.count[row]
        values = history.values[t]
        for k in range(count):
            anchor[k] = before[index[k]]
        for k in range(count, width):
            anchor[k] = 0
            values[k] = 0
        last, start = last_layer(problem, t), t
        while t < last and moved <= reach:
            z, following = history.values[t], history.values[t + 1][:width]
            add_few_rows(following, inside, gram, scratch.identity, z, count)
            shrink(following, following, below(levels[t], problem), levels[t], hard)
            moved = squared_distance(following, anchor)
            t += 1
            history.row[t] = row
        tally[1] += t - start
        if t > start:
            for k in range(count):
                before[index[k]] = 0
                after[index[k]] = 0
            final, values = scratch.codes[t % 2], history.values[t]
            for k in range(count):
                final[index[k]] = values[k]


@njit(**OPTIONS)
def flush(products, scratch):
    """S (p, P) += Σ_k z_kᵀ ū_k over the layers held back in the ring."""
    codes, used = scratch.ring_codes, scratch.ratio
    for j in range(used.shape[0]):
        used[j] = 0
    for k in range(RING):
        for j in range(used.shape[0]):
            used[j] += abs(codes[k, j])
    add_products(products, used, scratch.ring_errors, scratch.identity, codes, RING)
    for k in range(RING):
        for j in range(used.shape[0]):
            codes[k, j] = 0
    scratch.ring_held[0] = 0


@njit(forceinline=True, **OPTIONS)
def spread(out, history, t):
    """out (P,) = z_t."""
    r = history.row[t]
    if history.shared[r]:
        for j in range(out.shape[0]):
            out[j] = 0
        for k in range(history.count[r]):
            out[history.index[r, k]] = history.values[t, k]
    else:
        copy(out, history.values[t])


@njit(**OPTIONS)
def backward(bar, problem, history, scratch, products, inputs):
    """Back through one sample's layers: adds to S (p, P) and Σ ū (P,), and turns ``bar`` from z̄_T into z̄_stop, all (P,)."""
    t = problem.levels.shape[0]
    while t > problem.stop:
        r = history.row[t]
        if t - 1 >= problem.stop and history.row[t - 1] == r:
            t = backward_narrow(bar, problem, history, scratch, products, inputs, t)
            continue
        index, count, z = history.index[r], history.count[r], scratch.u
        spread(z, history, t)
        slot = scratch.ring_held[0]
        u = scratch.ring_errors[slot]
        zero = problem.levels[0] * 0
        for j in range(bar.shape[0]):
            u[j] = bar[j] if z[j] != 0 else zero
        for j in range(bar.shape[0]):
            inputs[j] += u[j]
        add_rows(bar, scratch.nothing, problem.transfer, index, u, count)
        t -= 1
        spread(scratch.ring_codes[slot], history, t)
        scratch.ring_held[0] = slot + 1
        if slot + 1 == RING:
            flush(products, scratch)


@njit(**OPTIONS)
def backward_narrow(bar, problem, history, scratch, products, inputs, t):
    """``backward`` through the layers before z_t that share its working set; returns the index of the codes it ends at."""
    r, end, gram, errors = history.row[t], t, scratch.gram, scratch.errors
    index, count = history.index[r], history.count[r]
    width = (count + LANES - 1) // LANES * LANES
    back, total, row, nothing = scratch.back[:width], scratch.anchor[:width], scratch.outer[:width], scratch.nothing
    gather(problem.transfer, index, count, width, gram)
    for k in range(width):
        back[k] = bar[index[k]] if k < count else 0
        total[k] = 0
    while t - 1 >= problem.stop and history.row[t - 1] == r:
        u, z = errors[t - 1], history.values[t]
        for k in range(width):
            u[k] = back[k] if (k < count) & (z[k] != 0) else 0
            total[k] += u[k]
        add_few_rows(back, nothing, gram, scratch.identity, u, count)
        t -= 1
    for a in range(count):
        add_few_rows(row, nothing, errors, scratch.identity[t:], history.values[:, a], end - t)
        for k in range(count):
            products[index[a], index[k]] += row[k]
    for j in range(bar.shape[0]):
        bar[j] = 0
    for k in range(count):
        inputs[index[k]] += total[k]
        bar[index[k]] = back[k]
    return t


@njit(**OPTIONS)
def run_samples(x, drive, codes, residual, back, errors, problem, history, scratch, products, tally):
    """Forward and, where asked for, backward, sample by sample; the arrays are those of ``SparseLayers.run``."""
    n_layers, n, first = problem.levels.shape[0], problem.n_atoms, problem.first
    z, drives, error = scratch.codes[first % 2], scratch.drives, scratch.residual
    for i in range(x.shape[0]):
        for j in range(z.shape[0]):
            z[j] = 0
        copy(drives[:n], drive[i])
        if first:
            copy(z[:n], codes[i])
        history.count[first] = n
        keep(problem, history, first, z, first)
        forward(problem, history, scratch, tally)
        index, count, final = (
            history.index[history.row[n_layers]],
            history.count[history.row[n_layers]],
            scratch.codes[n_layers % 2],
        )
        copy(codes[i], final)
        add_rows(error, scratch.nothing, problem.atoms, index, final, count)
        for j in range(x.shape[1]):
            error[j] -= x[i, j]
        copy(residual[i], error)
        if problem.backward:
            bar = scratch.bar
            for j in range(bar.shape[0]):
                bar[j] = 0
            for k in range(count):
                value = final[index[k]]
                if value != 0:
                    atom, dot = problem.atoms[index[k]], value * 0
                    for j in range(error.shape[0]):
                        dot += atom[j] * error[j]
                    bar[index[k]] = dot + math.copysign(problem.lam, value)
            backward(bar, problem, history, scratch, products, errors[i])
            if first:
                copy(back[i], bar)
    if problem.backward:
        flush(products, scratch)


class SparseLayers:
    """The layers of one call of :func:`pudle.gradients.unrolled_gradient`, for its blocks of samples one after the other.

    dictionary (m, p), transfer : W (p, p); lam : λ of the loss; stop : layers back-propagated through, from the last to ``stop``;
    tasks : parts of a block, each with its own memory and its own part of the sums, which so do not depend on the number of threads.

    products : S (p, p) so far. layers : how many layers ran wide, how many narrow, and how many working sets were chosen.
    """

    def __init__(self, dictionary, transfer, unrolling, *, lam, stop, tasks):
        (m, p), n_layers, dtype = dictionary.shape, unrolling.n_layers, dictionary.numpy().dtype
        number, width = dtype.type, _padded(p)
        self._stop, self._backward, self._p = stop, stop < n_layers, p
        off_diagonal = transfer.double().square().sum() - transfer.diagonal().double().square().sum()
        self._problem = Problem(
            transfer=_pad(transfer),
            atoms=_pad(dictionary.T),
            levels=np.array([unrolling.level(t) for t in range(n_layers)], dtype),
            hard=unrolling.hard,
            nonnegative=unrolling.nonnegative,
            coherence=number(math.sqrt(max(float(off_diagonal), 0.0) / max(p * (p - 1), 1))),
            epsilon=np.finfo(dtype).eps,
            infinity=number(np.inf),
            lam=number(lam),
            n_atoms=p,
            first=0,
            stop=stop,
            backward=self._backward,
        )
        self._memory = [_memory(n_layers, m, width, dtype) for _ in range(tasks)]
        self._products = [np.zeros((p if self._backward else 0, width), dtype) for _ in range(tasks)]
        self._tallies = np.zeros((tasks, 3), np.int64)

    @property
    def products(self):
        return torch.from_numpy(sum(self._products[1:], self._products[0])[:, : self._p])

    @property
    def layers(self):
        return dict(zip(("wide", "narrow", "sets"), self._tallies.sum(0).tolist(), strict=True))

    def run(self, x, drive, codes, first, pool):
        """Residual D z_T − x (n, m), and where back-propagated z̄ (n, p) at layer ``first`` and Σ ū (n, p), of a block.

        x : (n, m); drive : α x D (n, p); codes : z_first (n, p), which becomes z_T; pool : threads
        """
        rows = len(x) if self._backward else 0
        residual, back = torch.empty_like(x), x.new_empty(rows if first else 0, self._p)
        errors = x.new_zeros(rows, self._problem.transfer.shape[1])
        problem = self._problem._replace(first=first, stop=max(first, self._stop))
        arrays = [tensor.numpy() for tensor in (x, drive, codes, residual, back, errors)]
        tasks = range(len(self._memory))
        cuts = np.linspace(0, len(x), len(tasks) + 1).astype(int)

        def run(task):
            torch.set_flush_denormal(True)
            block = [array[cuts[task] : cuts[task + 1]] for array in arrays]
            run_samples(*block, problem, *self._memory[task], self._products[task], self._tallies[task])

        list(map(run, tasks) if len(tasks) == 1 or torch.get_num_threads() == 1 else pool.map(run, tasks))
        return residual, back, errors[:, : self._p]


def _padded(width):
    return -(-width // LANES) * LANES


def _pad(matrix):
    """``matrix`` as an array with rows and columns of zeros up to multiples of 16."""
    array = np.zeros([_padded(size) for size in matrix.shape], matrix.numpy().dtype)
    array[: matrix.shape[0], : matrix.shape[1]] = matrix.numpy()
    return array


def _memory(n_layers, m, width, dtype):
    """What one task works on. Most of a history is never touched, and so takes no memory."""
    n, number = n_layers + 1, dtype
    history = History(
        index=np.empty((n, width + LANES), np.int32),
        values=np.empty((n, width), number),
        row=np.empty(n, np.int64),
        count=np.empty(n, np.int64),
        shared=np.empty(n, np.bool_),
    )
    ratio = np.zeros(width, number)
    scratch = Scratch(
        drives=np.zeros(width, number),
        nothing=np.zeros(max(width, _padded(m), WIDTH), number),
        u=np.zeros(width, number),
        codes=np.zeros((2, width), number),
        weight=np.zeros(width, number),
        ratio=ratio,
        ratio_bits=ratio.view(f"i{ratio.itemsize}"),
        identity=np.arange(max(n, WIDTH, RING), dtype=np.int32),
        gram=np.zeros((WIDTH, WIDTH), number),
        inside=np.zeros(WIDTH, number),
        anchor=np.zeros(WIDTH, number),
        back=np.zeros(WIDTH, number),
        outer=np.zeros(WIDTH, number),
        errors=np.empty((n_layers, WIDTH), number),
        bar=np.zeros(width, number),
        residual=np.zeros(_padded(m), number),
        ring_codes=np.zeros((RING, width), number),
        ring_errors=np.zeros((RING, width), number),
        ring_held=np.zeros(1, np.int64),
    )
    return history, scratch
