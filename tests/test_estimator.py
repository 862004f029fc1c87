"""The estimator is scikit-learn's: its own checks, its pipelines, and a swap for DictionaryLearning."""

import os
import re
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import DictionaryLearning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

import pudle
from pudle.errors import PudleError
from pudle.estimator import _squared_norm

FAST = {"n_layers": 5, "max_iter": 5, "random_state": 0}


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    return x[:400] / 16, y[:400]


def _model(**settings):
    return pudle.UnrolledDictionaryLearning(**{"n_components": 12, **FAST, **settings})


CHECKS = """
import pudle
from sklearn.utils.estimator_checks import check_estimator

model = pudle.UnrolledDictionaryLearning(3, estimator="{}", n_layers=5, max_iter=5)
results = check_estimator(model, on_skip=None)
assert len(results) > 40 and {{result["status"] for result in results}} == {{"passed"}}, results
"""


@pytest.mark.parametrize(
    "estimator", ["lasso", "ae-lasso", *(pytest.param(name, marks=pytest.mark.slow) for name in ("dec", "ae-ls"))]
)
def test_scikit_learns_own_checks_pass_and_none_is_skipped(estimator):
    """In a process of its own: the array API's check is skipped unless this variable is set before anything is imported."""
    done = subprocess.run(
        [sys.executable, "-c", CHECKS.format(estimator)],
        env=os.environ | {"SCIPY_ARRAY_API": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_it_recovers_a_dictionary_and_explains_the_data():
    data = pudle.make_sparse_data(1000, 20, 30, 3, seed=0, dtype=torch.float64)
    start = pudle.perturb_dictionary(data.dictionary, 0.05, 0)
    settings = {
        "n_components": 30,
        "n_layers": 60,
        "lam": 0.1,
        "max_iter": 40,
        "learning_rate": 3e-3,
        "tol": 0,
        "estimator": "ae-ls",
    }
    model = _model(dict_init=start.T, **settings).fit(data.x)
    before = pudle.dictionary_error(start, data.dictionary)
    assert pudle.dictionary_error(torch.from_numpy(model.components_.T), data.dictionary) < 0.2 * before
    assert model.score(data.x) > 0.98
    np.testing.assert_allclose(np.linalg.norm(model.components_, axis=1), 1)
    assert model.n_iter_ == 40 == len(model.loss_curve_) and model.loss_curve_[-1] < 0.5 * model.loss_curve_[0]


def test_transform_is_the_encoder(digits):
    model = _model(lam=0.05, step=0.1).fit(digits[0])
    D = torch.from_numpy(model.components_.T)
    codes = pudle.encode(torch.from_numpy(digits[0]), D, lam=0.05, step=0.1, n_layers=5)
    np.testing.assert_allclose(model.transform(digits[0]), codes)
    np.testing.assert_allclose(model.inverse_transform(codes), codes @ D.T)


def test_arrays_frames_and_tensors_in_both_precisions_give_the_same(digits):
    x = digits[0]
    frame = pd.DataFrame(x, columns=[f"pixel{i}" for i in range(64)])
    of_array, of_frame, of_tensor = (_model().fit(kind) for kind in (x, frame, torch.from_numpy(x)))
    np.testing.assert_array_equal(of_array.components_, of_tensor.components_)
    np.testing.assert_array_equal(of_array.components_, of_frame.components_)
    assert list(of_frame.feature_names_in_) == list(frame)
    assert of_frame.set_output(transform="pandas").transform(frame).shape == (400, 12)
    single = _model().fit(x.astype(np.float32))
    assert single.components_.dtype == np.float32 == single.transform(x.astype(np.float32)).dtype
    np.testing.assert_allclose(single.components_, of_array.components_, atol=1e-2)


def test_settings_that_are_numbers_of_numpy(digits):
    plain = {"lam": 0.25, "step": 0.125, "learning_rate": 0.0625, "adam_eps": 2.0**-20, "weight_decay": 0.125, "batch_size": 7}
    numpys = {key: np.int64(value) if key == "batch_size" else np.float32(value) for key, value in plain.items()}
    ours, theirs = (_model(**settings, max_iter=np.int64(1)).fit(digits[0][:50]) for settings in (plain, numpys))
    np.testing.assert_array_equal(ours.components_, theirs.components_)
    np.testing.assert_array_equal(ours.transform(digits[0]), theirs.transform(digits[0]))


def test_a_start_may_be_any_array(digits):
    x = digits[0][:50]
    atoms = x[:12][::-1]
    expected = _model(dict_init=atoms.copy(), max_iter=1).fit(x).components_
    for start in (atoms, pd.DataFrame(atoms), torch.from_numpy(atoms.copy()).requires_grad_(), atoms.tolist()):
        np.testing.assert_array_equal(_model(dict_init=start, max_iter=1).fit(x).components_, expected)
    with pytest.raises(ValueError, match="dict_init contains NaN"):
        _model(dict_init=np.full((12, 64), np.nan)).fit(x)


def test_warm_start_goes_on_and_partial_fit_is_a_pass(digits):
    x = digits[0]
    model = _model(warm_start=True, max_iter=2, tol=0).fit(x)
    first = model.loss_curve_[-1]
    assert model.fit(x).loss_curve_[0] < first
    once, passes = _model(max_iter=3, tol=0).fit(x), _model()
    for _ in range(3):
        passes.partial_fit(x)
    np.testing.assert_array_equal(once.components_, passes.components_)
    assert passes.n_iter_ == 3


@pytest.mark.parametrize("settings", [{"learning_rate": 1e-9}, {"adam_eps": 1e9}])
@pytest.mark.parametrize("go_on", ["partial_fit", "fit"])
def test_settings_of_adam_that_are_changed_count_from_then_on(digits, go_on, settings):
    model = _model(warm_start=True, max_iter=1)
    before = getattr(model, go_on)(digits[0]).components_
    after = getattr(model.set_params(**settings), go_on)(digits[0]).components_
    np.testing.assert_allclose(after, before, atol=1e-6)
    assert np.abs(getattr(model.set_params(learning_rate=0.1, adam_eps=1e-8), go_on)(digits[0]).components_ - after).max() > 0.1


def test_it_stops_when_the_loss_is_calm(digits):
    model = _model(max_iter=200, tol=0.05).fit(digits[0])
    assert 4 <= model.n_iter_ < 200


def test_weight_decay_lets_norms_go_free(digits):
    norms = np.linalg.norm(_model(weight_decay=0.1, max_iter=20).fit(digits[0]).components_, axis=1)
    assert np.ptp(norms) > 0.1


def test_pipeline_and_grid_search(digits):
    x, y = digits
    search = GridSearchCV(
        make_pipeline(_model(max_iter=10), LogisticRegression(max_iter=500)),
        {"unrolleddictionarylearning__lam": [0.02, 5.0]},
        cv=2,
    ).fit(x, y)
    assert (
        search.best_params_ == {"unrolleddictionarylearning__lam": 0.02} and search.best_score_ > 0.6
    )  # λ = 5 leaves no codes


def test_saved_and_loaded_it_is_the_same(digits, tmp_path):
    model = _model().fit(digits[0])
    joblib.dump(model, tmp_path / "model.joblib")
    loaded = joblib.load(tmp_path / "model.joblib")
    np.testing.assert_array_equal(loaded.transform(digits[0]), model.transform(digits[0]))
    np.testing.assert_array_equal(loaded.partial_fit(digits[0]).components_, model.partial_fit(digits[0]).components_)


def test_it_swaps_with_scikit_learns(digits):
    """The same code runs with either, and at the same λ ours explains the digits as well, up to two points in a hundred."""
    x, scores = digits[0], {}
    for model in (
        DictionaryLearning(20, alpha=0.3, transform_algorithm="lasso_lars", transform_alpha=0.3, max_iter=20, random_state=0),
        pudle.UnrolledDictionaryLearning(20, lam=0.3, n_layers=50, max_iter=60, random_state=0),
    ):
        codes = model.fit(x).transform(x)
        assert codes.shape == (400, 20) and model.components_.shape == (20, 64)
        scores[type(model).__name__] = 1 - np.square(x - codes @ model.components_).sum() / np.square(x).sum()
    assert scores["UnrolledDictionaryLearning"] > scores["DictionaryLearning"] - 0.02


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"estimator": "ae-lss"}, "ae-lss"),
        ({"lam": -1}, "lam"),
        ({"dict_init": np.ones((3, 2))}, r"dict_init must be \(12, 64\)"),
        ({"dict_init": np.eye(12, 64) * (np.arange(12) != 7)[:, None]}, "dict_init: atom 7 is 0"),
        ({"threshold": 0.1}, "choose 'dec' or 'ae-ls'"),
    ],
)
def test_bad_settings_are_refused(digits, settings, says):
    with pytest.raises(ValueError, match=says):
        _model(**settings).fit(digits[0])


