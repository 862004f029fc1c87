"""Codes are what their formulas say, and lasso codes are optimal."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso

import pudle
from pudle.core import lasso as lasso_codes
from pudle.core.gradients import unrolled_codes
from pudle.core.lasso import kkt_residual
from pudle.core.pursuit import pursue
from pudle.core.unrolling import Unrolling, soft_threshold, soft_threshold_in_place
from pudle.errors import PudleError


@pytest.fixture
def problem():
    data = pudle.make_sparse_data(40, 20, 30, 3, noise=0.05, seed=3, dtype=torch.float64)
    return data.x, pudle.perturb_dictionary(data.dictionary, 0.05, seed=3)


def _by_hand(x, D, shrink, step, n_layers):
    codes = np.zeros((len(x), D.shape[1]))
    for t in range(n_layers):
        for i in range(len(x)):
            codes[i] = shrink(codes[i] - step * D.T @ (D @ codes[i] - x[i]), t)
    return codes


def test_fista_layers_are_their_formula(problem):
    x, D = (value.numpy() for value in problem)
    codes, point, theta = np.zeros((len(x), D.shape[1])), np.zeros((len(x), D.shape[1])), 1.0
    for _ in range(9):
        u = point - 0.1 * (point @ D.T - x) @ D
        new = np.sign(u) * np.maximum(np.abs(u) - 0.02, 0)
        following = (1 + np.sqrt(1 + 4 * theta**2)) / 2
        point, codes, theta = new + (theta - 1) / following * (new - codes), new, following
    ours = pudle.encode(*problem, step=0.1, n_layers=9, lam=0.2, acceleration="fista")
    np.testing.assert_allclose(ours, codes, atol=1e-12)
    with pytest.raises(PudleError, match="did you mean 'fista'"):
        pudle.encode(*problem, step=0.1, n_layers=9, lam=0.2, acceleration="fist")


@pytest.mark.parametrize(
    ("settings", "shrink"),
    [
        ({"lam": 0.2}, lambda u, t: np.sign(u) * np.maximum(np.abs(u) - 0.1 * 0.2, 0)),
        ({"lam": 0.2, "nonnegative": True}, lambda u, t: np.maximum(u - 0.1 * 0.2, 0)),
        ({"lam": 0.2, "decay": 0.9}, lambda u, t: np.sign(u) * np.maximum(np.abs(u) - 0.1 * 0.2 * 0.9**t, 0)),
        ({"threshold": 0.3}, lambda u, t: u * (np.abs(u) >= 0.3)),
        ({"threshold": 0.3, "nonnegative": True}, lambda u, t: u * (u >= 0.3)),
    ],
)
def test_encode_is_its_formula(problem, settings, shrink):
    x, D = problem
    codes = pudle.encode(x, D, step=0.1, n_layers=7, **settings)
    np.testing.assert_allclose(codes, _by_hand(x.numpy(), D.numpy(), shrink, 0.1, 7), atol=1e-12)


def test_hard_threshold_keeps_entries_at_the_threshold_and_ignores_the_step():
    x, D = torch.tensor([[2.0, 1.9]]), torch.eye(2)
    assert pudle.encode(x, D, threshold=1.0, step=0.5, n_layers=1).tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("nonnegative", [False, True])
@pytest.mark.parametrize("level", [{"lam": 0.2}, {"threshold": 0.3}])
@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_what_is_not_a_number_stays_so(problem, level, nonnegative, broken):
    x, D = problem
    x[3, 2] = broken
    unrolling = Unrolling(**level, step=0.1, n_layers=5, nonnegative=nonnegative)
    codes, fast = pudle.encode(x, D, **vars(unrolling)), unrolled_codes(x, D, unrolling)
    assert codes[3].isnan().all() and codes[torch.arange(len(x)) != 3].isfinite().all()
    assert torch.equal(codes.isnan(), fast.isnan())


def test_divergence_shows_with_a_hard_threshold(problem):
    assert not pudle.encode(*problem, threshold=0.3, step=50.0, n_layers=400).isfinite().any()


def test_encode_is_differentiable(problem):
    x, D = problem
    x, D = x[:3].requires_grad_(), D.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, D: pudle.encode(x, D, lam=0.2, step=0.1, n_layers=4), (x, D))


@pytest.mark.parametrize("nonnegative", [False, True])
@pytest.mark.parametrize("lam", [0.05, 0.3])
def test_lasso_satisfies_kkt_and_equals_scikit_learn(problem, lam, nonnegative):
    x, D = problem
    codes = pudle.lasso(x, D, lam, nonnegative=nonnegative, tol=1e-10)
    assert kkt_residual(x, D, codes, lam, nonnegative=nonnegative).max() <= 1e-10
    theirs = Lasso(lam / x.shape[1], fit_intercept=False, positive=nonnegative, tol=1e-12, max_iter=100_000).fit(D, x.T).coef_
    np.testing.assert_allclose(codes, theirs, atol=1e-6)


def test_lasso_of_overcomplete_noise():
    """Dense, badly conditioned supports."""
    draw = torch.Generator().manual_seed(0)
    x, D = torch.randn(50, 10, generator=draw), torch.randn(10, 60, generator=draw)
    codes = pudle.lasso(x, D, 0.01)
    assert codes.dtype == torch.float32
    assert kkt_residual(x.double(), D.double(), codes.double(), 0.01).max() < 1e-4  # float32 codes, ‖DᵀD‖ ≈ 100


@pytest.mark.parametrize(("lam", "seed"), [(0.01, 2), (0.001, 3)])
def test_nonnegative_lasso_of_noise(lam, seed):
    """scikit-learn's homotopy loses its way on a few of these samples."""
    draw = torch.Generator().manual_seed(seed)
    x, D = torch.randn(30, 50, generator=draw, dtype=torch.float64), torch.randn(50, 100, generator=draw, dtype=torch.float64)
    D /= D.norm(dim=0)
    codes = pudle.lasso(x, D, lam, nonnegative=True)
    assert codes.min() == 0
    assert kkt_residual(x, D, codes, lam, nonnegative=True).max() <= 1e-6


