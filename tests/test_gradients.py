"""The closed form is the derivative: analytic = autograd = finite differences, on every path through the working sets."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import pudle
from pudle.core import closed_form, networks
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


@pytest.mark.parametrize("path", ["dense", "sparse", "decoded"])
@pytest.mark.parametrize("name", SETTINGS)
def test_the_dense_and_the_compiled_path_agree_with_autograd(name, path):
    """All paths are forced, and it is checked that they ran. Under a decay to zero no working set holds for long; else some must.

    FISTA's layers have no compiled path.
    """
    path = "dense" if "fista" in name else path
    x, D = _problem(n=50, m=50, p=100, s=3, init_noise=0.02)
    unrolling = Unrolling(step=0.2, n_layers=100, **SETTINGS[name])
    share = 0.0 if path == "dense" else 0.8
    ours, layers = gradient_in_closed_form(x, D, "ae-ls", unrolling, 0, sparse_share=share, decoded=path == "decoded")
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


@pytest.mark.parametrize("decoded", [False, True])
@pytest.mark.parametrize("backward_layers", [None, 100, 20])
def test_layers_with_many_active_codes_at_a_low_level_are_dense(backward_layers, decoded):
    """Dense, sparse and dense layers again; back through all of them, to among the sparse ones, and through the dense ones alone."""
    x, D = _problem(n=100, m=150, p=300, s=8, init_noise=0.02, noise=0.02)
    unrolling = Unrolling(lam=0.3, step=0.2, n_layers=120, decay=0.95)
    stop = 0 if backward_layers is None else 120 - backward_layers
    for estimator in ("ae-ls", "ae-lasso") if backward_layers else ESTIMATORS:
        at = 120 if estimator == "dec" else stop
        parts = x, D, estimator, unrolling, at
        ours, layers = gradient_in_closed_form(*parts, sparse_share=0.3, decoded=decoded, dense_at_end=True)
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
    share, decoded = data.draw(st.none() | st.floats(0, 0.5)), data.draw(st.none() | st.booleans())
    dense_at_end = data.draw(st.none() | st.just(True))
    ours, _ = gradient_in_closed_form(
        x, D, estimator, unrolling, stop, sparse_share=share, decoded=decoded, dense_at_end=dense_at_end
    )
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
    complete = autograd_gradient(x, D, "ae-ls", unrolling)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            _same(unrolled_gradient(x, D, "ae-ls", unrolling), complete, torch.float64)
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
                ours, layers = gradient_in_closed_form(x, D, "ae-ls", unrolling, 0, dense_at_end=True)
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


@pytest.mark.parametrize("decoded", [False, True])
def test_what_a_call_leaves_in_memory_does_not_matter(decoded):
    """Its scratch is kept for the next call of the same sizes."""
    x, D = _problem(n=30, m=50, p=100, s=3)
    unrolling = Unrolling(lam=0.2, step=0.2, n_layers=50)
    before, _ = gradient_in_closed_form(x, D, "ae-ls", unrolling, 0, sparse_share=0.8, decoded=decoded)
    for corrupted in (x * float("nan"), x * float("inf"), x * 1e30):
        gradient_in_closed_form(corrupted, D, "ae-ls", unrolling, 0, sparse_share=0.8, decoded=decoded)
        after, _ = gradient_in_closed_form(x, D, "ae-ls", unrolling, 0, sparse_share=0.8, decoded=decoded)
        assert after.gradient.equal(before.gradient) and after.codes.equal(before.codes)


def test_sums_are_decoded_where_that_takes_fewer_operations():
    """Few samples with few active entries beside many atoms: yes. Many samples, or codes that a low level makes dense: no."""
    asked = []
    for n, lam in ((100, 0.3), (2000, 0.3), (100, 0.001)):
        x, D = _problem(n=n, m=100, p=300, s=2)

        def ask(*arguments, was=closed_form._decoding_pays):
            asked.append(was(*arguments))
            return asked[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(closed_form, "_decoding_pays", ask)
            unrolled_gradient(x, D, "ae-ls", Unrolling(lam=lam, step=0.1, n_layers=30))
    assert asked == [True, False, False]


def test_truncation_to_all_layers_is_none_at_all_and_to_one_is_another():
    x, D = _problem()
    unrolling = Unrolling(lam=0.2, step=0.2, n_layers=20)
    full, all_, one = (unrolled_gradient(x, D, "ae-ls", unrolling, backward_layers=last).gradient for last in (None, 20, 1))
    assert torch.equal(full, all_) and (full - one).norm() > 1e-3 * full.norm()


@pytest.mark.parametrize("decoded", [False, True])
@pytest.mark.parametrize("step", [0.2, 5.0])
def test_nan_stays_nan_and_the_loops_end(step, decoded):
    """Divergence (step 5) and broken samples must show, not hang or be repaired."""
    x, D = _problem(n=20, m=50, p=100)
    if step == 0.2:
        x[3, 2] = float("nan")
    unrolling = Unrolling(lam=0.2, step=step, n_layers=1000)
    result, _ = gradient_in_closed_form(x, D, "ae-ls", unrolling, 0, decoded=decoded)
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
    with pytest.raises(PudleError, match="a gradient needs at least one sample"):
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
        ("dec", {"lam": 0.1, "backward_layers": 1}, "'dec' holds the codes constant: leave out backward_layers"),
    ],
)
def test_wrong_words_are_refused(estimator, settings_, message):
    with pytest.raises(PudleError, match=message):
        pudle.dictionary_gradient(*_problem(), estimator, step=0.1, n_layers=3, **settings_)


def test_an_unknown_gradient_is_refused_by_the_closed_form_itself():
    """Not only by the functions that check their arguments: a name that the closed form does not know must not be computed as ae-ls."""
    x, D = _problem()
    with pytest.raises(PudleError, match=r"'ae-lsq'.*did you mean 'ae-ls'"):
        gradient_in_closed_form(x, D, "ae-lsq", Unrolling(lam=0.2, step=0.2, n_layers=3), 0)


def test_a_gradient_whose_loss_automatic_differentiation_lacks_is_refused(monkeypatch):
    """As while a new gradient is written, when its name is in the table of the closed form only."""
    monkeypatch.setitem(closed_form.LOSSES, "new", closed_form.Loss(through_codes=True, has_l1=False))
    x, D = _problem()
    unrolling, image = Unrolling(lam=0.2, step=0.2, n_layers=3), torch.ones(1, 1, 6, 6)
    with pytest.raises(PudleError, match="autograd_gradient has no loss for the estimator 'new'"):
        autograd_gradient(x, D, "new", unrolling)
    with pytest.raises(PudleError, match="autograd_network_gradient has no loss for the estimator 'new'"):
        networks.autograd_filter_gradient(image, torch.ones(1, 1, 3, 3), "new", unrolling, stride=1)
