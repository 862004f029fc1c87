"""What theory promises is kept: bounds are never broken, closed forms are derivatives."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import pudle
from pudle.core import theory
from pudle.core.lasso import lasso
from pudle.errors import PudleError


def _problem(n=50, m=64, p=64, s=2, seed=0, delta=0.0):
    """Samples of a dictionary of low coherence: an orthonormal basis, turned slightly."""
    draw = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(m, m, generator=draw, dtype=torch.float64)).Q[:, :p]
    codes = torch.zeros(n, p, dtype=torch.float64)
    for row in codes:
        chosen = torch.randperm(p, generator=draw)[:s]
        row[chosen] = (1 + torch.rand(s, generator=draw).double()) * (2 * torch.randint(0, 2, (s,), generator=draw) - 1)
    return codes @ basis.T, codes, basis, pudle.perturb_dictionary(basis, delta, seed)


def test_coherence_and_closeness_by_hand():
    D = torch.tensor([[1.0, 0.6, 0.0], [0.0, 0.8, 2.0]], dtype=torch.float64)
    assert theory.coherence(D) == pytest.approx(0.8)
    assert theory.coherence(torch.eye(3)) == 0
    near = theory.closeness(torch.tensor([[1.0, 0.0], [0.3, 1.0]]), torch.eye(2))
    assert near.delta == pytest.approx(0.3) and near.kappa == pytest.approx(0.3)
    assert theory.largest_step(torch.diag(torch.tensor([1.0, 2.0]))) == pytest.approx(0.5)


@given(lam=st.floats(0.01, 3.0), seed=st.integers(0, 50))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_the_range_of_the_first_layer_is_exact(lam, seed):
    data = pudle.make_sparse_data(30, 20, 30, 2, seed=seed, dtype=torch.float64, signs="independent")
    D = pudle.perturb_dictionary(data.dictionary, 0.05, seed)
    low, high = theory.first_layer_range(data.x, D, data.codes)
    first = pudle.encode(data.x, D, lam=lam, step=0.7, n_layers=1)
    right = (first.sign() == data.codes.sign()).all(1)
    assert torch.equal(right, (low <= lam) & (lam < high))


@given(
    s=st.integers(1, 4), delta=st.floats(0, 0.01), where=st.floats(0, 0.99), step=st.floats(0.05, 1.0), seed=st.integers(0, 30)
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_where_the_condition_holds_every_support_is_found_at_once_and_kept(s, delta, where, step, seed):
    x, codes, true, D = _problem(s=s, seed=seed, delta=delta)
    low, high = theory.support_condition(D, true, s, 1.0, 2.0)
    if low >= high:
        return
    lam = low + where * (high - low)
    for n_layers in (1, 2, 5, 40):
        found = pudle.encode(x, D, lam=max(lam, 1e-12), step=step, n_layers=n_layers)
        assert torch.equal(found.sign(), codes.sign())


def test_the_lambdas_of_the_preservation_argument_keep_supports_and_bound_errors():
    x, codes, true, D = _problem(s=2, delta=0.002)
    lambdas, errors = theory.preserving_lambdas(D, true, 2, 2.0, 0.5, 30)
    assert lambdas == sorted(lambdas, reverse=True) and errors[-1] < 0.1 * errors[0]
    z = torch.zeros_like(codes)
    for lam, bound in zip(lambdas, errors[1:], strict=True):
        z = torch.nn.functional.softshrink(z - 0.5 * (z @ D.T - x) @ D, 0.5 * lam)
        assert torch.equal(z.sign(), codes.sign()) and (z - codes).abs().max() <= bound


def test_codes_contract_at_the_predicted_rate_once_the_support_stands():
    x, _, _, D = _problem(n=20, m=20, p=20, s=3, delta=0.05)
    step, ends = 0.3, lasso(x, D, 0.2, tol=1e-12)
    rates = theory.contraction_rate(D, ends != 0, step)
    z = pudle.encode(x, D, lam=0.2, step=step, n_layers=60)
    settled = (z.sign() == ends.sign()).all(1) & ((z - ends).norm(dim=1) > 1e-8)
    following = pudle.encode(x, D, lam=0.2, step=step, n_layers=61)
    ratio = (following - ends).norm(dim=1) / (z - ends).norm(dim=1)
    assert settled.any() and (ratio[settled] <= rates[settled] + 1e-6).all()
    assert theory.contraction_rate(D, torch.zeros(1, 20, dtype=torch.bool), step).item() == 0


def test_the_jacobian_of_the_lasso_is_its_derivative():
    data = pudle.make_sparse_data(3, 8, 12, 2, seed=1, dtype=torch.float64, noise=0.05)
    D = pudle.perturb_dictionary(data.dictionary, 0.05, 1)
    h = 1e-6
    for x in data.x:
        jacobian = theory.lasso_jacobian(x, D, lasso(x[None], D, 0.2, tol=1e-12)[0])
        for row, atom in ((0, 0), (3, 5), (7, 11)):
            shift = torch.zeros_like(D)
            shift[row, atom] = h
            rise, fall = (lasso(x[None], D + sign * shift, 0.2, tol=1e-12)[0] for sign in (1, -1))
            torch.testing.assert_close(jacobian[:, row, atom], (rise - fall) / (2 * h), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda D: theory.coherence(D[0]), r"dictionary must be \(n_features, n_atoms\)"),
        (lambda D: theory.coherence(D.numpy()), "torch tensor"),
        (lambda D: theory.closeness(D, D[:, :3]), "of the same shape"),
        (lambda D: theory.closeness(D, D.float()), "the same type"),
        (lambda D: theory.largest_step(D[:, 0]), "n_atoms"),
        (lambda D: theory.contraction_rate(D, torch.ones(2, 6), 0.1), "supports must be boolean"),
        (lambda D: theory.contraction_rate(D, torch.ones(2, 5, dtype=bool), 0.1), r"\(n_samples, 6\)"),
        (lambda D: theory.first_layer_range(D.T, D, D), "codes must be"),
        (lambda D: theory.lasso_jacobian(D.T, D, D[0]), "those of one sample"),
    ],
)
def test_shapes_and_types_are_checked(call, says):
    with pytest.raises(PudleError, match=says):
        call(torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(4, 6))
