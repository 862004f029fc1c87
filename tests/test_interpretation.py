"""The relation between a dictionary and its training set, against definitions that form what the code avoids."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import pudle
from pudle.analysis.negative_controls import measure
from pudle.core import convolution
from pudle.core.interpretation import (
    atom_contributions,
    explained_dictionary,
    output_contributions,
    pixel_codes,
    relation_residual,
)
from pudle.data.digits import load_digits, read_idx
from pudle.errors import PudleError
from pudle.experiments.interpretability import controls
from pudle.experiments.interpretability.grid import plan
from pudle.experiments.interpretability.run import run, train_dictionary
from pudle.harness.record import Record


def _data(n=30, m=7, p=5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    x, codes, new = (torch.randn(*shape, dtype=dtype, generator=generator) for shape in ((n, m), (n, p), (4, p)))
    return x, codes * (codes > 0), new


def test_the_p_by_p_form_equals_the_papers_n_by_n_form():
    x, z, new = _data()
    gram = z @ z.T + 0.3 * torch.eye(len(z))  # the paper's G, n x n
    contributions = torch.linalg.solve(gram, z)
    torch.testing.assert_close(atom_contributions(z, 0.3), contributions)
    torch.testing.assert_close(output_contributions(z, new, 0.3), new @ contributions.T)
    torch.testing.assert_close(explained_dictionary(x, z, 0.3), x.T @ contributions)


def test_the_explained_dictionary_is_stationary_under_weight_decay():
    """∇ of mean ½‖x − Dz‖² + w/2 ‖D‖² vanishes at it, for ω = n w."""
    x, z, new = _data()
    decay = 0.02
    D = explained_dictionary(x, z, len(x) * decay).requires_grad_()
    loss = 0.5 * (x - z @ D.T).square().sum() / len(x) + decay / 2 * D.square().sum()
    (gradient,) = torch.autograd.grad(loss, D)
    assert gradient.abs().max() < 1e-12
    D = D.detach()
    assert relation_residual(D, x, z, len(x) * decay) < 1e-12 < 0.1 < relation_residual(D + 1, x, z, len(x) * decay)
    torch.testing.assert_close(output_contributions(z, new, len(x) * decay) @ x, new @ D.T)


def test_convolutional_codes_are_those_of_pixels():
    generator = torch.Generator().manual_seed(1)
    filters = torch.randn(3, 1, 5, 5, dtype=torch.float64, generator=generator)
    codes = torch.randn(2, 3, 4, 6, dtype=torch.float64, generator=generator)
    images = convolution.decode(codes, filters, stride=2)
    flat = pixel_codes(codes, 5, 2)
    torch.testing.assert_close((flat @ filters.flatten()).reshape(images.shape), images)
    options = {"kernel": 5, "stride": 2}
    found = explained_dictionary(images, codes, 1e-9, **options)
    torch.testing.assert_close(found, filters, rtol=1e-5, atol=1e-6)  # noiseless images have the filters as their solution
    assert relation_residual(found, images, codes, 1e-9, **options) < 1e-12
    beta = output_contributions(codes, codes[:1], 0.5, **options)
    of_pixels = atom_contributions(codes, 0.5, **options)
    torch.testing.assert_close(beta, flat[: len(beta)] @ of_pixels.T)
    torch.testing.assert_close(
        beta @ images.flatten(), flat[: len(beta)] @ explained_dictionary(images, codes, 0.5, **options).flatten()
    )


def test_float32_stays_float32_and_is_as_exact():
    _, z, new = _data(dtype=torch.float32)
    found = output_contributions(z, new, 1e-3)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), output_contributions(z.double(), new.double(), 1e-3), rtol=1e-5, atol=1e-6)


def test_an_unused_atom_needs_a_ridge():
    x, z, _ = _data()
    z[:, 2] = 0
    with pytest.raises(PudleError, match=r"ridge=0.* is too small.*singular"):
        atom_contributions(z, 0.0)
    assert explained_dictionary(x, z, 1e-3)[:, 2].abs().max() == 0
    with pytest.raises(PudleError, match="at least 0 and finite, not -1"):
        atom_contributions(z, -1)
    with pytest.raises(PudleError, match="with kernel and stride"):
        atom_contributions(z.reshape(1, 5, 5, 6), 1.0)


def _idx(array):
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def test_idx_files_are_read_with_care(tmp_path):
    images, labels = np.arange(24, dtype=np.uint8).reshape(4, 2, 3), np.array([0, 7, 1, 0], np.uint8)
    (tmp_path / "mnist").mkdir()
    for prefix in ("train", "t10k"):
        (tmp_path / f"mnist/{prefix}-images-idx3-ubyte").write_bytes(_idx(images))
        (tmp_path / f"mnist/{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(_idx(labels)))
    (trained, of_train), (_, of_test) = load_digits("mnist", [0, 1], tmp_path)
    assert of_train.tolist() == [0, 1, 0] == of_test.tolist()
    np.testing.assert_allclose(trained, images[[0, 2, 3]] / 255, rtol=1e-6)
    path = tmp_path / "mnist/train-images-idx3-ubyte"
    for content, says in (
        (_idx(images)[:-1], r"has 39 bytes, where its header \(4, 2, 3\) asks for 40"),
        (_idx(images) + b"\0", "has 41 bytes"),
        (b"\0\0\x0d\x03" + _idx(images)[4:], "begins with 00 00 0d 03"),
        (b"", "begins with nothing"),
        (_idx(images)[:9], "cut off within its header"),
        (gzip.compress(_idx(images))[:-9], "cannot be decompressed"),
        (_idx(images[:3]), r"do not fit: arrays of shape \(3, 2, 3\) and \(4,\)"),
    ):
        path.write_bytes(content)
        with pytest.raises(PudleError, match=says) as error:
            load_digits("mnist", [0, 1], tmp_path)
        assert str(path) in str(error.value)
    path.unlink()
    with pytest.raises(PudleError, match=r"missing, with or without \.gz"):
        load_digits("mnist", [0], tmp_path)
    with pytest.raises(PudleError, match="the folder of the data set 'mnist' is missing"):
        load_digits("mnist", [0], tmp_path / "nowhere")
    with pytest.raises(PudleError, match="begins with 61"):
        read_idx_of = tmp_path / "text"
        read_idx_of.write_text("abc def")
        read_idx(read_idx_of)


def test_the_gap_of_outputs_is_that_of_the_relation_however_many_contributors_are_looked_at():
    settings = controls.STATIONARY | {"epochs": 200, "drop_epochs": [120, 160]}
    complete, few = (measure(run, [settings | {"n_contributors": n}], [0], ()) for n in (None, 60))
    (gap,), (of_few,) = (rows[rows.quantity == "output_gap"].value for rows in (complete, few))
    assert of_few == gap < 1e-2 < few[few.quantity == "rebuilt"].value.min()


def test_the_pictures_show_sums_of_all_training_images_and_who_is_in_them_most_and_least():
    record = Record()
    settings = controls.STATIONARY | {"epochs": 20, "drop_epochs": [], "n_contributors": 60}
    run(settings, [0], record)
    kept = {name.removesuffix("/0"): array for name, array in record.arrays.items()}
    (train, _), (new, new_labels) = load_digits("digits", [0, 1], "nowhere")
    x, new = (torch.as_tensor(images).flatten(1) for images in (train, new))
    dictionary = torch.as_tensor(kept["dictionary"]).flatten(1).T
    codes, new_codes = (pudle.encode(part, dictionary, lam=0.25, step=0.3, n_layers=20, nonnegative=True) for part in (x, new))
    firsts = [int((new_labels == label).argmax()) for label in (0, 1)]
    atom, beta = atom_contributions(codes, 0.5 * len(x)).T, output_contributions(codes, new_codes[firsts], 0.5 * len(x))
    for name, weights in (("atom", atom[kept["atom/atoms"]]), ("output", beta)):
        sums = (weights @ x).reshape(kept[f"{name}/estimates"].shape)
        np.testing.assert_allclose(kept[f"{name}/estimates"], sums, rtol=1e-3, atol=1e-5)
        ranked, _ = weights.sort(dim=1, descending=True)
        found = kept["atom/weights" if name == "atom" else "output/beta/weights"]
        np.testing.assert_allclose(found, torch.cat([ranked[:, :5], ranked[:, -5:]], 1), rtol=1e-3, atol=1e-7)
    rows = record.rows()
    last = rows[(rows.quantity == "step_times_squared_norm") & (rows.step == 20)].value.item()
    assert last == pytest.approx(0.3 * float(torch.linalg.matrix_norm(dictionary, 2)) ** 2, rel=1e-5)
    counts = kept["histogram/counts_by_class"]  # class, (same, another), bin; among 60 contributors
    assert counts.sum((1, 2)).tolist() == [60 * (new_labels == label).sum() for label in (0, 1)]
    assert counts[:, 0].sum(1).min() > 0 < counts[:, 1].sum(1).min()


@pytest.mark.parametrize("overlay", ["config.yaml", "paper.yaml"])
def test_the_relation_is_judged_where_it_is_one(overlay):
    """On dec with weight decay in full batches, at both scales."""
    settings = {}
    for file in ("config.yaml", overlay):
        settings |= yaml.safe_load((Path(__file__).parents[1] / "config" / file).read_text())["experiments"]["interpretability"]
    (cell,) = (cell for cell in plan(settings) if cell["estimator"] == "dec")
    (train, _), _ = load_digits(cell["data_set"], cell["classes"], "nowhere")
    assert cell["weight_decay"] > 0 and cell["ridge"] is None and cell["batch"] >= len(train)


def test_without_weight_decay_training_has_no_ridge_term():
    """Images that are all zero have codes and gradients of zero: then only weight decay moves the dictionary."""
    settings = controls.STATIONARY | {"epochs": 3, "drop_epochs": [], "evaluate_every": 3}
    start = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    ends = [
        train_dictionary(settings | {"weight_decay": decay, "ridge": 1e-3}, torch.zeros(30, 7), 0, Record(), start)
        for decay in (0.0, 0.5)
    ]
    assert ends[0].equal(start) and (ends[1].abs() < start.abs()).all()


def test_the_bundled_digits():
    (train, labels), (test, _) = load_digits("digits", [0, 1, 2, 3, 4], "nowhere")
    assert train.shape[1:] == (8, 8) and train.min() == 0 and train.max() == 1
    assert set(labels) == {0, 1, 2, 3, 4} and len(train) + len(test) == 901
