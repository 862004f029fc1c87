"""Convolutional dictionaries: the same unrolled layers with D a strided convolution.

Images are (n, 1, h, w), filters (the atoms) are (p, 1, k, k), codes are (n, p, h', w') with h' = (h − k) / stride + 1. Dz is a
transposed convolution (:func:`decode`), Dᵀx a convolution, so that every image size must be k plus a multiple of the stride.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from pudle.coding import Unrolling, iterate
from pudle.errors import PudleError, one_of
from pudle.gradients import ESTIMATORS, Gradient


def encode(
    images: Tensor,
    filters: Tensor,
    *,
    lam: float | None = None,
    threshold: float | None = None,
    step: float,
    n_layers: int,
    stride: int,
    decay: float = 1.0,
    nonnegative: bool = False,
) -> Tensor:
    """Codes (n, p, h', w') after T unrolled layers; differentiable. Settings as :class:`pudle.coding.Unrolling` has them."""
    unrolling = Unrolling(lam=lam, threshold=threshold, step=step, n_layers=n_layers, decay=decay, nonnegative=nonnegative)
    _check_shapes(images, filters, stride)
    start = torch.zeros_like(_correlate(images, filters, stride))
    return iterate(unrolling, start, lambda codes: _correlate(decode(codes, filters, stride=stride) - images, filters, stride))


def decode(codes: Tensor, filters: Tensor, *, stride: int) -> Tensor:
    """Dz: images (n, 1, h, w) from codes (n, p, h', w')."""
    return F.conv_transpose2d(codes, filters, stride=stride)


def fit_size(images: Tensor, kernel: int, stride: int) -> Tensor:
    """``images`` (..., h, w) without the last rows and columns that filters of ``kernel`` at ``stride`` do not reach."""
    height, width = ((size - kernel) // stride * stride + kernel for size in images.shape[-2:])
    if min(height, width) < kernel:
        raise PudleError(
            f"an image of {images.shape[-2]} x {images.shape[-1]} pixels is smaller than the {kernel} x {kernel} filters"
        )
    return images[..., :height, :width]


def filter_gradient(
    images: Tensor,
    filters: Tensor,
    estimator: str,
    unrolling: Unrolling,
    *,
    stride: int,
    targets: Tensor | None = None,
    l1_weight: float = 1.0,
) -> Gradient:
    """Gradient (p, 1, k, k) of mean ½‖target − Dz‖² (+ ``l1_weight`` λ mean ‖z‖₁ for ae-lasso), sums over pixels, means over images.

    The codes z are those of ``images`` (noisy, say); ``targets`` (clean, say) are the images themselves unless given.
    """
    one_of(estimator, ESTIMATORS, "estimator")
    if estimator == "ae-lasso" and unrolling.lam is None:
        raise PudleError("estimator 'ae-lasso' needs lam: its loss has the term λ‖z‖₁, which hard thresholding does not define")
    targets = images if targets is None else targets
    filters = filters.detach().requires_grad_()
    with torch.set_grad_enabled(estimator != "dec"):  # dec holds the codes constant
        codes = encode(images, filters, **vars(unrolling), stride=stride)
    loss = 0.5 * (decode(codes, filters, stride=stride) - targets).square().sum() / len(images)
    if estimator == "ae-lasso":
        loss = loss + l1_weight * unrolling.lam * codes.abs().sum() / len(images)
    (gradient,) = torch.autograd.grad(loss, filters)
    return Gradient(gradient, codes.detach(), float(loss.detach()))


def _correlate(images: Tensor, filters: Tensor, stride: int) -> Tensor:
    return F.conv2d(images, filters, stride=stride)


def _check_shapes(images: Tensor, filters: Tensor, stride: int) -> None:
    if images.ndim != 4 or images.shape[1] != 1 or filters.ndim != 4 or filters.shape[1] != 1:
        raise PudleError(
            f"images must be (n, 1, h, w) and filters (p, 1, k, k), not {tuple(images.shape)} and {tuple(filters.shape)}"
        )
    kernel = filters.shape[-1]
    if any(size < kernel or (size - kernel) % stride for size in images.shape[-2:]):
        raise PudleError(
            f"images of {images.shape[-2]} x {images.shape[-1]} pixels are not {kernel} plus a multiple of stride={stride} high and wide: "
            "crop them with pudle.convolution.fit_size"
        )
