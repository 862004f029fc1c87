"""Sparse layers whose back-propagation comes in a later call: what of a :class:`pudle.kernels.memory.History` is kept, and how.

A history has room for all entries of a layer, of which most are 0. :class:`pudle.kernels.memory.KeptLayers` has those entries alone that may
differ from 0, one layer after another and one sample after another. Samples for which it has no room run again.
"""

from pudle.kernels.backward import backward, flush, load_sample
from pudle.kernels.cache import compiled, inner
from pudle.kernels.forward import N_LAYERS, forward
from pudle.kernels.simd import LANES, OPTIONS, clear, compress, copy, expand, padded, pick


@compiled(**OPTIONS)
def run_and_keep(drive, codes, problem, history, scratch, kept, tally):
    """Layers of the samples of a task: z_T to ``codes`` (n, p), which are z_first before, and all layers from there on to ``kept``.

    drive : α x D (n, p); tally : (5,) int64, increased
    """
    n_layers, first = problem.levels.shape[0], problem.first
    kept.held[0] = 0
    if drive.shape[0]:
        kept.starts[0, 0] = kept.starts[0, 1] = kept.starts[0, 2] = 0
    for i in range(drive.shape[0]):
        load_sample(scratch.codes[problem.first % 2], drive[i], codes[i], problem, history, scratch)
        tally[N_LAYERS] += forward(problem, history, scratch, tally)
        copy(codes[i], scratch.codes[n_layers % 2])
        if kept.held[0] == i:  # all samples so far had room
            kept.held[0] += pack(kept, i, history, first)


@compiled(**OPTIONS)
def pull_back_kept(drive, codes, back, errors, problem, history, scratch, kept, products, tally):
    """:func:`pudle.kernels.backward.backward` for the samples of a task, from z̄_T in ``back`` (n, p), which becomes z̄_first.

    Samples that are not ``kept`` run again, from z_first in ``codes`` (n, p). The other arguments are those of
    :func:`pudle.kernels.backward.run_samples`.
    """
    bar = scratch.bar
    for i in range(drive.shape[0]):
        if i < kept.held[0]:
            unpack(history, scratch, kept, i, problem.first)
            scratch.gathered[0] = -1
        else:
            load_sample(scratch.codes[problem.first % 2], drive[i], codes[i], problem, history, scratch)
            tally[N_LAYERS] += forward(problem, history, scratch, tally)
        clear(bar[problem.n_atoms :])
        copy(bar[: problem.n_atoms], back[i])
        backward(bar, problem, history, scratch, products, errors[i])
        copy(back[i], bar)
    if problem.weights:
        flush(products, problem, scratch)


@inner(**OPTIONS)
def pack(kept, i, history, first):
    """Keep z_first, …, z_T of sample i after those of the samples before it, if there is room; returns whether there is."""
    value, mark, place = kept.starts[i, 0], kept.starts[i, 1], kept.starts[i, 2]
    width, room = history.values.shape[1], kept.places.shape[0]
    for t in range(first, history.row.shape[0]):
        r = history.row[t]
        count, shared = history.count[r], history.shared[r]
        if value + width + LANES > kept.values.shape[0] or max(mark, place) + width > room:
            return False
        kept.rows[i, t], kept.widths[i, t] = r, -1
        if shared and r == t:
            kept.widths[i, t] = count
            for k in range(count):
                kept.places[place + k] = history.index[t, k]
            place += count
        values = history.values[t][: padded(count) if shared else width]
        value += compress(kept.values, value, kept.marks, mark, values)
        mark += values.shape[0] // 8
    if i + 1 < kept.starts.shape[0]:
        kept.starts[i + 1, 0], kept.starts[i + 1, 1], kept.starts[i + 1, 2] = value, mark, place
    return True


@inner(**OPTIONS)
def unpack(history, scratch, kept, i, first):
    """The history of sample i as it was when :func:`pack` kept it."""
    value, mark, place = kept.starts[i, 0], kept.starts[i, 1], kept.starts[i, 2]
    for t in range(first, history.row.shape[0]):
        r, values = kept.rows[i, t], history.values[t]
        history.row[t] = r
        if r == t:
            count, index = kept.widths[i, t], history.index[t]
            history.count[t], history.shared[t] = count, count >= 0
            for k in range(count):
                index[k] = kept.places[place + k]
            place += max(count, 0)
        if history.shared[r]:
            values = values[: padded(history.count[r])]
        value += expand(values, kept.values, value, kept.marks, mark)
        mark += values.shape[0] // 8
        if not history.shared[r]:
            history.count[t] = pick(history.index[t], scratch.identity, values)
