"""The closed form is the derivative: analytic = autograd = finite differences, on every path through the working sets."""

import math
import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

import pudle
from pudle.core import closed_form
from pudle.core.closed_form import gradient_in_closed_form
from pudle.core.gradients import (
    ESTIMATORS,
    autograd_gradient,
    decoder_gradient,
    unrolled_codes,
    unrolled_gradient,
)
from pudle.core.pursuit import pursue
from pudle.core.unrolling import Unrolling, iterate
from pudle.errors import PudleError
from pudle.kernels import backward, forward, simd
from pudle.kernels.cache import forget_stale_code
from pudle.kernels.sparse_layers import SparseLayers

SETTINGS = {
    "soft": {"lam": 0.2},
    "soft one-sided": {"lam": 0.2, "nonnegative": True},
    "decay": {"lam": 0.3, "decay": 0.9},
    "hard": {"threshold": 0.3},
    "hard one-sided": {"threshold": 0.3, "nonnegative": True},
    "fista": {"lam": 0.2, "acceleration": "fista"},
    "fista one-sided, decay": {"lam": 0.3, "decay": 0.9, "nonnegative": True, "acceleration": "fista"},
    "fista hard": {"threshold": 0.3, "acceleration": "fista"},
}
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def _problem(n=60, m=20, p=30, s=3, seed=0, dtype=torch.float64, init_noise=0.05, noise=0.0):
    data = pudle.make_sparse_data(n, m, p, s, seed=seed, dtype=dtype, noise=noise)
    return data.x, pudle.perturb_dictionary(data.dictionary, init_noise, seed)