def test_lasso_by_coordinate_descent_where_all_else_fails(problem, monkeypatch):
    x, D = problem
    monkeypatch.setattr(lasso_codes, "_by_active_sets", lambda codes, *_: torch.full((len(codes),), math.nan))
    monkeypatch.setattr(lasso_codes, "_homotopy", lambda gram, *_: torch.zeros_like(gram[0]))
    codes = pudle.lasso(x, D, 0.05, tol=1e-10, max_iter=0)
    assert kkt_residual(x, D, codes, 0.05).max() <= 1e-10


def test_lasso_of_large_lambda_is_zero(problem):
    assert not pudle.lasso(*problem, 1e3).any()


def test_lasso_says_when_it_gives_up(problem):
    with pytest.raises(PudleError, match=r"of \d+ of 40 samples is up to \S+, above tol=1e-30: .*; raise tol"):
        pudle.lasso(*problem, 0.1, tol=1e-30, max_iter=100)


def test_layers_converge_to_the_lasso(problem):
    x, D = problem
    step = 1 / torch.linalg.matrix_norm(D, 2).item() ** 2
    codes = pudle.encode(x, D, lam=0.3, step=step, n_layers=5000)
    torch.testing.assert_close(codes, pudle.lasso(x, D, 0.3, tol=1e-10), atol=1e-7, rtol=0)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, "exactly one of lam"),
        ({"lam": 0.1, "threshold": 0.1}, "lam=0.1 and threshold=0.1"),
        ({"lam": -1}, "lam must be at least 0"),
        ({"lam": math.nan}, "lam must be at least 0 and finite, not nan"),
        ({"threshold": math.inf}, "threshold must be at least 0 and finite, not inf"),
        ({"lam": 0.1, "step": math.nan}, "step must be above 0 and finite, not nan"),
        ({"threshold": 0.1, "decay": 0.9}, "decay=0.9"),
        ({"lam": 0.1, "decay": 1.5}, "decay must be"),
        ({"lam": 0.1, "step": 0}, "step must be above 0"),
        ({"lam": 0.1, "n_layers": 0}, "n_layers must be at least 1"),
        ({"lam": 0.1, "n_layers": 2.5}, "n_layers must be an integer, not 2.5"),
        ({"lam": "0.1"}, "lam must be a number, not '0.1'"),
        ({"lam": 0.1, "step": None}, "step must be a number, not None"),
    ],
)
def test_settings_that_make_no_sense_are_refused(problem, settings, named):
    with pytest.raises(PudleError, match=named):
        pudle.encode(*problem, **({"step": 0.1, "n_layers": 3} | settings))


