"""The compiled loops of sparse layers (pudle/kernels/forward.py, backward.py, simd.py) against plain NumPy versions of each step."""

import numpy as np
import pytest
import torch
from convolutions import make
from numba import njit

import pudle
from pudle.core.unrolling import Unrolling
from pudle.kernels import backward, forward, image_layers, kept_layers, simd, thresholding
from pudle.kernels.memory import KeptLayers
from pudle.kernels.sparse_layers import SparseLayers


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [16, 48, 96, 128, 208])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_sums_over_chosen_rows_are_those_of_numpy(dtype, width, count):
    draw = np.random.default_rng(0)
    matrix, row, values = (draw.standard_normal(shape).astype(dtype) for shape in ((7, width), width, 7))
    index = draw.permutation(7).astype(np.uint32)
    chosen, tolerance = index[:count], 100 * np.finfo(dtype).eps

    added = matrix.copy()
    _outer(added, index, values, -0.5, count, row)
    expected = matrix.copy()
    expected[chosen] += -0.5 * values[chosen, None] * row
    np.testing.assert_allclose(added, expected, rtol=tolerance, atol=tolerance)

    out = np.zeros(7, dtype)
    _dots(out, values, -0.5, matrix, index, count, row)
    expected = np.zeros(7, dtype)
    expected[chosen] = values[chosen] - 0.5 * matrix[chosen] @ row
    np.testing.assert_allclose(out, expected, rtol=tolerance, atol=tolerance)


@njit
def _outer(matrix, index, values, factor, count, row):
    simd.add_outer(matrix, index, values, factor, count, row)


@njit
def _dots(out, base, factor, matrix, index, count, row):
    simd.add_dots(out, base, factor, matrix, index, count, row)


# Sparse layers: the steps of forward.py and backward.py.


def _draw(dtype, *shapes, seed=0, zeros=0.5):
    """Normal numbers, of which a share is 0."""
    draw = np.random.default_rng(seed)
    return [(draw.standard_normal(shape) * (draw.random(shape) >= zeros)).astype(dtype) for shape in shapes]


def _close(found, expected):
    tolerance = 100 * np.finfo(expected.dtype).eps
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def _shrink(u, level, *, hard, nonnegative):
    if hard:
        return np.where((u < level) & (nonnegative | (u > -level)), 0, u)
    return np.maximum(u - level, 0) if nonnegative else np.sign(u) * np.maximum(abs(u) - level, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [16, 32, 48, 64, 80, 112, 128, 272])