def _same(ours, theirs, dtype):
    assert (ours.gradient - theirs.gradient).norm() <= TOLERANCE[dtype] * theirs.gradient.norm()
    assert (ours.codes - theirs.codes).norm() <= TOLERANCE[dtype] * theirs.codes.norm() + 1e-30
    assert ours.loss == pytest.approx(theirs.loss, rel=10 * TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_closed_form_equals_autograd(estimator, name, dtype):
    if estimator == "ae-lasso" and "lam" not in SETTINGS[name]:
        return  # refused: see below
    x, D = _problem(dtype=dtype)
    unrolling = Unrolling(step=0.2, n_layers=40, **SETTINGS[name])
    _same(unrolled_gradient(x, D, estimator, unrolling), autograd_gradient(x, D, estimator, unrolling), dtype)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("estimator", ["ae-lasso", "ae-ls"])
def test_closed_form_equals_finite_differences(estimator, name):
    if estimator == "ae-lasso" and "lam" not in SETTINGS[name]:
        return
    x, D = _problem(n=8, m=6, p=9, s=2)
    unrolling = Unrolling(step=0.2, n_layers=6, **SETTINGS[name])
    gradient = unrolled_gradient(x, D, estimator, unrolling).gradient
    h = 1e-6
    for i, j in ((0, 0), (3, 5), (5, 8)):
        shift = torch.zeros_like(D)
        shift[i, j] = h
        rise, fall = (unrolled_gradient(x, D + sign * shift, estimator, unrolling).loss for sign in (1, -1))
        assert float(gradient[i, j]) == pytest.approx((rise - fall) / (2 * h), rel=1e-5, abs=1e-8)


def test_dec_holds_the_codes_constant():
    """The published trap: without the detached codes dec would silently equal ae-ls."""
    x, D = _problem()
    settings_ = {"lam": 0.2, "step": 0.2, "n_layers": 20}
    dec = pudle.dictionary_gradient(x, D, "dec", **settings_)
    torch.testing.assert_close(dec, decoder_gradient(x, D, pudle.encode(x, D, **settings_)))
    for other in ("ae-ls", "ae-lasso"):
        assert (dec - pudle.dictionary_gradient(x, D, other, **settings_)).norm() > 0.01 * dec.norm()


@pytest.mark.parametrize("path", ["dense", "sparse", "lifted"])
@pytest.mark.parametrize("name", SETTINGS)
def test_the_dense_and_the_compiled_path_agree_with_autograd(name, path):
    """All paths are forced, and it is checked that they ran. Under a decay to zero no working set holds for long; else some must.

    FISTA's layers have no compiled path.
    """
    path = "dense" if "fista" in name else path
    x, D = _problem(n=50, m=50, p=100, s=3, init_noise=0.02)
    unrolling = Unrolling(step=0.2, n_layers=100, **SETTINGS[name])
    share = 0.0 if path == "dense" else 0.8
    ours, layers = gradient_in_closed_form(x, D, "ae-ls", unrolling, 0, sparse_share=share, lifted=path == "lifted")
    assert (layers["dense"] == 0) == (path != "dense")
    if path != "dense" and name != "decay":
        assert layers["restricted"] > layers["full"]
    _same(ours, autograd_gradient(x, D, "ae-ls", unrolling), torch.float64)


def test_entries_that_wake_late_are_found():
    """With decay, entries outside of a working set wake as the level falls: full layers return, and the result is still exact."""
    x, D = _problem(n=40, m=50, p=100, s=5, init_noise=0.1, noise=0.05)
    unrolling = Unrolling(lam=0.4, step=0.2, n_layers=120, decay=0.97)
    ours, layers = gradient_in_closed_form(x, D, "ae-ls", unrolling, 0, sparse_share=0.8)
    assert layers["full"] > 0
    _same(ours, autograd_gradient(x, D, "ae-ls", unrolling), torch.float64)


@pytest.mark.parametrize("lifted", [False, True])
@pytest.mark.parametrize("backward_layers", [None, 100, 20])
def test_codes_that_a_low_level_crowds_end_in_dense_layers(backward_layers, lifted):
    """Dense, sparse and dense layers again; back through all of them, to among the sparse ones, and through the dense ones alone."""
    x, D = _problem(n=100, m=150, p=300, s=8, init_noise=0.02, noise=0.02)
    unrolling = Unrolling(lam=0.3, step=0.2, n_layers=120, decay=0.95)
    stop = 0 if backward_layers is None else 120 - backward_layers
    for estimator in ("ae-ls", "ae-lasso") if backward_layers else ESTIMATORS:
        at = 120 if estimator == "dec" else stop
        parts = x, D, estimator, unrolling, at
        ours, layers = gradient_in_closed_form(*parts, sparse_share=0.3, lifted=lifted, crowds=True)
        assert 80 * 100 < layers["dense"] < 110 * 100 and 20 * 100 < layers["full"] < 2 * 40 * 100
        _same(ours, autograd_gradient(x, D, estimator, unrolling, backward_layers=backward_layers), torch.float64)


@given(
    n=st.integers(1, 40),
    m=st.integers(2, 30),
    p=st.integers(1, 50),
    s=st.integers(1, 4),
    n_layers=st.integers(1, 60),
    name=st.sampled_from(list(SETTINGS)),
    estimator=st.sampled_from(ESTIMATORS),
    seed=st.integers(0, 1000),
    data=st.data(),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_any_shape(n, m, p, s, n_layers, name, estimator, seed, data):
    if estimator == "ae-lasso" and "lam" not in SETTINGS[name]:
        estimator = "ae-ls"
    x, D = _problem(n, m, p, min(s, p), seed)
    unrolling = Unrolling(step=0.05, n_layers=n_layers, **SETTINGS[name])
    last = None if estimator == "dec" else data.draw(st.none() | st.integers(1, n_layers + 2))
    stop = n_layers if estimator == "dec" else max(0, n_layers - (last or n_layers))
    share, lifted = data.draw(st.none() | st.floats(0, 0.5)), data.draw(st.none() | st.booleans())
    crowds = data.draw(st.none() | st.just(True))
    ours, _ = gradient_in_closed_form(x, D, estimator, unrolling, stop, sparse_share=share, lifted=lifted, crowds=crowds)
    theirs = autograd_gradient(x, D, estimator, unrolling, backward_layers=last)
    torch.testing.assert_close(ours.gradient, theirs.gradient, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(ours.codes, theirs.codes, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("p", [30, 1000], ids=["cached", "far"])
@pytest.mark.parametrize("name", SETTINGS)
def test_codes_from_any_start(name, p):
    """Dense and sparse starts, in blocks: what the layers of :func:`pudle.core.unrolling.iterate` give."""
    x, D = _problem(n=300, m=20, p=p, s=2, dtype=torch.float64)
    unrolling = Unrolling(step=0.02, n_layers=30, **SETTINGS[name])
    dense = torch.linspace(-1, 1, 300 * p, dtype=x.dtype).reshape(300, p)
    for start in (None, dense, dense * ((x @ D).abs() > 0.8)):
        kept = None if start is None else start.clone()
        expected = iterate(unrolling, torch.zeros_like(dense) if start is None else start, lambda z: (z @ D.T - x) @ D)
        torch.testing.assert_close(unrolled_codes(x, D, unrolling, start), expected, rtol=1e-9, atol=1e-11)
        assert start is None or start.equal(kept)


def test_blocks_and_threads_do_not_matter():
    x, D = _problem(n=2500, m=20, p=100, s=2, dtype=torch.float64)
    unrolling = Unrolling(lam=0.2, step=0.1, n_layers=20)
    whole = autograd_gradient(x, D, "ae-ls", unrolling)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            _same(unrolled_gradient(x, D, "ae-ls", unrolling), whole, torch.float64)
    finally:
        torch.set_num_threads(before)


def test_threads_change_nothing_but_the_time():
    """Also where layers end dense, in eight tasks, with fewer samples than those in the last block."""
    x, D = _problem(n=335, m=150, p=300, s=4, init_noise=0.02, noise=0.02, dtype=torch.float32)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for decay in (1.0, 0.92):
                unrolling = Unrolling(lam=0.3, step=0.2, n_layers=60, decay=decay)
                ours, layers = gradient_in_closed_form(x, D, "ae-ls", unrolling, 0, crowds=True)
                assert (layers["dense"] > 335) == (decay < 1)
                found.append((ours.gradient, ours.codes))
            found.append((pursue(x, D, sparsity=4),))
    finally:
        torch.set_num_threads(before)
    for one, two in zip(found[:3], found[3:], strict=True):
        assert all(map(torch.equal, one, two))


@pytest.mark.parametrize(
    ("decay", "p", "ends_dense"), [(1.0, 400, False), (0.999, 400, False), (0.92, 400, True), (0.92, 100, False)]
)
def test_layers_end_dense_where_that_is_faster(decay, p, ends_dense, monkeypatch):
    """Where the level falls so far that most entries are active in the end, and W does not stay in the cache."""
    x, D = _problem(n=30, m=p // 2, p=p, s=3, init_noise=0.02, dtype=torch.float32)
    called = []
    was = closed_form._sparse_then_dense
    monkeypatch.setattr(closed_form, "_sparse_then_dense", lambda *arguments: called.append(arguments) or was(*arguments))
    unrolling = Unrolling(lam=0.3, step=0.2, n_layers=60, decay=decay, nonnegative=True)
    ours = unrolled_gradient(x, D, "ae-ls", unrolling)
    theirs = autograd_gradient(x.double(), D.double(), "ae-ls", unrolling)
    assert bool(called) == ends_dense
    assert (ours.gradient - theirs.gradient).norm() < 1e-2 * theirs.gradient.norm()
    torch.testing.assert_close(ours.codes.double(), theirs.codes, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lifted", [False, True])
def test_what_a_call_leaves_in_memory_does_not_matter(lifted):
    """Its scratch is kept for the next call of the same sizes."""
    x, D = _problem(n=30, m=50, p=100, s=3)
    unrolling = Unrolling(lam=0.2, step=0.2, n_layers=50)
    before, _ = gradient_in_closed_form(x, D, "ae-ls", unrolling, 0, sparse_share=0.8, lifted=lifted)
    for corrupted in (x * float("nan"), x * float("inf"), x * 1e30):
        gradient_in_closed_form(corrupted, D, "ae-ls", unrolling, 0, sparse_share=0.8, lifted=lifted)
        after, _ = gradient_in_closed_form(x, D, "ae-ls", unrolling, 0, sparse_share=0.8, lifted=lifted)
        assert after.gradient.equal(before.gradient) and after.codes.equal(before.codes)


def test_sums_are_lifted_where_that_takes_fewer_operations():
    """Few samples with few active entries beside many atoms: yes. Many samples, or codes that a low level makes dense: no."""
    asked = []
    for n, lam in ((100, 0.3), (2000, 0.3), (100, 0.001)):
        x, D = _problem(n=n, m=100, p=300, s=2)

        def ask(*arguments, was=closed_form._lifting_pays):
            asked.append(was(*arguments))
            return asked[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(closed_form, "_lifting_pays", ask)
            unrolled_gradient(x, D, "ae-ls", Unrolling(lam=lam, step=0.1, n_layers=30))
    assert asked == [True, False, False]


def test_truncation_to_all_layers_is_none_at_all_and_to_one_is_another():
    x, D = _problem()
    unrolling = Unrolling(lam=0.2, step=0.2, n_layers=20)
    full, all_, one = (unrolled_gradient(x, D, "ae-ls", unrolling, backward_layers=last).gradient for last in (None, 20, 1))
    assert torch.equal(full, all_) and (full - one).norm() > 1e-3 * full.norm()


@pytest.mark.parametrize("lifted", [False, True])
@pytest.mark.parametrize("step", [0.2, 5.0])
def test_what_is_not_a_number_stays_so_and_ends(step, lifted):
    """Divergence (step 5) and broken samples must show, not hang or be repaired."""
    x, D = _problem(n=20, m=50, p=100)
    if step == 0.2:
        x[3, 2] = float("nan")
    unrolling = Unrolling(lam=0.2, step=step, n_layers=1000)
    result, _ = gradient_in_closed_form(x, D, "ae-ls", unrolling, 0, lifted=lifted)
    assert not torch.isfinite(result.gradient).all()


@pytest.mark.parametrize("gradient", [unrolled_gradient, autograd_gradient])
@pytest.mark.parametrize("name", SETTINGS)
def test_a_broken_sample_breaks_the_gradient(name, gradient):
    x, D = _problem()
    x[3, 2] = float("nan")
    result = gradient(x, D, "ae-ls", Unrolling(**SETTINGS[name], step=0.2, n_layers=5))
    assert result.codes[3].isnan().all() and result.gradient.isnan().any() and math.isnan(result.loss)


@pytest.mark.parametrize("gradient", [unrolled_gradient, autograd_gradient])
def test_no_samples_have_no_gradient(gradient):
    x, D = _problem()
    with pytest.raises(PudleError, match="a gradient needs one sample at least"):
        gradient(x[:0], D, "dec", Unrolling(lam=0.2, step=0.2, n_layers=2))


def test_inputs_are_left_as_they_are():
    x, D = _problem()
    before = x.clone(), D.clone()
    for estimator in ESTIMATORS:
        unrolled_gradient(x, D, estimator, Unrolling(lam=0.2, step=0.2, n_layers=20))
    assert torch.equal(x, before[0]) and torch.equal(D, before[1])


@pytest.mark.parametrize(
    ("estimator", "settings_", "message"),
    [
        ("ae-lss", {"lam": 0.1}, "did you mean 'ae-ls'"),
        ("ae-lasso", {"threshold": 0.1}, "needs lam"),
        ("ae-ls", {"lam": 0.1, "backward_layers": 0}, "backward_layers must be at least 1"),
    ],
)
def test_wrong_words_are_refused(estimator, settings_, message):
    with pytest.raises(PudleError, match=message):
        pudle.dictionary_gradient(*_problem(), estimator, step=0.1, n_layers=3, **settings_)


def test_compiled_loops_follow_the_source_of_all_their_modules(tmp_path):
    """numba alone would go on with a loop compiled before a function that it calls was changed in another file."""
    source, other = tmp_path / "rows.py", tmp_path / "working_sets.py"
    source.write_text("1")
    other.write_text("1")
    kept, compiled = tmp_path / "metrics.f-1.py311.nbi", tmp_path / "working_sets.f-1.py311.nbi"
    for file in (kept, compiled):
        file.touch()
    loops = SimpleNamespace(stats=SimpleNamespace(cache_path=tmp_path))
    modules = [SimpleNamespace(__file__=str(source)), SimpleNamespace(__file__=str(other))]
    forget_stale_code(loops, *modules)
    assert kept.exists() and not compiled.exists()
    compiled.touch()
    forget_stale_code(loops, *modules)
    assert compiled.exists()
    source.write_text("2")
    forget_stale_code(loops, *modules)
    assert not compiled.exists()


@pytest.mark.parametrize("processor", ["x86-64", "x86-64-v3", "x86-64-v4"])
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the names of these processors are x86's")
def test_kernels_compile_for_processors_with_and_without_avx_512(processor, tmp_path):
    program = """
import numpy as np
from pudle.kernels import backward, forward, simd
for number in (np.float32, np.float64):
    arguments = np.ones(48, number), np.ones(32, number), np.ones(32, number)
    simd.pick.compile(tuple(map(simd.pick.typeof_pyval, arguments)))
    simd.add_spread.compile(tuple(map(simd.add_spread.typeof_pyval, arguments)))
"""
    environment = os.environ | {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_loops_are_compiled_where_there_is_no_place_to_keep_them():
    """As in a container with a read-only installation and no home: it costs time and a line, not the run."""
    program = """
import warnings, numba.core.caching as caching
caching.CacheImpl._locator_classes = []
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    from pudle.kernels import simd
    from pudle.core import pursuit
import numpy as np
print(simd.padded(17), [str(one.message) for one in told if "NUMBA_CACHE_DIR" in str(one.message)])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.startswith("32 ['pudle: no folder"), done.stderr
    assert done.stdout.count("pudle:") == 1


KEEPING = """
import errno, sys, warnings
from numba.core.caching import IndexDataCacheFile
from pudle.kernels.cache import compiled

@compiled(cache=True)
def twice(x):
    return 2 * x

def full(*arguments):
    raise OSError(errno.ENOSPC, "No space left on device")

if sys.argv[1:] == ["full"]:
    IndexDataCacheFile._open_for_write = full
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("default")
    print(twice(2), twice(2.5), sum(twice.stats.cache_hits.values()), [str(one.message) for one in told])
"""


@pytest.fixture
def keeping(tmp_path):
    """Runs a program with a compiled loop, whose code is kept in the folder ``kept``."""
    (tmp_path / "keeping.py").write_text(KEEPING, encoding="utf-8")
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "kept")}

    def run(*words, **variables):
        command = [sys.executable, str(tmp_path / "keeping.py"), *words]
        done = subprocess.run(command, env=environment | variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


def test_a_full_disk_costs_the_compiled_loops_and_a_line(keeping):
    told = keeping("full")
    assert told.startswith("4 5.0 0 ['pudle: compiled loops cannot be kept in ") and told.count("No space left") == 1
    assert keeping() == "4 5.0 0 []"
    assert keeping(NUMBA_DISABLE_JIT="1") == "4 5.0 2 []"  # as people set it to debug other loops


@pytest.mark.parametrize("kind", ["nbi", "nbc"])
def test_kept_loops_that_are_damaged_are_compiled_again(kind, keeping, tmp_path):
    keeping()
    for path in (tmp_path / "kept").rglob(f"*.{kind}"):
        path.write_bytes(path.read_bytes()[:20])
    assert keeping().startswith("4 5.0 ")
    assert keeping() == "4 5.0 2 []"


def test_a_folder_that_cannot_be_written_to_is_left_as_it_is(tmp_path):
    (tmp_path / "file").write_text("")
    loops = SimpleNamespace(stats=SimpleNamespace(cache_path=str(tmp_path / "file")))
    with pytest.warns(UserWarning, match="cannot be kept"):
        forget_stale_code(loops, simd)


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


# Plain NumPy versions of the compiled loops: of simd.py, and of the steps of forward.py and backward.py.


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


KINDS = [{"hard": hard, "nonnegative": nonnegative} for hard in (False, True) for nonnegative in (False, True)]


def _layers(m=24, p=40, n_layers=12, decay=0.98, lam=0.2, hard=False, nonnegative=False, noise=0.0):
    """A dictionary and its layers in NumPy, in float64: W, thresholds, :class:`SparseLayers` and the dictionary."""
    x, D = _problem(n=6, m=m, p=p, s=2, noise=noise)
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
    forward.shrink(z, u, level, problem)
    np.testing.assert_allclose(z, _shrink(u, level, **kind), atol=1e-15)
    assert forward.below(level, problem) == (-np.inf if kind["nonnegative"] else -level)

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


@pytest.mark.parametrize("lifted", [False, True])
def test_the_steps_of_back_propagation_are_those_of_numpy(lifted):
    *_, layers = _layers()
    problem, (_, scratch) = layers._problem._replace(lifted=lifted), layers._memory[0]
    atoms, held = problem.atoms, 5
    codes, errors = _draw(np.float64, (held, 48), (held, 48), zeros=0.8)
    codes[:, 40:] = errors[:, 40:] = 0
    scratch.ring_codes[:held], scratch.ring_errors[:held], scratch.ring_held[0] = codes, errors, held
    S = codes.T @ errors
    total = np.ones((48, atoms.shape[1] if lifted else 48))
    expected = total + ((S + S.T) @ atoms if lifted else S)
    backward.flush(total, problem, scratch)
    np.testing.assert_allclose(total, expected, atol=1e-12)
    assert scratch.ring_held[0] == 0
    np.testing.assert_array_equal(backward.support(scratch.ratio, codes, held) != 0, codes.any(0))
    backward.lift(scratch.ring_lifted, problem, scratch, codes, held)
    np.testing.assert_allclose(scratch.ring_lifted[:held], codes @ atoms, atol=1e-12)
    scratch.slopes[:] = 1, 2
    before, after = codes[0], np.where(errors[1] != 0, codes[1], 0)
    u = np.where(after != 0, errors[1], 0)
    backward.add_slopes(scratch, u, after, before, 0.7)
    np.testing.assert_allclose(scratch.slopes, [1 - 0.7 * u @ np.sign(after), 2 + u @ (after - before)])
    bar, error = np.full(48, np.nan), _draw(np.float64, atoms.shape[1])[0]
    index = np.pad(codes[0].nonzero()[0], (0, 16)).astype(np.uint32)
    backward.loss_error(bar, error, problem, index, codes[0], (codes[0] != 0).sum())
    np.testing.assert_allclose(bar, np.where(codes[0] != 0, atoms @ error + 0.3 * np.sign(codes[0]), 0), atol=1e-14)


@pytest.mark.parametrize("lifted", [False, True])
@pytest.mark.parametrize("kind", [*KINDS, {"decay": 1.0, "n_layers": 60}], ids=str)
def test_sparse_layers_and_back_are_those_of_numpy(kind, lifted):
    """Samples through full and restricted layers, and from the loss back to z_0, with S, Σ ū and the slopes."""
    x, D, unrolling, layers = _layers(**kind, noise=0.02)
    sums, codes = layers.sums(lifted, slopes=True), torch.zeros(6, 40, dtype=torch.float64)
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
    np.testing.assert_allclose(sum(sums), (S + S.T) @ D.T if lifted else S, atol=1e-10)
    np.testing.assert_allclose(layers.slopes(), slopes, atol=1e-10)
    counts = layers.counts
    assert counts["full"] + counts["restricted"] == 6 * unrolling.n_layers and (counts["restricted"] > 0 or "decay" not in kind)
