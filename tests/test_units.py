"""Units are the user's: scaling samples and λ by c scales codes by c and leaves dictionaries as they are."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import pudle
from pudle.core.gradients import ESTIMATORS, unrolled_gradient
from pudle.core.initialization import pairwise_dictionary, random_filters, sample_dictionary
from pudle.core.lasso import _squared_norm
from pudle.core.pursuit import pursue
from pudle.core.unrolling import Unrolling

LARGEST = {torch.float64: 12.0, torch.float32: 6.0}  # decimal digits up and down
LAYERS = {"step": 0.2, "n_layers": 8}


def _in_all_units():
    """A test for both types with a scale c, a power of two, which changes no digit: from c = 1e-12 to 1e12, or 1e-6 to 1e6."""

    def decorate(test):
        test = settings(max_examples=10, deadline=None)(given(st.floats(-1, 1))(test))
        return pytest.mark.parametrize("dtype", LARGEST)(test)

    return decorate


def _scale(dtype, share: float) -> float:
    return 2.0 ** round(share * LARGEST[dtype] * np.log2(10))


def _data(dtype, n=30, m=12, p=20):
    data = pudle.make_sparse_data(n, m, p, 3, seed=0, noise=0.05, dtype=dtype)
    return data.x, pudle.perturb_dictionary(data.dictionary, 0.05, 0), data


def _same(scaled, plain, factor):
    torch.testing.assert_close(torch.as_tensor(scaled) / factor, torch.as_tensor(plain), rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype", LARGEST)
@settings(max_examples=15, deadline=None)
@given(st.floats(-1, 1), st.integers(0, 100))
def test_lasso_codes_scale_with_the_data(dtype, share, seed):
    c = 10 ** (share * LARGEST[dtype])
    data = pudle.make_sparse_data(20, 12, 20, 3, seed=seed, noise=0.05, dtype=dtype)
    plain, scaled = pudle.lasso(data.x, data.dictionary, 0.2), pudle.lasso(c * data.x, data.dictionary, c * 0.2)
    torch.testing.assert_close(scaled / c, plain, rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", LARGEST)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weight_decay": 0.01},
        {"threshold": 0.3, "estimator": "ae-ls"},
        {"estimator": "lasso"},
        {"estimator": "lasso", "weight_decay": 0.01},
    ],
    ids=str,
)
@settings(max_examples=5, deadline=None)
@given(st.floats(-1, 1))
def test_the_estimator_learns_the_same_in_all_units(dtype, options, share):
    c = 10 ** (share * LARGEST[dtype])
    c = 2.0 ** round(np.log2(c))  # powers of two change no digit
    x = pudle.make_sparse_data(60, 8, 10, 2, seed=0, noise=0.05, dtype=dtype).x.numpy()

    def learned(c):
        units = {
            name: ({"weight_decay": c**2, "threshold": c}[name] * value if name != "estimator" else value)
            for name, value in options.items()
        }
        return pudle.UnrolledDictionaryLearning(10, lam=0.2 * c, n_layers=5, max_iter=3, random_state=0, **units).fit(c * x)

    plain, scaled = learned(1.0), learned(c)
    np.testing.assert_allclose(scaled.components_, plain.components_, rtol=0, atol=1e-5)
    np.testing.assert_allclose(np.array(scaled.loss_curve_) / c**2, plain.loss_curve_, rtol=1e-4)


@pytest.mark.parametrize(
    "kind", [{"lam": 0.2}, {"lam": 0.2, "acceleration": "fista"}, {"lam": 0.2, "decay": 0.9}, {"threshold": 0.3}], ids=str
)
@_in_all_units()
def test_codes_and_gradients_of_layers_scale(kind, dtype, share):
    c, (x, D, _) = _scale(dtype, share), _data(dtype)
    scaled = kind | {name: c * kind[name] for name in ("lam", "threshold") if name in kind}
    _same(pudle.encode(c * x, D, **scaled, **LAYERS), pudle.encode(x, D, **kind, **LAYERS), c)
    for estimator in ESTIMATORS if "lam" in kind else ("dec", "ae-ls"):
        plain, other = (
            unrolled_gradient(samples, D, estimator, Unrolling(**levels, **LAYERS))
            for samples, levels in ((x, kind), (c * x, scaled))
        )
        _same(other.codes, plain.codes, c)
        assert float((other.gradient / c**2 - plain.gradient).norm()) <= 1e-5 * float(plain.gradient.norm())
        assert other.loss / c**2 == pytest.approx(plain.loss, rel=1e-5)


@_in_all_units()
def test_codes_of_images_scale(dtype, share):
    c = _scale(dtype, share)
    images = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 1, 17, 17))).to(dtype)
    filters = random_filters(4, 5, 0, dtype)
    codes, scaled = (pudle.convolution.encode(unit * images, filters, lam=0.2 * unit, **LAYERS, stride=2) for unit in (1.0, c))
    _same(scaled, codes, c)
    _same(pudle.convolution.operator_norm(c * filters, stride=2), pudle.convolution.operator_norm(filters, stride=2), c)


@pytest.mark.parametrize("stop", [{"sparsity": 3}, {"residual": 0.3}, {"sparsity": 12}], ids=str)
@_in_all_units()
def test_codes_of_pursuit_scale_with_samples_and_with_atoms(stop, dtype, share):
    c, (x, D, _) = _scale(dtype, share), _data(dtype)
    scaled = {name: value * c if name == "residual" else value for name, value in stop.items()}
    codes = pursue(x, D, **stop)
    _same(pursue(c * x, D, **scaled), codes, c)
    _same(pursue(x, c * D, **stop), codes, 1 / c)


@pytest.mark.parametrize("power", [1, 2])
@_in_all_units()
def test_the_norm_for_the_layers_of_the_lasso_scales(power, dtype, share):
    """For dictionaries in the units c and c²: its floor is of the type float64, not of the data."""
    c, (_, D, _) = _scale(torch.float64, share) ** power, _data(torch.float64)
    assert _squared_norm(c**2 * D.T @ D) == c**2 * _squared_norm(D.T @ D)


@_in_all_units()
def test_starts_from_samples_do_not_depend_on_units(dtype, share):
    c = _scale(dtype, share)
    data = pudle.make_sparse_data(2000, 24, 24, 2, signs="independent", seed=0, dtype=dtype)
    x = data.codes @ torch.linalg.qr(data.dictionary)[0].T
    _same(sample_dictionary(c * x, 5, 0), sample_dictionary(x, 5, 0), 1)
    found, scaled = (pairwise_dictionary(unit * x, 24, 0, max_pairs=200) for unit in (1.0, c))
    assert found.n_found == scaled.n_found > 0 and found.n_pairs == scaled.n_pairs
    _same(scaled.dictionary, found.dictionary, 1)


@_in_all_units()
def test_what_theory_predicts_scales(dtype, share):
    c, (x, D, data), theory = _scale(dtype, share), _data(dtype), pudle.theory
    codes = pudle.encode(x, D, lam=0.2, **LAYERS)
    for scaled, plain in zip(theory.first_layer_range(c * x, D, c * codes), theory.first_layer_range(x, D, codes), strict=True):
        _same(scaled, plain, c)
    conditions = (theory.support_condition(D, data.dictionary, 2, unit, 2 * unit) for unit in (c, 1.0))
    _same(*map(torch.tensor, conditions), c)
    bounds = (torch.tensor(theory.preserving_lambdas(D, data.dictionary, 2, unit, 0.2, 5)[0]) for unit in (c, 1.0))
    _same(*bounds, c)
    scaled, plain = (theory.lasso_jacobian(unit * x[0], D, unit * codes[0]) for unit in (c, 1.0))
    assert float((scaled / c - plain).norm()) <= 1e-4 * float(plain.norm())
    assert theory.coherence(c * D) == pytest.approx(theory.coherence(D), rel=1e-5)
    assert theory.largest_step(c * D) * c**2 == pytest.approx(theory.largest_step(D), rel=1e-5)
    assert theory.closeness(c * D, c * data.dictionary).kappa == pytest.approx(
        theory.closeness(D, data.dictionary).kappa, rel=1e-5
    )
    assert pudle.dictionary_error(c * D, c * data.dictionary, align=True) == pytest.approx(
        pudle.dictionary_error(D, data.dictionary, align=True), rel=1e-5
    )


@_in_all_units()
def test_contributions_of_samples_scale(dtype, share):
    c, (x, D, _) = _scale(dtype, share), _data(dtype, n=60)
    codes, explain = pudle.encode(x, D, lam=0.1, **LAYERS), pudle.interpretation
    _same(explain.atom_contributions(c * codes, c**2 * 0.1), explain.atom_contributions(codes, 0.1), 1 / c)
    _same(explain.output_contributions(c * codes, c * codes, c**2 * 0.1), explain.output_contributions(codes, codes, 0.1), 1)
    _same(explain.explained_dictionary(c * x, c * codes, c**2 * 0.1), explain.explained_dictionary(x, codes, 0.1), 1)


@pytest.mark.parametrize("name", ["mod", "k-svd"])
@_in_all_units()
def test_methods_with_codes_of_pursuit_learn_the_same_in_all_units(name, dtype, share):
    c, (x, D, _) = _scale(dtype, share), _data(dtype, n=120)

    def learned(x):
        method = pudle.methods.create(name, D.clone(), {"sparsity": 3}, np.random.default_rng(0))
        method.update(x)
        return method.dictionary

    torch.testing.assert_close(learned(c * x), learned(x), rtol=0, atol=1e-5)