def test_a_step_too_large_is_told(digits):
    with pytest.raises(FloatingPointError, match="lower step=50"), np.errstate(all="ignore"):
        _model(step=50.0, n_layers=400).fit(digits[0])


def test_verbose_shows_progress(digits, capsys):
    _model(verbose=True, max_iter=2).fit(digits[0])
    assert "UnrolledDictionaryLearning" in capsys.readouterr().err


@pytest.mark.slow
def test_the_example_in_the_docs_runs_as_printed(tmp_path):
    page = (Path(__file__).parents[1] / "docs" / "estimator.md").read_text()
    example = page.split("```python\n")[1].split("```")[0]
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, env=os.environ | {"MPLBACKEND": "agg"}, capture_output=True, text=True
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert (tmp_path / "explained.png").stat().st_size > 20_000
    pattern = r"mean squared error: noisy ([\d.]+), denoised ([\d.]+)"
    printed, promised = (np.array(re.search(pattern, text).groups(), dtype=float) for text in (done.stdout, page))
    np.testing.assert_allclose(printed, promised, rtol=0.02)


@pytest.mark.parametrize("learn", ["fit", "partial_fit"])
def test_learning_goes_on_from_atoms_that_were_set_by_hand(learn):
    x = np.random.default_rng(0).standard_normal((40, 6))
    model = pudle.UnrolledDictionaryLearning(5, n_layers=3, max_iter=2, learning_rate=1e-6, warm_start=True, random_state=0)
    model.components_ = atoms = np.eye(5, 6)
    getattr(model, learn)(x)
    assert np.abs(model.components_ - atoms).max() < 1e-4
    model.partial_fit(x)
    with pytest.raises(ValueError, match="codes must be"):
        model.inverse_transform(np.ones((2, 6)))


