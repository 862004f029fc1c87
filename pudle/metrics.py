"""How far a dictionary is from the truth, and how good a denoised image is."""

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from skimage.metrics import structural_similarity
from torch import Tensor

from pudle.errors import PudleError


def dictionary_error(learned: Tensor, true: Tensor, *, align: bool = False) -> float:
    """‖D − D*‖_F / ‖D*‖_F of two (m, p) dictionaries; 0 is perfect.

    Without ``align`` atoms are compared column by column, which is valid from a near start; with it, after the best one-to-one
    matching of atoms and signs (Hungarian assignment on |Dᵀ D*|), which permutations and sign flips leave as it is.
    """
    if learned.shape != true.shape:
        raise PudleError(f"dictionaries differ in shape: {tuple(learned.shape)} and {tuple(true.shape)}")
    if align:
        learned = align_atoms(learned, true)
    return float((learned - true).norm() / true.norm())


def align_atoms(learned: Tensor, true: Tensor) -> Tensor:
    """``learned`` (m, p) with its atoms permuted and flipped to match those of ``true`` best."""
    overlap = learned.T @ true
    rows, columns = linear_sum_assignment(overlap.abs().cpu().numpy(), maximize=True)
    order = torch.as_tensor(rows[np.argsort(columns)], device=learned.device)
    return learned[:, order] * torch.where(overlap[order].diagonal() < 0, -1, 1).to(learned.dtype)


def psnr(clean, estimate, peak: float = 1.0) -> float:
    """Peak signal-to-noise ratio in dB of one image (h, w): 10 log10(peak² / mean squared error); the field's peak is 1."""
    clean, estimate = _image(clean), _image(estimate)
    error = np.mean((clean - estimate) ** 2)
    return float(10 * np.log10(peak**2 / error)) if error else float("inf")


def psnr_as_published(clean, estimate) -> float:
    """PSNR in dB as in PUDLE's numbers: of the estimate clamped to [0, 1], with the maximum of the clean image as the peak.

    ``psnr`` does not clamp, for any method.
    """
    return psnr(clean, np.clip(_image(estimate), 0, 1), peak=float(_image(clean).max()))


def ssim(clean, estimate) -> float:
    """Structural similarity of one image (h, w) with values in [0, 1], from scikit-image (window 7, data range 1)."""
    return float(structural_similarity(_image(clean), _image(estimate), data_range=1.0))


def _image(image) -> np.ndarray:
    image = np.asarray(image.detach().cpu() if isinstance(image, Tensor) else image, dtype=np.float64).squeeze()
    if image.ndim != 2:
        raise PudleError(f"one grey image (height, width) is needed, not an array of shape {image.shape}")
    return image
