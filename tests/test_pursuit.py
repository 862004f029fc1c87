"""Orthogonal matching pursuit against scikit-learn's."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import orthogonal_mp_gram

from pudle.core.pursuit import pursue
from pudle.errors import PudleError


def _theirs(x, D, **stop):
    gram, correlation = (D.T @ D).numpy(), (x @ D).T.numpy()
    stop = {"tol": stop["residual"] ** 2} if "residual" in stop else {"n_nonzero_coefs": stop["sparsity"]}
    codes = orthogonal_mp_gram(gram, correlation, norms_squared=x.square().sum(1).numpy(), **stop)
    return torch.from_numpy(codes.reshape(D.shape[1], len(x)).T)


@pytest.mark.filterwarnings("ignore:Orthogonal matching pursuit ended prematurely")
@given(
    n=st.integers(1, 80),
    m=st.integers(1, 40),
    p=st.integers(1, 60),
    sparse=st.booleans(),
    stop=st.sampled_from([{"residual": 0.1}, {"residual": 1e-3}, {"sparsity": 1}, {"sparsity": 3}]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_as_scikit_learn(n, m, p, sparse, stop, seed):
    draw = np.random.default_rng(seed)
    D = torch.from_numpy(draw.standard_normal((m, p)))
    D *= torch.linspace(0.5, 2, p) / D.norm(dim=0)
    x = (
        torch.from_numpy(draw.standard_normal((n, p)) * (draw.random((n, p)) < 0.1)) @ D.T
        if sparse
        else torch.from_numpy(draw.standard_normal((n, m)))
    )
    x /= x.norm(dim=1, keepdim=True).clamp_min(1e-300)
    stop = {key: min(value, p) for key, value in stop.items()}
    torch.testing.assert_close(pursue(x, D, **stop), _theirs(x, D, **stop), rtol=1e-7, atol=1e-9)


def test_many_atoms_for_one_sample():
    """More than there is room for at first."""
    draw = np.random.default_rng(0)
    D = torch.from_numpy(draw.standard_normal((100, 150)))
    D /= D.norm(dim=0)
    x = torch.from_numpy(draw.standard_normal((3, 100)))
    codes = pursue(x, D, residual=0.5)
    assert int((codes != 0).sum(1).max()) > 32
    assert (x - codes @ D.T).norm(dim=1).max() <= 0.5
    torch.testing.assert_close(codes, _theirs(x, D, residual=0.5), rtol=1e-7, atol=1e-9)


def test_supports_of_few_atoms_are_found():
    draw = np.random.default_rng(1)
    D = torch.from_numpy(draw.standard_normal((50, 80)))
    D /= D.norm(dim=0)
    codes = torch.zeros(200, 80, dtype=D.dtype)
    for row in codes:
        row[draw.choice(80, 3, replace=False)] = torch.from_numpy(draw.uniform(1, 2, 3))
    found = pursue(codes @ D.T, D, sparsity=3)
    exact = ((found - codes).abs() < 1e-9).all(1)
    assert exact.float().mean() > 0.8


def test_nothing_to_find():
    D = torch.eye(4, dtype=torch.float64)
    assert not pursue(torch.zeros(3, 4, dtype=D.dtype), D, sparsity=2).any()
    with pytest.raises(PudleError, match="must be finite"):
        pursue(torch.full((3, 4), torch.nan, dtype=D.dtype), D)
    with pytest.raises(PudleError, match="n_features"):
        pursue(torch.zeros(3, 5), torch.eye(4))
