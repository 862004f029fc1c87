"""Lasso codes by active sets: optimal for any dictionary, also a degenerate one, from any start, and with any number of threads."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import lars_path_gram

import pudle
from pudle.core import lasso as module
from pudle.core import theory
from pudle.core.lasso import kkt_residual
from pudle.errors import PudleError
from pudle.kernels import active_set, memory

KINDS = ("gaussian", "ties", "repeated", "coherent", "low rank", "norms apart", "zeros")


def _dictionary(kind, m, p, draw):
    D = torch.randn(m, p, generator=draw, dtype=torch.float64)
    if kind == "ties":
        return D.sign() * (D.abs() > 0.5)
    if kind == "repeated":
        signs = torch.randint(0, 2, (p,), generator=draw) * 2 - 1
        return D[:, torch.randint(0, max(1, p // 2), (p,), generator=draw)] * signs
    if kind == "coherent":
        return D + 5 * torch.randn(m, 1, generator=draw, dtype=torch.float64)
    if kind == "low rank":
        return D[:, : max(1, m // 2)] @ torch.randn(min(p, max(1, m // 2)), p, generator=draw, dtype=torch.float64)
    if kind == "norms apart":
        return D * 10.0 ** torch.randint(-4, 5, (p,), generator=draw)
    if kind == "zeros":
        return D * (torch.rand(p, generator=draw) < 0.5)
    return D


@st.composite
def problems(draw):
    """Samples (some of them zero, or an atom), a dictionary, λ from nothing to above the largest correlation, and a start or none."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    m, p, n = draw(st.integers(1, 12)), draw(st.integers(1, 40)), draw(st.integers(1, 5))
    D = _dictionary(draw(st.sampled_from(KINDS)), m, p, generator)
    x = torch.randn(n, m, generator=generator, dtype=torch.float64)
    x[0] = draw(st.sampled_from([x[0], 0 * x[0], 3 * D[:, 0]]))
    lam = float((x @ D).abs().max()) * draw(st.sampled_from([1.5, 1.0, 0.5, 0.1, 1e-3, 1e-6]))
    start = torch.randn(n, p, generator=generator, dtype=torch.float64) if draw(st.booleans()) else None
    return x, D, lam, draw(st.booleans()), start


@settings(max_examples=150, deadline=None)
@given(problems(), st.booleans())
def test_codes_are_optimal_for_degenerate_dictionaries_too(problem, in_sets):
    x, D, lam, nonnegative, start = problem
    with pytest.MonkeyPatch.context() as patch:
        if in_sets:  # working sets are for few samples and many atoms: here always
            patch.setattr(module, "SET", 0)
        codes = pudle.lasso(x, D, lam, nonnegative=nonnegative, tol=1e-8, start=start)
    largest = (x @ D).abs().amax(1)
    assert (kkt_residual(x, D, codes, lam, nonnegative=nonnegative) <= 1.01e-8 * largest + 1e-14).all()
    if nonnegative:
        assert (codes >= 0).all()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@settings(max_examples=40, deadline=None)
@given(problems())
def test_no_code_has_a_lower_objective_than_ours(problem):
    """scikit-learn's homotopy, and where that is led astray, zero and ours at another λ."""
    x, D, lam, nonnegative, _ = problem
    lam = max(lam, 1e-3)
    codes = pudle.lasso(x, D, lam, nonnegative=nonnegative)

    def objective(z):
        return 0.5 * (x - z @ D.T).square().sum(1) + lam * z.abs().sum(1)

    gram, theirs = (D.T @ D).numpy(), torch.zeros_like(codes)
    for i, sample in enumerate(x):
        *_, found = lars_path_gram(
            (sample @ D).numpy(), gram, n_samples=1, method="lasso", alpha_min=lam, positive=nonnegative, return_path=False
        )
        theirs[i] = torch.from_numpy(found)
    for others in (theirs, 0 * codes, pudle.lasso(x, D, 1.1 * lam, nonnegative=nonnegative)):
        assert (objective(codes) <= objective(others) + 1e-6 * (1 + x.square().sum(1))).all()


