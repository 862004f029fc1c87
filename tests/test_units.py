"""Units are the user's: scaling samples and λ by c scales codes by c and leaves dictionaries as they are."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import pudle

LARGEST = {torch.float64: 12.0, torch.float32: 6.0}  # decimal digits up and down


@pytest.mark.parametrize("dtype", LARGEST)
@settings(max_examples=15, deadline=None)
@given(st.floats(-1, 1), st.integers(0, 100))
def test_lasso_codes_scale_with_the_data(dtype, share, seed):
    c = 10 ** (share * LARGEST[dtype])
    data = pudle.make_sparse_data(20, 12, 20, 3, seed=seed, noise=0.05, dtype=dtype)
    plain, scaled = pudle.lasso(data.x, data.dictionary, 0.2), pudle.lasso(c * data.x, data.dictionary, c * 0.2)
    torch.testing.assert_close(scaled / c, plain, rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", LARGEST)
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.01}, {"threshold": 0.3}], ids=str)
@settings(max_examples=5, deadline=None)
@given(st.floats(-1, 1))
def test_the_estimator_learns_the_same_in_all_units(dtype, options, share):
    c = 10 ** (share * LARGEST[dtype])
    c = 2.0 ** round(np.log2(c))  # powers of two change no digit
    x = pudle.make_sparse_data(60, 8, 10, 2, seed=0, noise=0.05, dtype=dtype).x.numpy()

    def learned(c):
        units = {name: value * {"weight_decay": c**2, "threshold": c}[name] for name, value in options.items()}
        return pudle.UnrolledDictionaryLearning(10, lam=0.2 * c, n_layers=5, max_iter=3, random_state=0, **units).fit(c * x)

    plain, scaled = learned(1.0), learned(c)
    np.testing.assert_allclose(scaled.components_, plain.components_, rtol=0, atol=1e-5)
    np.testing.assert_allclose(np.array(scaled.loss_curve_) / c**2, plain.loss_curve_, rtol=1e-4)