@pytest.mark.parametrize("level", ["lam", "threshold"])
@pytest.mark.parametrize("nonnegative", [False, True])
def test_numbers_of_numpy_and_torch_are_numbers(problem, level, nonnegative):
    settings = {"nonnegative": nonnegative, "estimator": "ae-ls"}
    plain = pudle.dictionary_gradient(*problem, **{level: 0.25}, step=0.125, n_layers=3, **settings)
    for number in (np.float32, np.float64, torch.tensor):
        theirs = {level: number(0.25), "step": number(0.125), "n_layers": np.int64(3)}
        assert torch.equal(pudle.dictionary_gradient(*problem, **theirs, **settings), plain)


def test_shapes_that_do_not_fit_are_refused(problem):
    x, D = problem
    with pytest.raises(PudleError, match=r"\(40, 20\) and \(30, 20\)"):
        pudle.encode(x, D.T, lam=0.1, step=0.1, n_layers=1)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, D: pudle.encode(x, D, lam=0.1, step=0.1, n_layers=2),
        lambda x, D: pudle.dictionary_gradient(x, D, "ae-ls", lam=0.1, step=0.1, n_layers=2),
        lambda x, D: pudle.lasso(x, D, 0.1),
        lambda x, D: pursue(x, D, sparsity=2),
    ],
    ids=["encode", "dictionary_gradient", "lasso", "pursue"],
)
def test_what_is_no_tensor_of_one_floating_type_is_refused(problem, function):
    x, D = problem
    cases = [
        (x.numpy(), D, "x must be a torch tensor, not a ndarray: torch.as_tensor makes one"),
        (x, D.tolist(), "dictionary must be a torch tensor, not a list"),
        (x.long(), D, r"x must be of a floating type such as torch.float32, not torch.int64"),
        (x, D.cfloat(), "dictionary must be of a floating type such as torch.float32, not torch.complex64"),
        (x.float(), D, "x and dictionary must have the same type, not torch.float32 and torch.float64"),
        (x, D[:, :0], r"at least one feature and one atom, not shapes \(40, 20\) and \(20, 0\)"),
    ]
    for samples, dictionary, named in cases:
        with pytest.raises(PudleError, match=named):
            function(samples, dictionary)


def test_no_samples_have_no_codes(problem):
    x, D = problem
    for codes in (
        pudle.encode(x[:0], D, lam=0.1, step=0.1, n_layers=2),
        pudle.lasso(x[:0], D, 0.1),
        pursue(x[:0], D, sparsity=2),
    ):
        assert codes.shape == (0, 30) and codes.dtype == torch.float64


@pytest.mark.parametrize("which", [0, 1])
def test_lasso_of_what_is_not_a_number_is_refused(problem, which):
    x, D = problem
    problem[which][3, 2] = math.nan
    with pytest.raises(PudleError, match="lasso: all values of x and dictionary must be finite"):
        pudle.lasso(x, D, 0.1)


def test_a_level_that_requires_a_gradient_is_refused_where_there_is_none():
    x, D, lam = torch.ones(2, 3), torch.eye(3), torch.tensor(0.2, requires_grad=True)
    for code in (pudle.lasso, lambda *arguments: Unrolling(lam=arguments[2], step=0.1, n_layers=3)):
        with pytest.raises(PudleError, match="lam requires a gradient"):
            code(x, D, lam)


@pytest.mark.parametrize("level", [{"lam": 0.2, "decay": 0.9}, {"threshold": 0.3}])
@pytest.mark.parametrize("nonnegative", [False, True])
def test_thresholding_in_place_is_thresholding(level, nonnegative):
    unrolling = Unrolling(**level, nonnegative=nonnegative, step=0.5, n_layers=3)
    u = torch.randn(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted, levels = unrolling.shrink(u, 2), torch.linspace(0, 1, 7, dtype=torch.float64)
    torch.testing.assert_close(unrolling.shrink_in_place(u.clone(), 2), wanted, rtol=0, atol=1e-15)
    soft = soft_threshold(u, levels, nonnegative=nonnegative)
    torch.testing.assert_close(soft_threshold_in_place(u.clone(), levels, nonnegative=nonnegative), soft, rtol=0, atol=1e-15)
