r"""Convolutional dictionaries: the same unrolled layers with D a strided convolution.

Images are (n, 1, h, w), filters (the atoms) are (p, 1, k, k), codes are (n, p, h', w') with h' = (h − k) / stride + 1. Dz is a
transposed convolution (:func:`decode`), Dᵀx a convolution, so that every image size must be k plus a multiple of the stride.

:func:`filter_gradient` is the fast path, in closed form. Write :math:`⟨x, z⟩` for the correlation of an image with codes, (k, k)
for each filter: the gradient of :math:`\sum x ⊙ Dz` in the filters. Layer t computes :math:`r_t = D z_t − x`,
:math:`u_t = z_t − α Dᵀ r_t` and :math:`z_{t+1} = P_t(u_t)`. Back through it,

.. math::
    \bar u_t = \bar z_{t+1} ⊙ 1[z_{t+1} ≠ 0], \qquad q_t = D \bar u_t, \qquad \bar z_t = \bar u_t − α Dᵀ q_t, \qquad
    \bar D = −α \textstyle\sum_t \bigl( ⟨r_t, \bar u_t⟩ + ⟨q_t, z_t⟩ \bigr),

plus the direct term :math:`⟨D z_T − x, z_T⟩`. :func:`autograd_filter_gradient` is the plain path, and the oracle in the tests.
"""

from collections.abc import Iterator

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
) -> Tensor:
    """Codes (n, p, h', w') after T unrolled layers; differentiable. Settings as :class:`pudle.coding.Unrolling` has them."""
    unrolling = Unrolling(lam=lam, threshold=threshold, step=step, n_layers=n_layers, decay=decay, nonnegative=nonnegative)
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
    """Gradient (p, 1, k, k) of mean ½‖target − Dz‖² (+ ``l1_weight`` λ mean ‖z‖₁ for ae-lasso), sums over pixels, means over images.

    The codes z are those of ``images`` (noisy, say); ``targets`` (clean, say) are the images themselves unless given.
    ``backward_layers`` back-propagates ae-ls and ae-lasso through the last so many layers only (all T of them unless given).
    """
    targets = images if targets is None else targets
    n_back = _check(images, filters, estimator, unrolling, stride, targets, backward_layers)
    penalty = l1_weight * unrolling.lam if estimator == "ae-lasso" else 0.0
    dictionary = _Dictionary(filters, stride)
    gradient, loss, codes = torch.zeros_like(filters), 0.0, []
    size = _block(images, filters, stride)
    for block, target in zip(images.split(size), targets.split(size), strict=True):
        layers = _Layers(dictionary, dictionary.pad(block), unrolling, n_back)
        z = layers.forward()
        residual = dictionary.synthesize(z).sub_(dictionary.pad(target))
        loss += float(residual.square().sum()) / 2
        gradient += dictionary.weight_gradient(residual, z)
        if penalty:
            loss += penalty * float(z.abs().sum())
        if n_back:
            back = dictionary.correlate(residual)
            gradient += layers.backward(back.add_(z.sign(), alpha=penalty) if penalty else back, z)
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
    n_back = _check(images, filters, estimator, unrolling, stride, targets, backward_layers)
    filters = filters.detach().requires_grad_()
    codes = torch.zeros_like(F.conv2d(images, filters.detach(), stride=stride))
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
    channels, and D a convolution of stride 1 with filters of k / stride blocks, rounded up (:func:`torch.nn.functional.pixel_shuffle`
    goes back). Images are therefore padded with zeros to whole blocks, which no code reaches and no code sees.
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

    def weight_gradient(self, images: Tensor, codes: Tensor) -> Tensor:
        """⟨x, z⟩ (p, 1, k, k), summed over images."""
        return torch.nn.grad.conv2d_weight(images, self.filters.shape, codes, stride=self.stride)


class _Layers:
    """The unrolled layers of one block of padded images, forward and back through the last ``n_back`` of them.

    Kept on the way are the residuals r_t, which are small, and the codes at the start of every segment of about √T layers. Back
    in a segment, its other codes follow from the residuals at the price of one correlation each.
    """

    def __init__(self, dictionary: _Dictionary, images: Tensor, unrolling: Unrolling, n_back: int):
        self.dictionary, self.images, self.unrolling = dictionary, images, unrolling
        first, length = unrolling.n_layers - n_back, max(1, round(n_back**0.5))
        self.segments = [range(t, min(t + length, unrolling.n_layers)) for t in range(first, unrolling.n_layers, length)]
        self.residuals: dict[int, Tensor] = {}
        self.starts: dict[int, Tensor] = {}

    def forward(self) -> Tensor:
        """z_T."""
        kept = {segment.start for segment in self.segments}
        first = min(kept, default=self.unrolling.n_layers)
        codes = None
        for t in range(self.unrolling.n_layers):
            residual = self.dictionary.synthesize(codes).sub_(self.images) if t else self.images.neg()
            if t in kept:
                self.starts[t] = codes
            if t >= first:
                self.residuals[t] = residual
            codes = self._layer(codes, residual, t)
        return codes

    def backward(self, back: Tensor, codes: Tensor) -> Tensor:
        """What the layers add to the filter gradient, from z̄_T (overwritten) and z_T."""
        gradient, step = torch.zeros_like(self.dictionary.filters), self.unrolling.step
        for segment in reversed(self.segments):
            inputs = [self.starts.pop(segment.start)]
            for t in segment[:-1]:
                inputs.append(self._layer(inputs[-1], self.residuals[t], t))
            for t in reversed(segment):
                # grad where codes != 0, in one pass
                error = torch.ops.aten.softshrink_backward.grad_input(back, codes, 0.0, grad_input=back)
                gradient += self.dictionary.weight_gradient(self.residuals.pop(t), error)
                codes = inputs.pop()
                if t:  # z_0 is 0
                    image = self.dictionary.synthesize(error)
                    gradient += self.dictionary.weight_gradient(image, codes)
                    back = error.sub_(self.dictionary.correlate(image), alpha=step)
        return -step * gradient

    def _layer(self, codes: Tensor | None, residual: Tensor, layer: int) -> Tensor:
        u = self.dictionary.correlate(residual).mul_(-self.unrolling.step)
        return _shrink_in_place(u if codes is None else u.add_(codes), self.unrolling, layer)


def _block(images: Tensor, filters: Tensor, stride: int) -> int:
    """Images a block: about 0.6 MB of codes a layer on a CPU, so that one layer stays in the cache; more on a GPU."""
    kernel = filters.shape[-1]
    height, width = ((size - kernel) // stride + 1 for size in images.shape[-2:])
    return max(1, (150_000 if images.device.type == "cpu" else 50_000_000) // (len(filters) * height * width))


def _check(images, filters, estimator, unrolling, stride, targets, backward_layers) -> int:
    one_of(estimator, ESTIMATORS, "estimator")
    _check_shapes(images, filters, stride)
    return 0 if estimator == "dec" else backward_layers or unrolling.n_layers


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
