r"""Convolutional dictionaries: the same unrolled layers with D a strided convolution.

Images are (n, 1, h, w), filters (the atoms) are (p, 1, k, k), codes are (n, p, h', w') with h' = (h − k) / stride + 1. Dz is a
transposed convolution (:func:`decode`), Dᵀx a convolution, so that every image size must be k plus a multiple of the stride.

:func:`filter_gradient` is the fast path, in closed form. Write :math:`⟨x, z⟩` for the correlation of images with codes, which
is the gradient of :math:`\sum x ⊙ Dz` in the filters. Layer t computes :math:`r_t = D z_t − x`,
:math:`u_t = z_t − α Dᵀ r_t` and :math:`z_{t+1} = P_t(u_t)`. Back through it,

.. math::
    \bar u_t = \bar z_{t+1} ⊙ 1[z_{t+1} ≠ 0], \qquad q_t = D \bar u_t, \qquad \bar z_t = \bar u_t − α Dᵀ q_t, \qquad
    \bar D = −α \textstyle\sum_t \bigl( ⟨r_t, \bar u_t⟩ + ⟨q_t, z_t⟩ \bigr),

plus the direct term :math:`⟨D z_T − x, z_T⟩`. :func:`autograd_filter_gradient` is the plain path, and the oracle in the tests.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from pudle.coding import Unrolling, iterate
from pudle.errors import PudleError, one_of
from pudle.gradients import ESTIMATORS, Gradient, _shrink_in_place


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
    acceleration: str = "none",
) -> Tensor:
    """Codes (n, p, h', w') after T unrolled layers; differentiable. Settings as :class:`pudle.coding.Unrolling` has them."""
    unrolling = Unrolling(
        lam=lam,
        threshold=threshold,
        step=step,
        n_layers=n_layers,
        decay=decay,
        nonnegative=nonnegative,
        acceleration=acceleration,
    )
    _check_shapes(images, filters, stride)
    dictionary = _Dictionary(filters, stride)
    images = dictionary.pad(images)
    start = torch.zeros_like(dictionary.correlate(images))
    return iterate(unrolling, start, lambda codes: dictionary.correlate(dictionary.synthesize(codes) - images))


def decode(codes: Tensor, filters: Tensor, *, stride: int) -> Tensor:
    """Dz: images (n, 1, h, w) from codes (n, p, h', w'); differentiable."""
    height, width = ((size - 1) * stride + filters.shape[-1] for size in codes.shape[-2:])
    return _Dictionary(filters, stride).synthesize(codes)[..., :height, :width]


def fit_size(images: Tensor, kernel: int, stride: int) -> Tensor:
    """``images`` (..., h, w) without the last rows and columns that filters of ``kernel`` at ``stride`` do not reach."""
    height, width = ((size - kernel) // stride * stride + kernel for size in images.shape[-2:])
    if min(height, width) < kernel:
        raise PudleError(
            f"an image of {images.shape[-2]} x {images.shape[-1]} pixels is smaller than the {kernel} x {kernel} filters"
        )
    return images[..., :height, :width]


@torch.no_grad()
def filter_gradient(
    images: Tensor,
    filters: Tensor,
    estimator: str,
    unrolling: Unrolling,
    *,
    stride: int,
    targets: Tensor | None = None,
    l1_weight: float = 1.0,
    backward_layers: int | None = None,
) -> Gradient:
    """Gradient (p, 1, k, k) of mean ½‖target − Dz‖² (+ ``l1_weight`` λ mean ‖z‖₁ for ae-lasso), means over images.

    The codes z are those of ``images`` (noisy, say); ``targets`` (clean, say) are the images themselves unless given.
    ``backward_layers`` back-propagates ae-ls and ae-lasso through the last so many layers only (all T of them unless given).
    Source: PUDLE, Section 3, with D convolutional (Section 6). Worked out in blocks of images: memory does not grow with n.
    """
    targets = images if targets is None else targets
    n_back = _check(images, filters, estimator, unrolling, stride=stride, targets=targets, backward_layers=backward_layers)
    penalty = l1_weight * unrolling.lam if estimator == "ae-lasso" else 0.0
    dictionary = _Dictionary(filters, stride)
    gradient, loss, codes = torch.zeros_like(filters), 0.0, []
    size = _block(images, filters, stride)
    for block, target in zip(images.split(size), targets.split(size), strict=True):
        z, history = _unroll(dictionary, dictionary.pad(block), unrolling, n_back)
        residual = dictionary.synthesize(z).sub_(dictionary.pad(target))
        loss += float(residual.square().sum()) / 2
        gradient += dictionary.product(residual, z)
        if history:
            back = dictionary.correlate(residual)
            if penalty:
                loss += penalty * float(z.abs().sum())
                back.add_(z.sign(), alpha=penalty)
            gradient += _back_propagate(dictionary, back, z, history, unrolling.step)
        codes.append(z)
    return Gradient(gradient / len(images), torch.cat(codes), loss / len(images))


def autograd_filter_gradient(
    images: Tensor,
    filters: Tensor,
    estimator: str,
    unrolling: Unrolling,
    *,
    stride: int,
    targets: Tensor | None = None,
    l1_weight: float = 1.0,
    backward_layers: int | None = None,
) -> Gradient:
    """The same as :func:`filter_gradient` by automatic differentiation, through torch's own transposed convolution."""
    targets = images if targets is None else targets
    n_back = _check(images, filters, estimator, unrolling, stride=stride, targets=targets, backward_layers=backward_layers)
    filters = filters.detach().requires_grad_()
    with torch.no_grad():
        codes = torch.zeros_like(F.conv2d(images, filters, stride=stride))
    for layer in range(unrolling.n_layers):
        with torch.set_grad_enabled(layer >= unrolling.n_layers - n_back):  # dec holds the codes constant
            residual = F.conv_transpose2d(codes, filters, stride=stride) - images
            codes = unrolling.shrink(codes - unrolling.step * F.conv2d(residual, filters, stride=stride), layer)
    loss = 0.5 * (F.conv_transpose2d(codes, filters, stride=stride) - targets).square().sum() / len(images)
    if estimator == "ae-lasso":
        loss = loss + l1_weight * unrolling.lam * codes.abs().sum() / len(images)
    (gradient,) = torch.autograd.grad(loss, filters)
    return Gradient(gradient, codes.detach(), float(loss.detach()))


