r"""Unrolled layers with convolutional dictionaries.

Images are (n, 1, h, w), filters (the atoms) are (p, 1, k, k), and codes are (n, p, h', w') with h' = (h − k) / stride + 1. Dᵀx is a strided
convolution and Dz a transposed convolution (:func:`decode`). The sides of an image must be k plus a multiple of the stride.
"""

from collections.abc import Callable
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from pudle.core.closed_form import Pullback, flushed_denormals
from pudle.core.encoding import Paths, constants_and_levels, plain_layers
from pudle.core.units import number
from pudle.core.unrolling import Unrolling, check_types, runs_compiled
from pudle.errors import PudleError

MOST_PADDING = 2  # layers are kept for back-propagation up to so many codes, padded to a multiple of 16, per filter


def encode(
    images: Tensor,
    filters: Tensor,
    *,
    lam: float | Tensor | None = None,
    threshold: float | None = None,
    step: float | Tensor,
    n_layers: int,
    stride: int,
    decay: float = 1.0,
    nonnegative: bool = False,
    acceleration: str = "none",
) -> Tensor:
    """Codes z_T (n, p, h', w') of ``images`` (n, 1, h, w) after T unrolled layers.

    Codes are differentiable in ``images``, ``filters`` (p, 1, k, k), ``lam`` and ``step``. The settings are those of
    :class:`pudle.core.unrolling.Unrolling`; ``stride`` is in pixels. Raises :class:`PudleError` if settings, shapes or types do not fit.
    Source: PUDLE, Section 6.

    On a CPU in float32 or float64, layers without momentum run in compiled loops, image by image. ``backward()`` then uses the closed form
    of :mod:`pudle.core.networks`. Where a gradient is required, the codes and residuals of all layers are kept for it, about half of what
    torch would store; with fewer than 8 filters, whose codes are padded to 16, layers run again instead. Under ``torch.no_grad()`` nothing
    is kept.

    In all other cases layers are convolutions that torch records: with "fista", on other devices, for other types, under ``torch.func``,
    ``torch.compile`` and forward-mode differentiation, and in a backward pass with ``create_graph``.
    """
    lam, step, *levels = constants_and_levels(lam, step)
    unrolling = Unrolling(
        lam=lam,
        threshold=threshold,
        step=step,
        n_layers=n_layers,
        decay=decay,
        nonnegative=nonnegative,
        acceleration=acceleration,
    )
    check_image_shapes(images, filters, stride)
    paths = Paths(
        fast=lambda *inputs: _fast_codes(*inputs, unrolling, stride),
        keep=lambda *inputs: _codes_and_layers(*inputs, unrolling, stride),
        back=lambda *inputs: _pull_back(*inputs, unrolling, stride),
        plain=lambda *inputs: _plain_codes(*inputs, unrolling, stride),
    )
    return paths.run(images, filters, *levels, compiled=runs_compiled(images, filters) and not unrolling.accelerated)


def _plain_codes(images, filters, lam, step, unrolling, stride) -> Tensor:
    """Codes from layers that torch records. ``lam`` and ``step`` are tensors to differentiate with respect to, or None."""
    dictionary = Dictionary(filters, stride)
    images = dictionary.pad(images)
    start = torch.zeros_like(dictionary.correlate(images))
    return plain_layers(unrolling, start, lambda codes: dictionary.correlate(dictionary.synthesize(codes) - images), lam, step)


def _fast_codes(images, filters, unrolling, stride) -> Tensor:
    from pudle.kernels.image_layers import run_image_network  # importing numba is slow, and only this function needs it

    network = (*[filters.detach()] * 3, None)
    settings = {"stride": stride, "stop": unrolling.n_layers, "penalty": 0.0, "inside": None}
    with flushed_denormals():
        return run_image_network(images.detach(), None, network, unrolling, **settings)[1]


