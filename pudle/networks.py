r"""Unrolled networks with convolutional dictionaries: their gradients in closed form, and how they denoise.

A :class:`Network` may have other filters A for the correlation in its layers and C for its estimate than D, and a soft threshold
θ_i for each filter, as CSCNet has (Simon & Elad, NeurIPS 2019): :math:`z_{t+1} = S_θ(z_t − α Aᵀ(D z_t − x))`, estimate :math:`C z_T`.

:func:`network_gradient` is the fast path, in closed form. Write :math:`⟨x, z⟩` for the correlation of images with codes, which
is the gradient of :math:`\sum x ⊙ Dz` in the filters. Layer t computes :math:`r_t = D z_t − x`,
:math:`u_t = z_t − α Aᵀ r_t` and :math:`z_{t+1} = P_t(u_t)`. Back through it,

.. math::
    \bar u_t = \bar z_{t+1} ⊙ 1[z_{t+1} ≠ 0], \qquad q_t = A \bar u_t, \qquad \bar z_t = \bar u_t − α Dᵀ q_t, \\
    \bar A = −α \textstyle\sum_t ⟨r_t, \bar u_t⟩, \qquad \bar D = −α \textstyle\sum_t ⟨q_t, z_t⟩, \qquad
    \bar θ = −\textstyle\sum_t \mathrm{sign}(z_{t+1}) ⊙ \bar u_t \text{ (summed over samples and places)},

and :math:`\bar C = ⟨C z_T − x, z_T⟩`; what is tied has the sum of its parts. :func:`autograd_network_gradient` is the plain path, and
the oracle in the tests.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pudle.coding import Unrolling
from pudle.convolution import Dictionary, average_shifts, check_shapes
from pudle.errors import PudleError, one_of
from pudle.gradients import ESTIMATORS, Gradient, flushed_denormals, shrink_in_place


class Network(NamedTuple):
    """The arrays of an unrolled denoiser: T layers z ← P(z − α Aᵀ(Dz − x)), then the estimate Cz. Gradients have the same form.

    filters : D (p, 1, k, k)
    analysis : A, of the same shape; tied to D if None
    decoder : C, of the same shape; tied to D if None
    thresholds : θ (p,), the soft threshold of each filter in the place of αλ; those of the unrolling if None
    """

    filters: Tensor
    analysis: Tensor | None = None
    decoder: Tensor | None = None
    thresholds: Tensor | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> "Network":
        """The network of ``function`` of each array that there is."""
        return Network(*(None if array is None else function(array) for array in self))

    def __neg__(self) -> "Network":
        return self.map(torch.neg)


@torch.no_grad()
def network_gradient(
    images: Tensor,
    network: Network,
    estimator: str,
    unrolling: Unrolling,
    *,
    stride: int,
    targets: Tensor | None = None,
    l1_weight: float = 1.0,
    backward_layers: int | None = None,
    margin: int = 0,
) -> Gradient:
    """Gradient (a :class:`Network`) of mean ½‖target − Cz‖² (+ ``l1_weight`` λ mean ‖z‖₁ for ae-lasso), means over images.

    The codes z are those of ``images`` (noisy, say); ``targets`` (clean, say) are the images themselves unless given.
    ``backward_layers`` back-propagates ae-ls and ae-lasso through the last so many layers only (all T of them unless given).
    The squared error leaves out ``margin`` pixels along the border, which fewer filters see.
    Source: PUDLE, Section 3, with D convolutional (Section 6). Worked out in blocks of images: memory does not grow with n.
    """
    targets = images if targets is None else targets
    n_back = _check(
        images, network, estimator, unrolling, stride=stride, targets=targets, backward_layers=backward_layers, margin=margin
    )
    penalty = l1_weight * unrolling.lam if estimator == "ae-lasso" else 0.0
    layers, inside = _Layers(network, unrolling, stride), _inside(images, margin)
    gradient, loss, codes = network.map(torch.zeros_like), 0.0, []
    size = _block(images, network.filters, stride)
    with flushed_denormals():
        for block, target in zip(images.split(size), targets.split(size), strict=True):
            z, history = layers.run(layers.synthesis.pad(block), n_back)
            residual = layers.decoder.synthesize(z).sub_(layers.decoder.pad(target))
            residual = residual if inside is None else residual.mul_(layers.decoder.pad(inside))
            loss += float(residual.square().sum()) / 2
            direct = gradient.filters if gradient.decoder is None else gradient.decoder
            direct += layers.decoder.product(residual, z)
            if history:
                back = layers.decoder.correlate(residual)
                if penalty:
                    loss += penalty * float(z.abs().sum())
                    back.add_(z.sign(), alpha=penalty)
                layers.back_propagate(back, z, history, gradient)
            codes.append(z)
    return Gradient(gradient.map(lambda array: array / len(images)), torch.cat(codes), loss / len(images))


def autograd_network_gradient(
    images: Tensor,
    network: Network,
    estimator: str,
    unrolling: Unrolling,
    *,
    stride: int,
    targets: Tensor | None = None,
    l1_weight: float = 1.0,
    backward_layers: int | None = None,
    margin: int = 0,
) -> Gradient:
    """The same as :func:`network_gradient` by automatic differentiation, through torch's own transposed convolution."""
    targets = images if targets is None else targets
    n_back = _check(
        images, network, estimator, unrolling, stride=stride, targets=targets, backward_layers=backward_layers, margin=margin
    )
    network = network.map(lambda array: array.detach().requires_grad_())
    filters, analysis, decoder = _tied(network)
    with torch.no_grad():
        codes = torch.zeros_like(F.conv2d(images, filters, stride=stride))
    for layer in range(unrolling.n_layers):
        with torch.set_grad_enabled(layer >= unrolling.n_layers - n_back):  # dec holds the codes constant
            residual = F.conv_transpose2d(codes, filters, stride=stride) - images
            u = codes - unrolling.step * F.conv2d(residual, analysis, stride=stride)
            if network.thresholds is None:
                codes = unrolling.shrink(u, layer)
            else:
                level = network.thresholds[:, None, None]
                codes = F.relu(u - level) if unrolling.nonnegative else u.sign() * F.relu(u.abs() - level)
    residual = F.conv_transpose2d(codes, decoder, stride=stride) - targets
    residual = residual if margin == 0 else residual[..., margin:-margin, margin:-margin]
    loss = 0.5 * residual.square().sum() / len(images)
    if estimator == "ae-lasso":
        loss = loss + l1_weight * unrolling.lam * codes.abs().sum() / len(images)
    gradients = iter(torch.autograd.grad(loss, [array for array in network if array is not None]))
    return Gradient(network.map(lambda _: next(gradients)), codes.detach(), float(loss.detach()))