class _Dictionary:
    """D, Dᵀ and the gradient of Dz in the filters, each by the convolution that is fastest on a CPU.

    Strided transposed convolutions are slow there. But cut into blocks of stride x stride pixels, an image is one of stride²
    channels, and D a convolution of stride 1 with filters of k / stride blocks, rounded up. Images are therefore padded to
    whole blocks, with zeros that the codes neither reach nor see.
    """

    def __init__(self, filters: Tensor, stride: int):
        self.filters, self.stride = filters, stride
        self.reach = -(-filters.shape[-1] // stride)  # blocks that a filter spans
        self.padding = self.reach * stride - filters.shape[-1]
        blocks = F.pixel_unshuffle(F.pad(filters, (0, self.padding, 0, self.padding)), stride)
        self.flipped = blocks.flip(2, 3).transpose(0, 1).contiguous(memory_format=torch.channels_last)

    def pad(self, images: Tensor) -> Tensor:
        """``images`` to whole blocks, with the strides that make torch keep their codes channels-last as well."""
        return F.pad(images, (0, self.padding, 0, self.padding))[:, 0, :, :, None].movedim(-1, 1)

    def correlate(self, images: Tensor) -> Tensor:
        """Dᵀx: codes from padded images."""
        return F.conv2d(images, self.filters, stride=self.stride)

    def synthesize(self, codes: Tensor) -> Tensor:
        """Dz: padded images from codes."""
        return F.pixel_shuffle(F.conv2d(codes, self.flipped, padding=self.reach - 1), self.stride)

    def product(self, images: Tensor, codes: Tensor) -> Tensor:
        """⟨x, z⟩ (p, 1, k, k), summed over padded images."""
        stride, none, one = [self.stride] * 2, [0, 0], [1, 1]  # torch.nn.grad.conv2d_weight is slower here
        wanted = [False, True, False]
        args = (codes, images, self.filters, None, stride, none, one, False, none, 1, wanted)
        return torch.ops.aten.convolution_backward(*args)[1]


def _unroll(
    dictionary: _Dictionary, images: Tensor, unrolling: Unrolling, n_back: int
) -> tuple[Tensor, list[tuple[Tensor | None, Tensor]]]:
    """z_T of padded images, and (z_t, r_t) of the last ``n_back`` layers, where z_0 = 0 is None."""
    codes, history = None, []
    for t in range(unrolling.n_layers):
        residual = -images if codes is None else dictionary.synthesize(codes).sub_(images)
        if t >= unrolling.n_layers - n_back:
            history.append((codes, residual))
        u = dictionary.correlate(residual)
        u = u.mul_(-unrolling.step) if codes is None else torch.add(codes, u, alpha=-unrolling.step, out=u)
        codes = _shrink_in_place(u, unrolling, t)
    return codes, history


def _back_propagate(
    dictionary: _Dictionary, back: Tensor, codes: Tensor, history: list[tuple[Tensor | None, Tensor]], step: float
) -> Tensor:
    """What the layers in ``history`` (emptied) add to the filter gradient, from z̄_T (overwritten) and z_T."""
    gradient = torch.zeros_like(dictionary.filters)
    while history:
        # z̄ where the codes are not 0, in one pass
        error = torch.ops.aten.softshrink_backward.grad_input(back, codes, 0.0, grad_input=back)
        codes, residual = history.pop()
        if codes is None:
            gradient += dictionary.product(residual, error)
        else:
            image = dictionary.synthesize(error)
            # one product of twice the length is faster than two
            gradient += dictionary.product(torch.cat([residual, image]), torch.cat([error, codes]))
            back = error.sub_(dictionary.correlate(image), alpha=step)
    return -step * gradient


def _block(images: Tensor, filters: Tensor, stride: int) -> int:
    """Images a block: about 0.6 MB of codes a layer on a CPU, so that one layer stays in the cache; more on a GPU."""
    kernel = filters.shape[-1]
    height, width = ((size - kernel) // stride + 1 for size in images.shape[-2:])
    return max(1, (150_000 if images.device.type == "cpu" else 50_000_000) // (len(filters) * height * width))


def _check(
    images: Tensor,
    filters: Tensor,
    estimator: str,
    unrolling: Unrolling,
    *,
    stride: int,
    targets: Tensor,
    backward_layers: int | None,
) -> int:
    """How many layers to back-propagate through; raises :class:`PudleError` if anything does not fit."""
    one_of(estimator, ESTIMATORS, "estimator")
    if estimator == "ae-lasso" and unrolling.lam is None:
        raise PudleError("estimator 'ae-lasso' needs lam: its loss has the term λ‖z‖₁, which hard thresholding does not define")
    if unrolling.accelerated:
        raise PudleError("convolutional gradients go through layers without acceleration only, not acceleration='fista'")
    _check_shapes(images, filters, stride)
    if targets.shape != images.shape:
        raise PudleError(f"targets must have the shape of images, {tuple(images.shape)}, not {tuple(targets.shape)}")
    n_layers = unrolling.n_layers
    if backward_layers is not None and not 1 <= backward_layers <= n_layers:
        raise PudleError(f"backward_layers must be from 1 to n_layers={n_layers}, not {backward_layers}")
    return 0 if estimator == "dec" else backward_layers or n_layers


def _check_shapes(images: Tensor, filters: Tensor, stride: int) -> None:
    single = all(array.ndim == 4 and array.shape[1] == 1 for array in (images, filters))
    if not single or filters.shape[2] != filters.shape[3]:
        raise PudleError(
            f"images must be (n, 1, h, w) and filters (p, 1, k, k), not {tuple(images.shape)} and {tuple(filters.shape)}"
        )
    kernel = filters.shape[-1]
    if any(size < kernel or (size - kernel) % stride for size in images.shape[-2:]):
        raise PudleError(
            f"images of {images.shape[-2]} x {images.shape[-1]} pixels are not {kernel} plus a multiple of stride={stride} "
            "high and wide: crop them with pudle.convolution.fit_size"
        )