@pytest.mark.parametrize("shape", [(3, 7), (7, 3), (4, 4)])
def test_the_squared_norm_is_that_of_the_largest_singular_value(shape):
    D = torch.from_numpy(np.random.default_rng(0).standard_normal(shape))
    assert _squared_norm(D) == pytest.approx(float(torch.linalg.matrix_norm(D, 2)) ** 2)
    assert _squared_norm(0 * D) == 0


@pytest.mark.parametrize("kind", [np.ndarray.tolist, torch.from_numpy, np.asfortranarray, lambda atoms: atoms.astype(int)])
def test_atoms_that_were_set_by_hand_may_be_any_matrix(kind):
    x = np.random.default_rng(0).standard_normal((40, 6))
    plain, given = (pudle.UnrolledDictionaryLearning(5, n_layers=3, random_state=0) for _ in range(2))
    plain.components_ = np.eye(5, 6)
    given.components_ = kind(np.eye(5, 6))
    np.testing.assert_array_equal(given.transform(x), plain.transform(x))
    assert given.score(x) == plain.score(x)
    np.testing.assert_array_equal(given.inverse_transform(np.eye(5)), np.eye(5, 6))
    np.testing.assert_array_equal(given.partial_fit(x).components_, plain.partial_fit(x).components_)


@pytest.mark.parametrize(
    ("atoms", "says"),
    [
        (np.full((5, 6), np.nan), "components_ contains NaN"),
        (np.eye(5), r"components_ must be \(n_components, 6\)"),
        (np.ones(6), "Expected 2D"),
    ],
)
@pytest.mark.parametrize("method", ["transform", "score", "partial_fit"])
def test_atoms_that_do_not_fit_are_refused_by_every_method(method, atoms, says):
    model = pudle.UnrolledDictionaryLearning(5, n_layers=3)
    model.components_ = atoms
    with pytest.raises(ValueError, match=says):
        getattr(model, method)(np.ones((4, 6)))


@pytest.mark.parametrize("wrong", [{"step": 0}, {"learning_rate": -1.0}, {"batch_size": 0}, {"weight_decay": -1.0}], ids=str)
def test_settings_that_become_wrong_are_refused_by_every_method_that_uses_them(wrong):
    x = np.random.default_rng(0).standard_normal((20, 6))
    model = pudle.UnrolledDictionaryLearning(5, n_layers=3).partial_fit(x).set_params(**wrong)
    with pytest.raises(ValueError, match=next(iter(wrong))):
        model.partial_fit(x)
    if "step" in wrong:
        with pytest.raises(PudleError, match="step must be above 0"):
            model.transform(x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_tensors_of_half_precision_are_taken_as_float64_and_gradients_are_left_out(dtype):
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((20, 6))).to(dtype)
    model, same = (pudle.UnrolledDictionaryLearning(5, n_layers=3, max_iter=2, random_state=0) for _ in range(2))
    model.fit(x.clone().requires_grad_())
    np.testing.assert_array_equal(model.components_, same.fit(x.double().numpy()).components_)
    assert model.components_.dtype == np.float64
    codes = torch.ones(2, 5, dtype=dtype, requires_grad=True)
    np.testing.assert_array_equal(model.inverse_transform(codes), np.ones((2, 5)) @ model.components_)