def filter_gradient(images: Tensor, filters: Tensor, estimator: str, unrolling: Unrolling, **options) -> Gradient:
    """:func:`network_gradient` of the network with nothing but ``filters`` (p, 1, k, k), and the gradient is that of the filters."""
    return _of_filters(network_gradient(images, Network(filters), estimator, unrolling, **options))


def autograd_filter_gradient(images: Tensor, filters: Tensor, estimator: str, unrolling: Unrolling, **options) -> Gradient:
    """The same as :func:`filter_gradient` by automatic differentiation."""
    return _of_filters(autograd_network_gradient(images, Network(filters), estimator, unrolling, **options))


def _of_filters(result: Gradient) -> Gradient:
    return result._replace(gradient=result.gradient.filters)


@torch.no_grad()
def denoise(images: Tensor, network: Network, unrolling: Unrolling, *, stride: int, shift_average: bool = False) -> Tensor:
    """Estimates (n, 1, h, w) of noisy ``images`` by one pass through the network, no gradients.

    ``shift_average``: the mean over the estimates from all stride² positions of the grid of codes (Simon & Elad, 2019), for any size.
    """
    if shift_average:
        return average_shifts(
            images, network.filters.shape[-1], stride, lambda moved: denoise(moved, network, unrolling, stride=stride)
        )
    _check(images, network, "ae-ls", unrolling, stride=stride, targets=images)
    layers = _Layers(network, unrolling, stride)
    height, width = images.shape[-2:]
    with flushed_denormals():
        blocks = images.split(_block(images, network.filters, stride))
        codes = (layers.run(layers.synthesis.pad(block), 0)[0] for block in blocks)
        return torch.cat([layers.decoder.synthesize(z)[..., :height, :width] for z in codes])


def _inside(images: Tensor, margin: int) -> Tensor | None:
    """An image of ones with zeros on ``margin`` pixels along its border; None without a margin."""
    height, width = images.shape[-2:]
    return F.pad(images.new_ones(1, 1, height - 2 * margin, width - 2 * margin), [margin] * 4) if margin else None


def _tied(network: Network) -> tuple[Tensor, Tensor, Tensor]:
    """D, A and C."""
    filters, analysis, decoder, _ = network
    return filters, filters if analysis is None else analysis, filters if decoder is None else decoder