@pytest.fixture
def problem():
    data = pudle.make_sparse_data(60, 20, 300, 3, noise=0.05, seed=3, dtype=torch.float64)
    return data.x, pudle.perturb_dictionary(data.dictionary, 0.05, seed=3)


@pytest.mark.parametrize("nonnegative", [False, True])
@pytest.mark.parametrize("set_size", [0, 64, 10**6])
def test_a_start_and_the_size_of_working_sets_do_not_change_the_codes(problem, nonnegative, set_size, monkeypatch):
    x, D = problem
    plain = pudle.lasso(x, D, 0.1, nonnegative=nonnegative, tol=1e-10)
    monkeypatch.setattr(module, "SET", set_size)
    near = pudle.lasso(x, pudle.perturb_dictionary(D, 0.01, seed=0), 0.1, nonnegative=nonnegative)
    for start in (None, plain, near, -near, near.float()):
        codes = pudle.lasso(x, D, 0.1, nonnegative=nonnegative, tol=1e-10, start=start)
        torch.testing.assert_close(codes, plain, atol=1e-8, rtol=0)


def test_what_cannot_be_a_start_is_refused(problem):
    x, D = problem
    for start, message in (
        (torch.zeros(60, 299), r"start must be \(60, 300\)"),
        (torch.full((60, 300), torch.nan), "all values of start must be finite"),
        ("near", "start must be a"),
    ):
        with pytest.raises(PudleError, match=message):
            pudle.lasso(x, D, 0.1, start=start)


def test_threads_do_not_change_the_codes(problem):
    before, codes = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            codes.append(pudle.lasso(*problem, 0.1))
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(*codes, atol=1e-12, rtol=0)


@pytest.mark.parametrize("nonnegative", [False, True])
def test_where_active_sets_fail_layers_find_the_same_codes(problem, nonnegative, monkeypatch):
    x, D = problem
    plain = pudle.lasso(x, D, 0.1, nonnegative=nonnegative, tol=1e-10)

    def some_fail(codes, *_):
        codes[::2] = torch.nan
        return torch.where(torch.arange(len(codes)) % 2 == 0, torch.nan, 0.0)

    monkeypatch.setattr(module, "_by_active_sets", some_fail)
    codes = pudle.lasso(x, D, 0.1, nonnegative=nonnegative, tol=1e-10)
    torch.testing.assert_close(codes[::2], plain[::2], atol=1e-8, rtol=0)


def test_samples_of_very_different_size_are_solved_alike(problem):
    x, D = problem
    x = x[:4] * torch.tensor([1, 1e-12, 0, 1e-30], dtype=x.dtype)[:, None]
    for lam in (0.0, 1e-13):
        codes = pudle.lasso(x[:, :5], D[:5, :4], lam)
        residual = kkt_residual(x[:, :5], D[:5, :4], codes, lam)
        assert (residual <= 1e-6 * (x[:, :5] @ D[:5, :4]).abs().amax(1)).all()


def test_the_derivative_is_the_lasso_jacobian(problem):
    x, D = problem
    x, D = x[0], D.clone().requires_grad_()
    codes = pudle.lasso(x[None], D, 0.1, tol=1e-12)[0]
    wanted = theory.lasso_jacobian(x, D.detach(), codes.detach())
    for i in codes.nonzero()[:, 0].tolist():
        (row,) = torch.autograd.grad(codes[i], D, retain_graph=True)
        np.testing.assert_allclose(row, wanted[i], atol=1e-9)


# Plain NumPy versions of the compiled steps of active_set.py.


def _set(k=5, p=32, m=12, seed=0):
    """Scratch with a set of k of p atoms, and DᵀD, Dᵀx, the set S and λ."""
    draw = np.random.default_rng(seed)
    D, x = draw.standard_normal((m, p)), draw.standard_normal(m)
    D /= np.linalg.norm(D, axis=0)
    D[:, -1] = D[:, 0] - 2 * D[:, 1]
    gram, scratch, S = D.T @ D, memory.set_memory(p, p), draw.permutation(p - 1)[:k]
    for count, atom in enumerate(S):
        assert active_set.add_atom(scratch, gram, atom, float(np.sign(draw.standard_normal())), count)
    scratch.codes[:k] = scratch.signs[:k] * draw.random(k)
    return scratch, gram, D.T @ x, S, 0.1


