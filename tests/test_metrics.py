"""Metrics are invariant to what they should be invariant to, and agree with other libraries."""

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

import pudle
from pudle.errors import PudleError


@pytest.fixture
def dictionaries():
    true = pudle.make_sparse_data(1, 20, 30, 3, seed=0, dtype=torch.float64).dictionary
    return pudle.perturb_dictionary(true, 0.02, seed=0), true


def test_aligned_error_does_not_see_permutations_and_signs(dictionaries):
    learned, true = dictionaries
    draw = torch.Generator().manual_seed(0)
    order = torch.randperm(30, generator=draw)
    signs = torch.randint(0, 2, (30,), generator=draw) * 2 - 1
    shuffled = learned[:, order] * signs
    aligned = pudle.dictionary_error(learned, true)
    assert pudle.dictionary_error(shuffled, true) > 1
    assert pudle.dictionary_error(shuffled, true, align=True) == pytest.approx(aligned)


def test_errors_of_the_same_dictionary_are_zero(dictionaries):
    _, true = dictionaries
    assert pudle.dictionary_error(true, true) == pudle.dictionary_error(true, true, align=True) == 0


def test_perturbation_has_the_published_size():
    """δ = 0.1 at m = 50 gives a relative error of 0.61, and δ = 0.005 at m = 1000 one of 0.156 (PUDLE, Section 5)."""
    for m, delta, published in ((50, 0.1, 0.61), (1000, 0.005, 0.156)):
        true = pudle.make_sparse_data(1, m, 200, 1, seed=1).dictionary
        assert pudle.dictionary_error(pudle.perturb_dictionary(true, delta, 1), true) == pytest.approx(published, rel=0.03)


def test_different_shapes_are_refused():
    with pytest.raises(PudleError, match=r"\(2, 3\) and \(3, 2\)"):
        pudle.dictionary_error(torch.ones(2, 3), torch.ones(3, 2))


def test_psnr_agrees_with_scikit_image():
    draw = np.random.default_rng(0)
    clean = draw.random((30, 40)) * 0.8
    estimate = clean + 0.1 * draw.standard_normal(clean.shape)
    assert pudle.psnr(clean, estimate) == pytest.approx(peak_signal_noise_ratio(clean, estimate, data_range=1))
    as_published = peak_signal_noise_ratio(clean, estimate.clip(0, 1), data_range=clean.max())
    assert pudle.psnr_as_published(torch.tensor(clean), torch.tensor(estimate)) == pytest.approx(as_published)
    assert pudle.psnr(clean, clean) == float("inf")
    assert pudle.ssim(clean, clean) == pytest.approx(1)


def test_psnr_as_published_clamps_the_estimate_and_psnr_does_not():
    clean, estimate = np.array([[0.0, 0.5], [0.25, 1.0]]), np.array([[-0.5, 0.6], [0.25, 3.0]])
    assert pudle.psnr_as_published(clean, estimate) == pytest.approx(10 * np.log10(4 / 0.1**2))
    assert pudle.psnr(clean, estimate) == pytest.approx(10 * np.log10(4 / (0.5**2 + 0.1**2 + 2**2)))
    assert pudle.psnr_as_published(0.5 * clean, 0.5 * clean + 0.1) == pytest.approx(10 * np.log10(0.25 / 0.01))


def test_metrics_take_one_image():
    with pytest.raises(PudleError, match="one grey image"):
        pudle.psnr(np.zeros((2, 5, 5)), np.zeros((2, 5, 5)))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda a: pudle.psnr((255 * a).astype(np.uint8), a), "not uint8 and float64"),
        (lambda a: pudle.ssim(a, torch.ones(20, 24, dtype=torch.int32)), "not float64 and int32"),
        (lambda a: pudle.psnr(a, a[:-1]), r"the same shape, not \(20, 24\) and \(19, 24\)"),
        (lambda a: pudle.ssim(a, a[:-1]), "the same shape"),
        (lambda a: pudle.ssim(a[:5], a[:5]), "windows of 7 x 7"),
        (lambda a: pudle.psnr(a, a, peak=0), "peak must be above 0"),
        (lambda a: pudle.psnr(a, a, peak="1"), "peak must be a number"),
        (lambda a: pudle.psnr(255 * a, 255 * a), r"in \[0, 1\], not from .* set peak"),
        (lambda a: pudle.psnr_as_published(255 * a, 255 * a), r"in \[0, 1\], not from"),
        (lambda a: pudle.ssim(a - 0.5, a), r"in \[0, 1\], not from -0.49"),
        (lambda a: pudle.ssim(a * np.nan, a), r"in \[0, 1\], not from nan"),
        (lambda a: pudle.psnr(a + 0j, a), "not complex128 and float64"),
        (lambda a: pudle.psnr(a[:0], a[:0]), "one grey image"),
        (lambda a: pudle.psnr_as_published(0 * a, a), "peak must be above 0"),
        (lambda a: pudle.psnr(a, a, peak=float("nan")), "peak must be above 0"),
        (lambda a: pudle.dictionary_error(a, a), "learned must be a torch tensor"),
        (lambda a: pudle.dictionary_error(torch.ones(3), torch.ones(3)), r"learned must be \(n_features, n_atoms\)"),
        (lambda a: pudle.dictionary_error(torch.ones(3, 2, dtype=int), torch.ones(3, 2)), "floating type"),
        (lambda a: pudle.dictionary_error(torch.ones(3, 2) / 0, torch.ones(3, 2), align=True), "learned and true are finite"),
    ],
)
def test_shapes_and_units_are_checked(call, says):
    with pytest.raises(PudleError, match=says):
        call(np.random.default_rng(0).random((20, 24)))


def test_eight_bits_are_the_same_image():
    clean, noisy = np.random.default_rng(0).integers(0, 256, (2, 20, 24), dtype=np.uint8)
    assert pudle.ssim(clean, noisy) == pytest.approx(pudle.ssim(clean / 255, noisy / 255))
    assert pudle.psnr(clean, noisy) == pudle.psnr(clean, noisy, peak=255) == pytest.approx(pudle.psnr(clean / 255, noisy / 255))
    assert pudle.psnr_as_published(clean, noisy) == pytest.approx(pudle.psnr_as_published(clean / 255, noisy / 255))
    half = torch.tensor(clean / 255).bfloat16()
    assert pudle.psnr(half, half) == np.inf


def test_images_of_one_row_and_values_in_other_units_with_their_peak():
    clean, noisy = np.random.default_rng(0).random((2, 1, 24))
    assert pudle.psnr(255 * clean, 255 * noisy, peak=255) == pytest.approx(pudle.psnr(clean, noisy))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_atoms_of_every_floating_type_are_matched_and_may_require_a_gradient(dtype, dictionaries):
    learned, true = (dictionary.to(dtype) for dictionary in dictionaries[:2])
    assert pudle.dictionary_error(learned[:, [1, 0]].requires_grad_(), learned[:, :2], align=True) == 0
    assert pudle.dictionary_error(true, true.double(), align=True) < 1e-2


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_an_estimate_that_is_not_finite_has_no_psnr_as_published(value):
    """Clamping would make infinity the value of white."""
    clean = np.linspace(0, 1, 100).reshape(10, 10)
    assert np.isnan(pudle.psnr_as_published(clean, np.full_like(clean, value)))
