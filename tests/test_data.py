"""Synthetic data have the stated statistics; photographs and their crops."""

import numpy as np
import pytest
import torch

import pudle
from pudle.core.random import stream
from pudle.data.catalogue import BUNDLED, data_root
from pudle.data.images import check_sizes, load_images, random_crops
from pudle.errors import PudleError


def test_sparse_data_is_dictionary_times_codes():
    data = pudle.make_sparse_data(2000, 20, 40, 4, seed=0, dtype=torch.float64)
    torch.testing.assert_close(data.x, data.codes @ data.dictionary.T)
    torch.testing.assert_close(data.dictionary.norm(dim=0), torch.ones(40, dtype=torch.float64))
    assert ((data.codes != 0).sum(1) == 4).all()
    sizes = data.codes[data.codes != 0].abs()
    assert sizes.min() >= 1 and sizes.max() <= 2 and sizes.mean() == pytest.approx(1.5, abs=0.02)
    usage = (data.codes != 0).double().mean(0)
    assert usage.mean() == pytest.approx(0.1) and usage.std() < 0.02


def test_signs_are_shared_or_independent():
    products = {}
    for signs in ("shared", "independent"):
        codes = pudle.make_sparse_data(2000, 10, 10, 3, signs=signs, seed=0).codes
        products[signs] = float((codes[:, 0] * codes[:, 1]).mean())
    assert products["shared"] > 0.1 and abs(products["independent"]) < 0.05


def test_subgaussian_amplitudes_and_noise():
    clean = pudle.make_sparse_data(3000, 10, 10, 2, amplitudes="subgaussian", seed=0)
    sizes = clean.codes[clean.codes != 0].abs()
    assert sizes.mean() == pytest.approx(5, abs=0.1) and sizes.std() == pytest.approx(1, abs=0.05)
    noisy = pudle.make_sparse_data(3000, 10, 10, 2, amplitudes="subgaussian", noise=0.12, seed=0)
    assert (noisy.x - clean.x).std() == pytest.approx(0.12, abs=0.005)


def test_streams_are_separate():
    """More samples or noise change neither the dictionary nor the start; a seed gives the same data again."""
    few, many = (pudle.make_sparse_data(n, 10, 20, 2, noise=noise, seed=5) for n, noise in ((10, 0.0), (50, 0.1)))
    assert torch.equal(few.dictionary, many.dictionary)
    assert torch.equal(few.codes, pudle.make_sparse_data(10, 10, 20, 2, noise=0.3, seed=5).codes)
    assert not torch.equal(few.dictionary, pudle.make_sparse_data(10, 10, 20, 2, seed=6).dictionary)
    assert stream(1, "codes").random() != stream(1, "noise").random()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sparsity": 11}, "sparsity=11"),
        ({"n_samples": 0}, "n_samples must be at least 1"),
        ({"signs": "shard"}, "did you mean 'shared'"),
        ({"amplitudes": "gaussian"}, "did you mean 'subgaussian'"),
    ],
)
def test_impossible_data_are_refused(settings, message):
    with pytest.raises(PudleError, match=message):
        pudle.make_sparse_data(**({"n_samples": 5, "n_features": 4, "n_atoms": 10, "sparsity": 2, "seed": 0} | settings))


def test_bundled_photographs_do_not_overlap():
    train, test = (load_images(name, data_root()) for name in BUNDLED)
    assert not set(train) & set(test)
    for image in (train | test).values():
        assert image.dtype == np.float32 and image.ndim == 2 and image.min() >= 0 and 0.5 < image.max() <= 1


def test_crops_are_parts_of_images():
    images = {"a": np.arange(20 * 30, dtype=np.float32).reshape(20, 30)}
    for crop in random_crops(images, 5, 20, stream(0, "batches")):
        assert set(crop.ravel()) <= set(images["a"].ravel()) and abs(crop[0, 0, 0] - crop[0, 0, 1]) == 1
    with pytest.raises(PudleError, match=r"image 'a' of data set 'mine' has 20 x 30 pixels"):
        check_sizes(images, 21, "mine")