def _z(scratch, k):
    z = np.zeros(len(scratch.free))
    z[scratch.index[:k]] = scratch.codes[:k]
    return z


def test_the_inverse_follows_the_set():
    scratch, gram, _, S, _ = _set()
    free = np.ones(32)
    free[S] = 0
    np.testing.assert_allclose(scratch.inverse[:5, :5], np.linalg.inv(gram[np.ix_(S, S)]), atol=1e-10)
    np.testing.assert_array_equal(scratch.free, free)
    vector = np.arange(32.0)
    active_set.times_inverse(scratch.step, scratch, vector, 5)
    np.testing.assert_allclose(scratch.step[:5], np.linalg.solve(gram[np.ix_(S, S)], vector[:5]), atol=1e-10)
    active_set.remove_atom(scratch, 1, 5)
    left = S[[0, 4, 2, 3]]  # the last takes its place
    np.testing.assert_array_equal(scratch.index[:4], left)
    np.testing.assert_allclose(scratch.inverse[:4, :4], np.linalg.inv(gram[np.ix_(left, left)]), atol=1e-10)
    assert not scratch.inverse[4:].any() and not scratch.inverse[:, 4:].any() and scratch.free[S[1]] == 1
    scratch.inverse[:4, :4] += 1e-3  # rounding errors
    codes = _z(scratch, 4)
    assert active_set.restart(scratch, gram, 4) == 4
    np.testing.assert_allclose(scratch.inverse[:4, :4], np.linalg.inv(gram[np.ix_(left, left)]), atol=1e-10)
    np.testing.assert_array_equal(_z(scratch, 4), codes)


@pytest.mark.parametrize("nonnegative", [False, True])
def test_descent_and_scores_are_those_of_numpy(nonnegative):
    scratch, gram, correlation, S, lam = _set()
    descent = correlation - gram @ _z(scratch, 5)
    gap = descent[S] - lam * scratch.signs[:5]
    assert active_set.find_descent(scratch, correlation, gram, lam, 5) == pytest.approx(abs(gap).max())
    np.testing.assert_allclose(scratch.descent, descent, atol=1e-12)
    np.testing.assert_allclose(scratch.gap[:5], gap, atol=1e-12)
    score = np.where(scratch.free == 1, np.maximum(descent, 0) if nonnegative else abs(descent), 0)
    assert active_set.largest_outside(scratch, nonnegative) == pytest.approx(score.max())
    np.testing.assert_allclose(scratch.score, score, atol=1e-12)
    top, atoms = score.max(), (score >= lam + active_set.NEAR * (score.max() - lam)).nonzero()[0]
    count, joined = active_set.join(scratch, gram, lam, top, 5, active_set.JOIN)
    assert joined and set(scratch.index[5:count]) <= set(atoms[: active_set.JOIN]) and count <= 12
    S = scratch.index[:count]
    np.testing.assert_allclose(scratch.inverse[:count, :count], np.linalg.inv(gram[np.ix_(S, S)]), atol=1e-6)
    np.testing.assert_array_equal(scratch.signs[5:count], np.sign(descent[S[5:]]))
    np.testing.assert_allclose(scratch.gap[5:count], descent[S[5:]] - lam * scratch.signs[5:count], atol=1e-12)


def _moved(z, signs, S, gram, correlation, lam):
    """Codes (p,) at the minimiser over S, or over what is left of it."""
    S = list(S)
    while S:
        wanted = np.linalg.solve(gram[np.ix_(S, S)], correlation[S] - lam * signs[S])
        step = wanted - z[S]
        reach = np.array([2.0 if w * signs[i] > 0 else -z[i] / d for i, w, d in zip(S, wanted, step, strict=True)])
        share = min(1, reach.min())
        z[S] += share * step
        if not (reach <= share).any():
            return z
        z[np.array(S)[reach <= share]] = 0
        S = [i for i, r in zip(S, reach, strict=True) if r > share]
    return z


