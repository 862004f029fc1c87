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
    for start in (torch.zeros(60, 299), torch.full((60, 300), torch.nan), "near"):
        with pytest.raises(PudleError, match=r"start must be a tensor \(60, 300\) of finite numbers"):
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
