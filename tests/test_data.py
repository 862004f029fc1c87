"""Synthetic data have the stated statistics; image files are read with care."""

import numpy as np
import pytest
import torch
from skimage.io import imsave

import pudle
from pudle.data.catalogue import BUNDLED, DATA_SETS, FOLDERS, data_root
from pudle.data.images import check_sizes, load_images, random_crops, read_grey
from pudle.data.streams import stream
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


@pytest.mark.parametrize("shape", [(6, 7), (6, 7, 3), (6, 7, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_colour_and_depth_are_read_alike(tmp_path, shape, dtype):
    image = np.full(shape, np.iinfo(dtype).max // 2, dtype)
    if shape[-1] == 4:
        image[..., 3] = np.iinfo(dtype).max
    path = tmp_path / ("image.tif" if dtype is np.uint16 and len(shape) == 3 else "image.png")
    imsave(path, image, check_contrast=False)
    np.testing.assert_allclose(read_grey(path), 0.5, atol=0.003)


def test_folder_of_images(tmp_path):
    folder = tmp_path / "set12"
    folder.mkdir()
    for name in ("b", "a"):
        imsave(folder / f"{name}.png", np.full((9, 9), 100, np.uint8), check_contrast=False)
    assert list(load_images("set12", tmp_path)) == ["a", "b"]
    (folder / "c.png").write_bytes(b"not a picture")
    with pytest.raises(PudleError, match=r"c\.png: cannot be read as an image"):
        load_images("set12", tmp_path)


def test_missing_and_empty_folders_say_what_belongs_there(tmp_path):
    with pytest.raises(PudleError, match=r"cbsd432: .* is missing.*Berkeley.*PUDLE_DATA"):
        load_images("cbsd432", tmp_path)
    (tmp_path / "set12").mkdir()
    with pytest.raises(PudleError, match="no images"):
        load_images("set12", tmp_path)


def test_crops_are_parts_of_images():
    images = {"a": np.arange(20 * 30, dtype=np.float32).reshape(20, 30)}
    for crop in random_crops(images, 5, 20, stream(0, "batches")):
        assert set(crop.ravel()) <= set(images["a"].ravel()) and abs(crop[0, 0, 0] - crop[0, 0, 1]) == 1
    with pytest.raises(PudleError, match=r"image 'a' of data set 'mine' has 20 x 30 pixels"):
        check_sizes(images, 21, "mine")


@pytest.mark.parametrize("name", FOLDERS)
def test_the_real_folders_where_they_are(name):
    if not (data_root() / name).is_dir():
        pytest.skip(f"the data set {name} is not under PUDLE_DATA")
    assert len(load_images(name, data_root())) == {"bsd68": 68, "cbsd432": 432, "set12": 12}[name]


def test_catalogue_lists_every_set_once():
    assert len(set(DATA_SETS)) == len(DATA_SETS)
