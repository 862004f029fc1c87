"""Errors of dictionaries and quality of denoised images."""

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from pudle.core.units import number
from pudle.core.unrolling import check_types
from pudle.errors import PudleError


def dictionary_error(learned: Tensor, true: Tensor, *, align: bool = False) -> float:
    """The relative error ‖D − D*‖_F / ‖D*‖_F of a dictionary ``learned`` (m, p), where ``true`` is D* (m, p).

    Without ``align`` atoms are compared column by column, which is valid if learning started near the truth. With ``align`` they are compared
    after the best one-to-one matching of atoms and signs (Hungarian assignment on |Dᵀ D*|), so that permutations and sign flips do not matter.
    Raises :class:`PudleError` if the shapes or types differ, or if D* is 0. Source: PUDLE, Section 5.
    """
    _check_dictionaries(learned, true)
    if learned.shape != true.shape:
        raise PudleError(f"dictionaries differ in shape: {tuple(learned.shape)} and {tuple(true.shape)}")
    if not true.any():
        raise PudleError("true is 0 everywhere, so that the error relative to its norm is undefined")
    learned, true = learned.detach(), true.detach()
    if align:
        learned = align_atoms(learned, true)
    return float((learned - true).norm() / true.norm())


def align_atoms(learned: Tensor, true: Tensor) -> Tensor:
    """``learned`` (m, p) with atoms and signs permuted to match those of ``true`` best."""
    _check_dictionaries(learned, true)
    if learned.shape != true.shape:
        raise PudleError(f"dictionaries differ in shape: {tuple(learned.shape)} and {tuple(true.shape)}")
    overlap = learned.detach().double().T @ true.detach().double()
    if not overlap.isfinite().all():
        raise PudleError("atoms can be matched only if all values of learned and true are finite")
    rows, columns = linear_sum_assignment(overlap.abs().cpu().numpy(), maximize=True)
    order = torch.as_tensor(rows[np.argsort(columns)], device=learned.device)
    return learned[:, order] * torch.where(overlap[order].diagonal() < 0, -1, 1).to(learned.dtype)


def psnr(clean, estimate, peak: float | None = None) -> float:
    """Peak signal-to-noise ratio in dB of one image (h, w), 10 log10(peak² / mean squared error).

    clean, estimate : arrays or tensors (h, w); axes of length 1 are dropped
    peak : None means 1 for values in [0, 1], and the largest value of the type for images of 8 or 16 bits. No value of the clean
        image is larger; those of the estimate may be.

    The value for equal images is infinite. Raises :class:`PudleError` if the shapes or the types of values differ, or if the clean image
    has values outside of its range. The formula is that of ``skimage.metrics.peak_signal_noise_ratio``.
    """
    clean, estimate, brightest = _pair(clean, estimate)
    if peak is None:
        peak = brightest
        _check_range(clean, brightest, "; or set peak, the largest possible value")
    peak = number("peak", peak, above=True)
    if np.array_equal(clean, estimate):
        return float("inf")
    return float(peak_signal_noise_ratio(clean, estimate, data_range=peak))


def psnr_as_published(clean, estimate) -> float:
    """PSNR in dB as computed for PUDLE: the estimate is clamped to [0, 1], and the peak is the maximum of the clean image.

    clean, estimate : arrays or tensors (h, w); axes of length 1 are dropped

    Images of 8 or 16 bits are divided by the largest value of their type. :func:`psnr` does not clamp. An estimate with a value that is not
    finite has the PSNR NaN, since clamping would make infinity the value of white. Raises :class:`PudleError` as
    :func:`psnr` does. Source: the protocol of denoising in PUDLE, Section 6.
    """
    clean, estimate, brightest = _pair(clean, estimate)
    _check_range(clean, brightest)
    if not np.isfinite(estimate).all():
        return float("nan")
    clean = clean / brightest
    return psnr(clean, np.clip(estimate / brightest, 0, 1), peak=float(clean.max()))


def ssim(clean, estimate) -> float:
    """Structural similarity of one image (h, w) with values in [0, 1], or 8 or 16 bits, by scikit-image (window 7, data range 1).

    clean, estimate : arrays or tensors (h, w); axes of length 1 are dropped

    Raises :class:`PudleError` as :func:`psnr` does, and for images with a side below 7 pixels. Source: Wang, Bovik, Sheikh & Simoncelli
    (2004).
    """
    clean, estimate, brightest = _pair(clean, estimate)
    _check_range(clean, brightest)
    if min(clean.shape) < 7:
        raise PudleError(f"ssim compares windows of 7 x 7 pixels: an image of {clean.shape[0]} x {clean.shape[1]} has none")
    return float(structural_similarity(clean, estimate, data_range=brightest))


def _check_dictionaries(learned: Tensor, true: Tensor) -> None:
    for name, dictionary in (("learned", learned), ("true", true)):
        check_types(**{name: dictionary})
        if dictionary.ndim != 2:
            raise PudleError(f"{name} must be (n_features, n_atoms), not {tuple(dictionary.shape)}")


def _pair(clean, estimate) -> tuple[np.ndarray, np.ndarray, float]:
    """Two images of the same shape and range of values as float64, and the largest value of this range."""
    kinds = [
        str(image.dtype if hasattr(image, "dtype") else np.asarray(image).dtype).removeprefix("torch.")
        for image in (clean, estimate)
    ]
    peaks = [{"uint8": 255.0, "uint16": 65535.0}.get(kind, 1.0) for kind in kinds]
    taken = all(kind in ("uint8", "uint16", "bool") or kind.startswith(("float", "bfloat")) for kind in kinds)
    if not taken or peaks[0] != peaks[1]:
        raise PudleError(f"clean and estimate must both have values in [0, 1], or 8 or 16 bits, not {kinds[0]} and {kinds[1]}")
    clean, estimate = _image(clean), _image(estimate)
    if clean.shape != estimate.shape:
        raise PudleError(f"clean and estimate must have the same shape, not {clean.shape} and {estimate.shape}")
    return clean, estimate, peaks[0]


def _check_range(clean: np.ndarray, brightest: float, advice: str = "") -> None:
    """Raise :class:`PudleError` unless the values of ``clean`` are in [0, 1], but for rounding, or of 8 or 16 bits."""
    low, high = clean.min(), clean.max()
    if not (low >= -1e-6 and high <= brightest * (1 + 1e-6)):
        raise PudleError(
            f"clean must have values in [0, 1], not from {low:.4g} to {high:.4g}: divide both images by the value of white{advice}"
        )


def _image(image) -> np.ndarray:
    image = np.asarray(image.detach().cpu().double() if isinstance(image, Tensor) else image, dtype=np.float64)
    image = image if image.ndim == 2 else image.squeeze()
    if image.ndim != 2 or not image.size:
        raise PudleError(f"one grey image (height, width) is needed, not an array of shape {image.shape}")
    return image