class _Layers:
    """The layers of a network, forwards and backwards, on padded images."""

    def __init__(self, network: Network, unrolling: Unrolling, stride: int):
        self.unrolling = unrolling
        self.synthesis = Dictionary(network.filters, stride)
        filters, analysis, decoder = _tied(network)
        self.analysis = self.synthesis if analysis is filters else Dictionary(analysis, stride)
        self.decoder = self.synthesis if decoder is filters else Dictionary(decoder, stride)
        self.levels = None if network.thresholds is None else network.thresholds.detach()[:, None, None]

    def run(self, images: Tensor, n_back: int) -> tuple[Tensor, list[tuple[Tensor | None, Tensor]]]:
        """z_T, and (z_t, r_t) of the last ``n_back`` layers, where z_0 = 0 is None."""
        step, n_layers = self.unrolling.step, self.unrolling.n_layers
        codes, history = None, []
        for t in range(n_layers):
            residual = -images if codes is None else self.synthesis.synthesize(codes).sub_(images)
            if t >= n_layers - n_back:
                history.append((codes, residual))
            u = self.analysis.correlate(residual)
            u = u.mul_(-step) if codes is None else torch.add(codes, u, alpha=-step, out=u)
            codes = self._shrink(u, t)
        return codes, history

    def _shrink(self, u: Tensor, layer: int) -> Tensor:
        if self.levels is None:
            return shrink_in_place(u, self.unrolling, layer)
        if self.unrolling.nonnegative:
            return u.sub_(self.levels).relu_()
        return u.sub_(u.clamp(-self.levels, self.levels))

    def back_propagate(
        self, back: Tensor, codes: Tensor, history: list[tuple[Tensor | None, Tensor]], gradient: Network
    ) -> None:
        """Add to ``gradient`` what the layers in ``history`` (emptied) give, from z̄_T (overwritten) and z_T."""
        step, tied = self.unrolling.step, self.analysis is self.synthesis
        analysis = gradient.filters if tied else gradient.analysis
        while history:
            # z̄ where the codes are not 0, in one pass
            error = torch.ops.aten.softshrink_backward.grad_input(back, codes, 0.0, grad_input=back)
            if self.levels is not None:
                gradient.thresholds.sub_((codes.sign() * error).sum((0, 2, 3)))
            codes, residual = history.pop()
            if codes is None:
                analysis.sub_(self.analysis.product(residual, error), alpha=step)
                return
            image = self.analysis.synthesize(error)
            if tied:  # one product of twice the length is faster than two
                both = self.synthesis.product(torch.cat([residual, image]), torch.cat([error, codes]))
                gradient.filters.sub_(both, alpha=step)
            else:
                analysis.sub_(self.analysis.product(residual, error), alpha=step)
                gradient.filters.sub_(self.synthesis.product(image, codes), alpha=step)
            back = error.sub_(self.synthesis.correlate(image), alpha=step)


def _block(images: Tensor, filters: Tensor, stride: int) -> int:
    """Images a block: about 0.6 MB of codes a layer on a CPU, so that one layer stays in the cache; more on a GPU."""
    kernel = filters.shape[-1]
    height, width = ((size - kernel) // stride + 1 for size in images.shape[-2:])
    return max(1, (150_000 if images.device.type == "cpu" else 50_000_000) // (len(filters) * height * width))


def _check(
    images: Tensor,
    network: Network,
    estimator: str,
    unrolling: Unrolling,
    *,
    stride: int,
    targets: Tensor,
    backward_layers: int | None = None,
    margin: int = 0,
) -> int:
    """How many layers to back-propagate through; raises :class:`PudleError` if anything does not fit."""
    one_of(estimator, ESTIMATORS, "estimator")
    if estimator == "ae-lasso" and unrolling.lam is None:
        raise PudleError("estimator 'ae-lasso' needs lam: its loss has the term λ‖z‖₁, which hard thresholding does not define")
    if unrolling.accelerated:
        raise PudleError("convolutional gradients go through layers without acceleration only, not acceleration='fista'")
    if estimator != "ae-ls" and len(network) > sum(array is None for array in network) + 1:
        raise PudleError(
            f"analysis filters, decoder and thresholds are learned by the estimator 'ae-ls' only, not by {estimator!r}"
        )
    if network.thresholds is not None and (unrolling.hard or unrolling.decay != 1):
        raise PudleError("thresholds are soft ones, the same in all layers: give lam, not threshold, and no decay")
    for filters in _tied(network):
        check_shapes(images, filters, stride)
        if filters.shape != network.filters.shape:
            raise PudleError(
                f"analysis filters and decoder must have the shape of the filters, {tuple(network.filters.shape)}, "
                f"not {tuple(filters.shape)}"
            )
    if network.thresholds is not None and network.thresholds.shape != (len(network.filters),):
        raise PudleError(
            f"thresholds must be ({len(network.filters)},), one for each filter, not {tuple(network.thresholds.shape)}"
        )
    if targets.shape != images.shape:
        raise PudleError(f"targets must have the shape of images, {tuple(images.shape)}, not {tuple(targets.shape)}")
    if not 0 <= 2 * margin < min(images.shape[-2:]):
        raise PudleError(f"margin={margin} leaves nothing of images of {images.shape[-2]} x {images.shape[-1]} pixels")
    n_layers = unrolling.n_layers
    if backward_layers is not None and not 1 <= backward_layers <= n_layers:
        raise PudleError(f"backward_layers must be from 1 to n_layers={n_layers}, not {backward_layers}")
    return 0 if estimator == "dec" else backward_layers or n_layers