@pytest.mark.parametrize("count", [0, 1, 6])
def test_weighted_sums_of_rows_are_those_of_numpy(dtype, width, count):
    base, matrix, values = _draw(dtype, width, (7, width), 7)
    index = np.random.default_rng(1).permutation(7).astype(np.uint32)
    expected = base + values[index[:count]] @ matrix[index[:count]]
    for add in (simd.add_rows, simd.add_strips) + ((simd.add_few_rows,) if width <= 64 else ()):
        out = np.full(width, np.nan, dtype)
        add(out, base, matrix, index, values, count)
        _close(out, expected)
    total, used, factors = _draw(dtype, (5, width), 5, (7, 5), seed=2)
    expected = total + (used != 0)[:, None] * (factors[index[:count]].T @ matrix[index[:count]])
    simd.add_products(total, used, matrix, index, factors, count)
    _close(total, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("zeros", [0.0, 0.7, 1.0])
def test_entries_that_are_not_0_are_packed_and_unpacked_as_by_numpy(dtype, zeros):
    width = 48
    values, flags, total = _draw(dtype, width, width, width, zeros=zeros)
    flags[5] = np.nan  # not 0
    kept = flags != 0
    for source in (values, np.arange(width, dtype=np.uint32)):
        out = np.full(width + 16, 7, source.dtype)
        assert simd.pick(out, source, flags) == kept.sum() == simd.n_nonzero(flags)
        np.testing.assert_array_equal(out[: kept.sum()], source[kept])
        simd.pick_padded(out, source, flags)
        np.testing.assert_array_equal(out[: simd.padded(kept.sum())], np.pad(source[kept], (0, -kept.sum() % 16)))
    expected = total.copy()
    expected[kept] += values[: kept.sum()]
    simd.add_spread(total, values, flags)
    np.testing.assert_array_equal(total, expected)
    assert simd.n_outside(flags, dtype(-0.5), dtype(0.5)) == width - ((flags > -0.5) & (flags < 0.5)).sum()
    simd.copy(total, values)
    np.testing.assert_array_equal(total, values)
    simd.clear(total)
    assert not total.any() and [simd.padded(n) for n in (0, 1, 16, 17)] == [0, 16, 16, 32]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("zeros", [0.0, 0.7, 1.0])
def test_vectors_are_compressed_and_expanded_again(dtype, zeros):
    (values,) = _draw(dtype, 48, zeros=zeros)
    values[5], values[6] = np.nan, -np.inf
    kept, out, marks = values != 0, np.full(70, 7, dtype), np.full(10, 7, np.uint8)
    assert _compress(out, 3, marks, 2, values) == kept.sum()
    np.testing.assert_array_equal(out[3 : 3 + kept.sum()], values[kept])
    np.testing.assert_array_equal(np.unpackbits(marks[2:8], bitorder="little"), kept)
    assert (out[:3] == 7).all() and (marks[[0, 1, 8, 9]] == 7).all()
    again = np.full(48, 7, dtype)
    assert _expand(again, out, 3, marks, 2) == kept.sum()
    np.testing.assert_array_equal(again, values)


@njit
def _compress(out, count, marks, place, values):
    return simd.compress(out, count, marks, place, values)


@njit
def _expand(out, values, count, marks, place):
    return simd.expand(out, values, count, marks, place)


KINDS = [{"hard": hard, "nonnegative": nonnegative} for hard in (False, True) for nonnegative in (False, True)]


def _layers(m=24, p=40, n_layers=12, decay=0.98, lam=0.2, hard=False, nonnegative=False, noise=0.0):
    """A dictionary and its layers in NumPy, in float64: W, thresholds, :class:`SparseLayers` and the dictionary."""
    data = pudle.make_sparse_data(6, m, p, 2, seed=0, dtype=torch.float64, noise=noise)
    x, D = data.x, pudle.perturb_dictionary(data.dictionary, 0.05, 0)
    level = {"threshold": lam} if hard else {"lam": lam, "decay": decay}
    unrolling = Unrolling(**level, nonnegative=nonnegative, step=0.2, n_layers=n_layers)
    transfer = torch.zeros(48, 48, dtype=torch.float64)
    transfer[:p, :p] = torch.eye(p) - 0.2 * D.T @ D
    return x, D, unrolling, SparseLayers(D, transfer, unrolling, lam=0.3, stop=0, tasks=1)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_steps_of_sparse_layers_are_those_of_numpy(kind):
    p, level = 40, 0.3
    *_, layers = _layers(**kind)
    problem, (history, scratch) = layers._problem._replace(backward=True), layers._memory[0]
    W, norms = problem.transfer, problem.norms
    (u,) = _draw(np.float64, 48, zeros=0.2)
    u[p:] = 0
    z = np.full(48, np.nan)
    thresholding.shrink(z, u, level, problem)
    np.testing.assert_allclose(z, _shrink(u, level, **kind), atol=1e-15)
    assert thresholding.below(level, problem) == (-np.inf if kind["nonnegative"] else -level)

    history.count[0] = 48
    assert forward.keep(problem, history, scratch.identity, 1, z, 0) == (z != 0).sum() == history.count[1]
    np.testing.assert_array_equal(history.index[1, : history.count[1]], z.nonzero()[0])
    np.testing.assert_array_equal(history.values[1], z)
    spread = np.full(48, np.nan)
    backward.spread(spread, history, 1)
    np.testing.assert_array_equal(spread, z)

    few, width = _draw(np.float64, 48, zeros=0.9)[0], 32  # a working set holds the largest entries
    few[p:] = 0
    score = few + u / 100 if not kind["nonnegative"] else abs(few + u / 100)
    assert forward.choose(problem, history, scratch, score, 2, width, level)
    chosen, rest = history.index[2, : history.count[2]], np.setdiff1d(np.arange(48), history.index[2, : history.count[2]])
    assert len(chosen) <= width and abs(score[rest]).max() <= abs(score[chosen]).min() and (abs(score[rest]) < level).all()
    np.testing.assert_array_equal(scratch.members, np.isin(np.arange(48), chosen))
    assert forward.keep_shared(history, 2, 2, few) == (few[chosen] != 0).sum()
    np.testing.assert_array_equal(history.values[2, : len(chosen)], few[chosen])
    assert forward.holds(history, 2, few) == np.isin(few.nonzero()[0], chosen).all()
    backward.spread(spread, history, 2)
    np.testing.assert_array_equal(spread, np.where(np.isin(np.arange(48), chosen), few, 0))
    for members in (scratch.members, np.ones(1000)):  # picked from a row, and looked up
        scratch.gram[:] = np.nan
        forward.gather(W, history.index[2], len(chosen), members, scratch.gram)
        np.testing.assert_array_equal(scratch.gram[: len(chosen), : len(chosen)], W[np.ix_(chosen, chosen)])
        assert not scratch.gram[: len(chosen), len(chosen) : simd.padded(len(chosen))].any()

    margin = level - (score if kind["nonnegative"] else abs(score))[rest]
    with np.errstate(divide="ignore"):
        expected = forward.SAFETY * (margin**2 / norms[rest]).min()
    assert forward.squared_radius(problem, history, scratch, score, 2, level) == pytest.approx(expected)
    change = 0.2 * (problem.atoms.T @ (z - few)) @ (problem.atoms.T @ (z - few))
    error = 1e-3 * np.linalg.norm(z - few)
    assert forward.squared_change(z, few, z @ W, few @ W, 1e-3) == pytest.approx(change + error)
    assert forward.size(u) == pytest.approx(np.linalg.norm(u))
    out = np.full(48, np.nan)
    forward.full_input(out, problem, history, scratch, 2, few)
    held = np.where(np.isin(np.arange(48), chosen), few, 0)
    np.testing.assert_allclose(out, held @ W + scratch.drive, atol=1e-14)
    decays = problem.levels[-1] < problem.levels[0]
    assert forward.last_layer(problem, 1) == (min(12, 1 + forward.HORIZON) if decays else 12)


@pytest.mark.parametrize("decoded", [False, True])
def test_the_steps_of_back_propagation_are_those_of_numpy(decoded):
    *_, layers = _layers()
    problem, (_, scratch) = layers._problem._replace(decoded=decoded), layers._memory[0]
    atoms, held = problem.atoms, 5
    codes, errors = _draw(np.float64, (held, 48), (held, 48), zeros=0.8)
    codes[:, 40:] = errors[:, 40:] = 0
    scratch.ring_codes[:held], scratch.ring_errors[:held], scratch.ring_held[0] = codes, errors, held
    S = codes.T @ errors
    total = np.ones((48, atoms.shape[1] if decoded else 48))
    expected = total + ((S + S.T) @ atoms if decoded else S)
    backward.flush(total, problem, scratch)
    np.testing.assert_allclose(total, expected, atol=1e-12)
    assert scratch.ring_held[0] == 0
    np.testing.assert_array_equal(backward.support(scratch.ratio, codes, held) != 0, codes.any(0))
    backward.decode_rows(scratch.ring_decoded, problem, scratch, codes, held)
    np.testing.assert_allclose(scratch.ring_decoded[:held], codes @ atoms, atol=1e-12)
    scratch.slopes[:] = 1, 2
    before, after = codes[0], np.where(errors[1] != 0, codes[1], 0)
    u = np.where(after != 0, errors[1], 0)
    backward.add_slopes(scratch, u, after, before, 0.7)
    np.testing.assert_allclose(scratch.slopes, [1 - 0.7 * u @ np.sign(after), 2 + u @ (after - before)])
    bar, error = np.full(48, np.nan), _draw(np.float64, atoms.shape[1])[0]
    index = np.pad(codes[0].nonzero()[0], (0, 16)).astype(np.uint32)
    backward.loss_error(bar, error, problem, index, codes[0], (codes[0] != 0).sum())
    np.testing.assert_allclose(bar, np.where(codes[0] != 0, atoms @ error + 0.3 * np.sign(codes[0]), 0), atol=1e-14)


def _restricted(codes, u, W, drive, levels, radius, kind):
    """Codes z_{t-1}, z_t, … on a working set, and α‖D(z_s − z_{t-1})‖² of the last layer that was considered."""
    anchor, codes = codes[0], list(codes)
    for level in levels:
        following = codes[-1] @ W + drive
        change = codes[-1] - anchor
        moved = change @ (change - (following - u))
        if moved >= radius:
            break
        codes.append(_shrink(following, level, **kind))
    return codes, moved


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_working_sets_and_their_layers_are_those_of_numpy(kind):
    p, t, number = 40, 3, np.float64
    *_, layers = _layers(**kind)
    problem, (history, scratch) = layers._problem._replace(backward=True), layers._memory[0]
    W, levels = problem.transfer, problem.levels
    (z,) = np.abs(_draw(number, 48, zeros=0.9))
    z[p:] = 0
    scratch.drive[:p] = _draw(number, p, seed=1, zeros=0)[0] / 10
    before, u = 0.9 * z, z * 1.1 + 1e-3 * np.arange(48) / 48
    u[p:] = 0
    widest, active = 32, (z != 0).sum()
    history.shared[t - 1] = False  # the memory may be that of an earlier call
    assert forward.keep_full(problem, history, scratch, t, t - 1, z, widest) == (active, 32, False)

    decide = (problem, history, scratch, np.zeros(5, np.int64), t, u, before, z)
    assert forward.find_working_set(*decide, t, active, 32, False, np.inf)[0] == forward.NO_SET
    found, radius, error = forward.find_working_set(*decide, t, active, 32, False, 0.0)
    index = history.index[t, : history.count[t]].copy()
    assert found == forward.NEW_SET and error == pytest.approx(forward.ROUNDING * np.finfo(number).eps * np.linalg.norm(u))
    low, margin = levels[forward.last_layer(problem, t) - 1], np.setdiff1d(np.arange(48), index)
    with np.errstate(divide="ignore"):
        expected = forward.SAFETY * ((low - np.abs(u[margin])) ** 2 / problem.norms[margin]).min()
    assert radius == pytest.approx(expected)
    np.testing.assert_array_equal(scratch.gram[: len(index), : len(index)], W[np.ix_(index, index)])
    np.testing.assert_array_equal(scratch.inside[: len(index)], scratch.drive[index])
    np.testing.assert_array_equal(history.values[t, : len(index)], z[index])
    assert scratch.gathered[0] == t and set(z.nonzero()[0]) <= set(index)
    assert forward.keep_full(problem, history, scratch, t, t, z, widest) == (active, simd.padded(len(index)), True)
    assert forward.find_working_set(*decide, t, active, 32, True, 0.0)[:2] == (forward.SAME_SET, pytest.approx(radius))

    for radius in (np.inf, 1e-2):
        scratch.codes[(t - 1) % 2], scratch.codes[t % 2], scratch.inputs[(t - 1) % 2] = before, z, u
        last, pace = forward.restricted_layers(problem, history, scratch, t, radius, 0.0)
        layers_left = levels[t : forward.last_layer(problem, t)]
        codes, moved = _restricted(
            (before[index], z[index]), u[index], W[np.ix_(index, index)], scratch.drive[index], layers_left, radius, kind
        )
        assert last == t + len(codes) - 2 and pace == pytest.approx(moved / (last - t + 1) ** 2)
        np.testing.assert_allclose(history.values[t : last + 1, : len(index)], codes[1:], atol=1e-12)
        np.testing.assert_allclose(scratch.codes[last % 2][index], codes[-1], atol=1e-12)
        assert (history.row[t : last + 1] == t).all() and not np.delete(scratch.codes[last % 2], index).any()


@pytest.mark.parametrize("decoded", [False, True])
def test_sums_on_a_working_set_are_those_of_numpy(decoded):
    *_, layers = _layers()
    problem, (history, scratch) = layers._problem._replace(backward=True, decoded=decoded), layers._memory[0]
    index, t, end = np.array([2, 5, 11, 30]), 1, 6
    history.index[t, :4], history.count[t], history.shared[t] = index, 4, True
    backward.gather_again(problem, history, scratch, t)
    np.testing.assert_array_equal(scratch.gram[:4, :4], problem.transfer[np.ix_(index, index)])
    np.testing.assert_array_equal(scratch.members, np.isin(np.arange(48), index))
    codes, errors = _draw(np.float64, (end - t, 4), (end - t, 4))
    history.values[t:end, :4], scratch.errors[t:end, :4] = codes, errors
    scratch.used[:4] = abs(codes).sum(0) + abs(errors).sum(0)
    S = np.zeros((48, 48))
    S[np.ix_(index, index)] = codes.T @ errors
    total = np.ones((48, problem.atoms.shape[1] if decoded else 48))
    expected = total + ((S + S.T) @ problem.atoms if decoded else S)
    backward.add_restricted_products(total, problem, history, scratch, t, t, end)
    np.testing.assert_allclose(total, expected, atol=1e-12)


def test_the_start_and_the_end_of_a_sample_are_those_of_numpy():
    x, D, unrolling, layers = _layers()
    problem, (history, scratch) = layers._problem._replace(backward=True, first=2), layers._memory[0]
    codes, z, residual = _draw(np.float64, 40, zeros=0.8)[0], np.full(48, np.nan), np.full(24, np.nan)
    drive, x, D = 0.2 * (x[0] @ D).numpy(), x[0].numpy(), D.numpy()
    backward.load_sample(z, drive, codes, problem, history, scratch)
    np.testing.assert_array_equal(z, np.pad(codes, (0, 8)))
    np.testing.assert_array_equal(scratch.drive, np.pad(drive, (0, 8)))
    np.testing.assert_array_equal(history.index[2, : history.count[2]], codes.nonzero()[0])
    assert scratch.gathered[0] == -1 and history.row[2] == 2
    forward.keep(problem, history, scratch.identity, unrolling.n_layers, z, 2)
    backward.end_at_loss(x, residual, z, problem, history, scratch)
    np.testing.assert_allclose(residual, D @ codes - x, atol=1e-12)
    bar = np.where(codes != 0, residual @ D + 0.3 * np.sign(codes), 0)
    np.testing.assert_allclose(scratch.bar, np.pad(bar, (0, 8)), atol=1e-12)


@pytest.mark.parametrize("decoded", [False, True])
@pytest.mark.parametrize("kind", [*KINDS, {"decay": 1.0, "n_layers": 60}], ids=str)
def test_sparse_layers_and_back_are_those_of_numpy(kind, decoded):
    """Samples through full and restricted layers, and from the loss back to z_0, with S, Σ ū and the slopes."""
    x, D, unrolling, layers = _layers(**kind, noise=0.02)
    sums, codes = layers.sums(decoded, slopes=True), torch.zeros(6, 40, dtype=torch.float64)
    residual, _, errors = layers.run(x, 0.2 * x @ D, codes, 0, None)
    x, D, shape = x.numpy(), D.numpy(), {"hard": unrolling.hard, "nonnegative": unrolling.nonnegative}
    W, history = np.eye(40) - 0.2 * D.T @ D, [np.zeros((6, 40))]
    for level in unrolling.levels():
        history.append(_shrink(history[-1] @ W + 0.2 * x @ D, level, **shape))
    z = history[-1]
    np.testing.assert_allclose(codes, z, atol=1e-12)
    np.testing.assert_allclose(residual, z @ D.T - x, atol=1e-12)
    back = (z @ D.T - x) @ D + 0.3 * np.sign(z)
    S, total, slopes = np.zeros((40, 40)), 0, np.zeros(2)
    for t in reversed(range(unrolling.n_layers)):
        before, after = history[t : t + 2]
        u = back * (after != 0)
        S, total, back = S + before.T @ u, total + u, u @ W
        rate = 0 if unrolling.hard else 0.2 * unrolling.decay**t
        slopes += -rate * (u * np.sign(after)).sum(), (u * (after - before)).sum()
    np.testing.assert_allclose(errors, total, atol=1e-10)
    np.testing.assert_allclose(sum(sums), (S + S.T) @ D.T if decoded else S, atol=1e-10)
    np.testing.assert_allclose(layers.slopes(), slopes, atol=1e-10)
    counts = layers.counts
    assert counts["full"] + counts["restricted"] == 6 * unrolling.n_layers and (counts["restricted"] > 0 or "decay" not in kind)


@pytest.mark.parametrize("kind", [*KINDS, {"decay": 1.0, "n_layers": 60}], ids=str)
def test_histories_that_were_kept_are_those_before(kind):
    """Of samples through full and restricted layers, and of one sample of zeros; then there is no room left."""
    x, D, unrolling, layers = _layers(**kind, noise=0.02)
    x[3], n = 0, unrolling.n_layers
    problem, (history, scratch) = layers._problem._replace(backward=True), layers._memory[0]
    drive, number = (0.2 * x @ D).numpy(), np.float64
    kept = KeptLayers(
        values=np.full(48 * (n + 1) * 6, np.nan),
        marks=np.zeros(6 * (n + 1) * 6 + 48, np.uint8),
        places=np.zeros(6 * (n + 1) * 6 + 48, np.int16),
        rows=np.zeros((6, n + 1), np.int32),
        widths=np.zeros((6, n + 1), np.int32),
        starts=np.zeros((6, 3), np.int64),
        held=np.zeros(1, np.int64),
    )
    wanted = []
    for i in range(6):
        backward.load_sample(scratch.codes[0], drive[i], np.zeros(40), problem, history, scratch)
        forward.forward(problem, history, scratch, np.zeros(5, np.int64))
        assert kept_layers.pack(kept, i, history, 0)
        wanted.append(_contents(history))
    for i in (5, 0, 3, 1, 4, 2):
        for array in history:
            array[:] = 7
        kept_layers.unpack(history, scratch, kept, i, 0)
        for found, expected in zip(_contents(history), wanted[i], strict=True):
            np.testing.assert_array_equal(found, expected)
    assert not kept_layers.pack(kept._replace(values=np.zeros(48, number)), 0, history, 0)


def _contents(history):
    """Row, number and kind of each layer, and what it may read: the entries of its row, and its codes at these or all of them."""
    layers = []
    for t, r in enumerate(history.row):
        count, shared = history.count[r], history.shared[r]
        width = simd.padded(count) if shared else history.values.shape[1]
        layers += [[r, count, shared], history.index[r, :count].copy(), history.values[t, :width].copy()]
    return layers


def test_the_calling_thread_keeps_its_treatment_of_denormals():
    def flushes():
        return bool(torch.tensor(5e-324, dtype=torch.float64) * 1 == 0)

    assert not flushes()
    x, D, _, layers = _layers()
    layers.sums(False, True)
    layers.run(x, 0.2 * x @ D, torch.zeros(6, 40, dtype=torch.float64), 0, None)
    images, filters = make(n=2, p=3, kernel=3, stride=2, rows=3, columns=2)
    unrolling = Unrolling(lam=0.1, step=0.1, n_layers=2)
    options = {"stride": 2, "stop": 2, "penalty": 0.0, "inside": None}
    image_layers.run_image_network(images, None, (*[filters] * 3, None), unrolling, **options)
    assert not flushes()