def _codes_and_layers(images, filters, unrolling, stride) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Codes, and the layers for :func:`_pull_back`, or nothing if padded filters would make them too large."""
    from pudle.kernels.image_layers import run_image_layers
    from pudle.kernels.simd import padded

    if padded.py_func(len(filters)) > MOST_PADDING * len(filters):
        return _fast_codes(images, filters, unrolling, stride), ()
    with flushed_denormals():
        return run_image_layers(images.detach(), filters.detach(), unrolling, stride=stride)


def _pull_back(images, filters, adjoint, wanted, layers, unrolling, stride) -> Pullback:
    """Derivatives with respect to images, filters, λ and α, as far as ``wanted``, from z̄_T = ``adjoint``.

    layers : those of :func:`_codes_and_layers`

    The level of layer t is αλν^t. Therefore λ̄ = α Σ_t ν^t θ̄_t, and ᾱ has the term λ Σ_t ν^t θ̄_t. Its other term,
    −Σ_t ⟨ū_t, Dᵀ r_t⟩, is the inner product of D and its derivative through Dᵀ, divided by α.
    """
    from pudle.kernels.image_layers import ImageHistory, pull_back_image_layers

    with flushed_denormals():
        synthesis, analysis, slopes, of_images = pull_back_image_layers(
            images.detach(),
            filters.detach(),
            unrolling,
            adjoint,
            stride=stride,
            of_arrays=wanted[1] or wanted[3],
            of_levels=wanted[2] or wanted[3],
            of_images=wanted[0],
            history=ImageHistory(*layers) if layers else None,
        )
    slope, step = (0.0 if unrolling.hard else float(slopes.sum())), unrolling.step
    of_step = float((analysis * filters.detach()).sum()) / step + slope * (unrolling.lam or 0.0)
    return Pullback(of_images, synthesis + analysis, step * slope, of_step)


def decode(codes: Tensor, filters: Tensor, *, stride: int) -> Tensor:
    """Images Dz (n, 1, h, w) from ``codes`` (n, p, h', w') and ``filters`` (p, 1, k, k).

    The result is differentiable in both. Raises :class:`PudleError` if shapes, types or ``stride`` (in pixels) do not fit.
    """
    check_types(codes=codes, filters=filters)
    if filters.ndim != 4 or codes.ndim != 4 or codes.shape[1] != len(filters):
        raise PudleError(
            f"codes must be (n, p, h', w') and filters (p, 1, k, k), not {tuple(codes.shape)} and {tuple(filters.shape)}"
        )
    stride = number("stride", stride, least=1, integer=True)
    height, width = ((size - 1) * stride + filters.shape[-1] for size in codes.shape[-2:])
    return Dictionary(filters, stride).synthesize(codes)[..., :height, :width]


def fit_size(images: Tensor, kernel: int, stride: int) -> Tensor:
    """``images`` (..., h, w) without the last rows and columns, which filters of size ``kernel`` at this ``stride`` do not reach.

    Sizes are in pixels. Raises :class:`PudleError` if an image is smaller than a filter, or if types or numbers do not fit.
    """
    kernel, stride = _sizes(images, kernel, stride, least=2)
    height, width = ((size - kernel) // stride * stride + kernel for size in images.shape[-2:])
    if min(height, width) < kernel:
        raise PudleError(
            f"an image of {images.shape[-2]} x {images.shape[-1]} pixels is smaller than the {kernel} x {kernel} filters"
        )
    return images[..., :height, :width]


def _sizes(images: Tensor, kernel: int, stride: int, least: int) -> tuple[int, int]:
    """``kernel`` and ``stride``, checked, and that ``images`` have a floating type, a pixel each and at ``least`` this number of axes."""
    check_types(images=images)
    if images.ndim < least or not images.numel():
        raise PudleError(
            f"images must be {'(n, 1, h, w)' if least > 2 else '(..., h, w)'} and not empty, not {tuple(images.shape)}"
        )
    return number("kernel", kernel, least=1, integer=True), number("stride", stride, least=1, integer=True)


def average_shifts(images: Tensor, kernel: int, stride: int, estimate: Callable[[Tensor], Tensor]) -> Tensor:
    """The mean of ``estimate`` over all stride² shifts of the grid of codes, for ``images`` (n, 1, h, w) of any size.

    ``estimate`` maps images whose sides are kernel plus a multiple of stride to images of the same size. Images are reflected at their
    borders, so that each pixel is reached by as many filters as inner pixels are. Sizes are in pixels. Raises :class:`PudleError` if types,
    shapes or numbers do not fit. Averages over shifts: Coifman & Donoho (1995).
    """
    kernel, stride = _sizes(images, kernel, stride, least=4)
    height, width = images.shape[-2:]
    margin = kernel - 1

    def rows(size: int, shift: int) -> Tensor:
        """For each row of the enlarged image, the index of the row of the image that it shows.

        The enlarged image begins ``margin + shift`` rows above the image, which has ``size`` rows.
        """
        length = kernel + -(-(size + 2 * margin + stride - 1 - kernel) // stride) * stride
        index = (torch.arange(length, device=images.device) - margin - shift) % max(1, 2 * (size - 1))
        return torch.minimum(index, 2 * (size - 1) - index)

    shifts = list(product(range(stride), repeat=2))
    moved = [images[..., rows(height, down)[:, None], rows(width, right)] for down, right in shifts]
    estimates = estimate(torch.cat(moved)).split(len(images))
    estimates = [
        shifted[..., margin + down : margin + down + height, margin + right : margin + right + width]
        for shifted, (down, right) in zip(estimates, shifts, strict=True)
    ]
    return torch.stack(estimates).mean(0)


@torch.no_grad()
def operator_norm(filters: Tensor, *, stride: int, size: int = 16, n_iter: int = 100) -> Tensor:
    """‖D‖₂, a tensor of no dimension, for ``filters`` (p, 1, k, k) and codes of ``size`` x ``size`` positions.

    ``n_iter`` steps of the power method from a fixed start give a lower bound. Layers with soft thresholds converge if the step is below
    2 / ‖D‖₂². Raises :class:`PudleError` if types, shapes or numbers do not fit.
    """
    check_types(filters=filters)
    if filters.ndim != 4 or filters.shape[1] != 1 or filters.shape[2] != filters.shape[3] or not filters.numel():
        raise PudleError(f"filters must be (p, 1, k, k), not {tuple(filters.shape)}")
    stride, size, n_iter = (
        number(name, value, least=1, integer=True) for name, value in (("stride", stride), ("size", size), ("n_iter", n_iter))
    )
    dictionary = Dictionary(filters, stride)
    side = (size - 1) * stride + filters.shape[-1]
    start = torch.randn(1, 1, side, side, generator=torch.Generator().manual_seed(0), dtype=torch.float64, device="cpu")
    image = dictionary.pad(start.to(filters))
    squared = image.new_zeros(())
    for _ in range(n_iter):
        image = dictionary.synthesize(dictionary.correlate(image))
        squared = torch.linalg.vector_norm(image)
        image = image / squared.clamp_min(torch.finfo(image.dtype).tiny)
    return squared.sqrt()


class Dictionary:
    """D, Dᵀ and the gradient of Dz with respect to the filters, each by the convolution that is fastest on a CPU.

    Strided transposed convolutions are slow on a CPU. If an image is divided into blocks of stride x stride pixels, which become stride²
    channels, D is a convolution of stride 1 with filters of k / stride blocks, rounded up. Images are therefore padded to full blocks with
    zeros, which no code depends on or affects.

    filters : (p, 1, k, k)
    stride : in pixels
    """

    def __init__(self, filters: Tensor, stride: int):
        self.filters, self.stride = filters, stride
        self.reach = -(-filters.shape[-1] // stride)  # number of blocks that a filter spans
        self.padding = self.reach * stride - filters.shape[-1]
        blocks = F.pixel_unshuffle(F.pad(filters, (0, self.padding, 0, self.padding)), stride)
        self.flipped = blocks.flip(2, 3).transpose(0, 1).contiguous(memory_format=torch.channels_last)

    def pad(self, images: Tensor) -> Tensor:
        """``images`` (n, 1, h, w) padded to full blocks, with strides that make torch store the codes channels-last as well."""
        return F.pad(images, (0, self.padding, 0, self.padding))[:, 0, :, :, None].movedim(-1, 1)

    def correlate(self, images: Tensor) -> Tensor:
        """The codes Dᵀx (n, p, h', w') of padded ``images`` (n, 1, h, w)."""
        return F.conv2d(images, self.filters, stride=self.stride)

    def synthesize(self, codes: Tensor) -> Tensor:
        """The padded images Dz (n, 1, h, w) of ``codes`` (n, p, h', w')."""
        return F.pixel_shuffle(F.conv2d(codes, self.flipped, padding=self.reach - 1), self.stride)

    def product(self, images: Tensor, codes: Tensor) -> Tensor:
        """The correlation ⟨x, z⟩ (p, 1, k, k) of padded ``images`` (n, 1, h, w) and ``codes`` (n, p, h', w'), summed over images."""
        stride, none, one = [self.stride] * 2, [0, 0], [1, 1]  # torch.nn.grad.conv2d_weight is slower here
        wanted = [False, True, False]
        args = (codes, images, self.filters, None, stride, none, one, False, none, 1, wanted)
        return torch.ops.aten.convolution_backward(*args)[1]


def check_image_shapes(images: Tensor, filters: Tensor, stride: int) -> None:
    """Raise :class:`PudleError` unless ``images`` (n, 1, h, w), ``filters`` (p, 1, k, k) and ``stride`` fit :func:`encode`."""
    check_types(images=images, filters=filters)
    number("stride", stride, least=1, integer=True)
    single = all(array.ndim == 4 and array.shape[1] == 1 for array in (images, filters))
    if not single or filters.shape[2] != filters.shape[3]:
        raise PudleError(
            f"images must be (n, 1, h, w) and filters (p, 1, k, k), not {tuple(images.shape)} and {tuple(filters.shape)}"
        )
    if not len(images) or not len(filters):
        raise PudleError(f"there must be at least one image and one filter, not {len(images)} and {len(filters)}")
    kernel = filters.shape[-1]
    if any(size < kernel or (size - kernel) % stride for size in images.shape[-2:]):
        raise PudleError(
            f"height and width of images must be kernel={kernel} plus a multiple of stride={stride}, not {images.shape[-2]} x "
            f"{images.shape[-1]} pixels: crop images with pudle.core.convolution.fit_size"
        )