@pytest.mark.parametrize("seed", range(5))
def test_codes_move_as_by_numpy_and_lower_the_objective(seed):
    scratch, gram, correlation, S, lam = _set(k=8, seed=seed)
    signs, z = np.zeros(32), _z(scratch, 8)
    signs[S] = scratch.signs[:8]
    active_set.find_descent(scratch, correlation, gram, lam, 8)
    count = active_set.move(scratch, 8)
    moved = _moved(z.copy(), signs, S, gram, correlation, lam)
    np.testing.assert_allclose(_z(scratch, count), moved, atol=1e-10)
    assert count == (moved != 0).sum()

    def objective(z):
        return 0.5 * z @ gram @ z - correlation @ z + lam * abs(z).sum()

    assert objective(moved) < objective(z)


def test_an_atom_that_depends_on_the_set_is_exchanged_and_dz_stays():
    _, gram, *_ = _set()
    scratch, G = memory.set_memory(32, 32), gram
    for count, (atom, sign, code) in enumerate([(0, 1.0, 0.5), (1, -1.0, -0.4), (7, 1.0, 0.3)]):
        assert active_set.add_atom(scratch, G, atom, sign, count)
        scratch.codes[count] = code
    before = _z(scratch, 3)
    assert not active_set.add_atom(scratch, G, 31, 1.0, 3)  # D_31 = D_0 − 2 D_1
    np.testing.assert_allclose(scratch.product[:3], [1, -2, 0], atol=1e-8)
    count, done = active_set.exchange(scratch, G, 31, 1.0, 0.0, 3)
    after = _z(scratch, count)
    assert done and count == 3
    np.testing.assert_allclose(after[[0, 1, 7, 31]], [0.3, 0, 0.3, 0.2], atol=1e-8)
    np.testing.assert_allclose(G @ after, G @ before, atol=1e-8)
    assert abs(after).sum() < abs(before).sum()


@pytest.mark.parametrize("nonnegative", [False, True])
def test_one_sample_is_solved_as_by_coordinate_descent(nonnegative):
    scratch, gram, correlation, _, lam = _set(k=0)
    plain = np.zeros(32)
    for _ in range(3000):
        for i in range(32):
            u = correlation[i] - gram[i] @ plain + gram[i, i] * plain[i]
            plain[i] = (max(u - lam, 0) if nonnegative else np.sign(u) * max(abs(u) - lam, 0)) / gram[i, i]
    out = np.linspace(-1, 1, 32)
    residual = active_set.solve_sample(out, correlation, gram, lam, nonnegative, 1e-10, 500, scratch)
    assert residual <= 1e-10
    np.testing.assert_allclose(out, plain, atol=1e-5)
    clean = memory.set_memory(32, 32)
    for name in ("inverse", "weights", "free"):
        np.testing.assert_array_equal(getattr(scratch, name), getattr(clean, name))


@pytest.mark.parametrize("nonnegative", [False, True])
def test_codes_are_loaded_as_a_start_and_stored(nonnegative):
    scratch, start = memory.set_memory(32, 16), np.zeros(20)
    start[[1, 4, 9]] = 0.5, -0.3, 2.0
    out, S = start.copy(), [1, 9] if nonnegative else [1, 4, 9]
    assert active_set.load_start(out, nonnegative, scratch) == len(S) and not out.any()
    np.testing.assert_array_equal(scratch.index[: len(S)], S)
    np.testing.assert_array_equal(scratch.codes[: len(S)], start[S])
    np.testing.assert_array_equal(scratch.signs[: len(S)], np.sign(start[S]))
    scratch.free[S], scratch.weights[S] = 0, 1
    active_set.store_codes(out, scratch, len(S))
    np.testing.assert_array_equal(out, np.where(np.isin(np.arange(20), S), start, 0))
    assert scratch.free.all() and not scratch.weights.any()
