r"""Unrolled networks with convolutional dictionaries, their gradients in closed form, and denoising with them.

Like CSCNet (Simon & Elad, NeurIPS 2019), a :class:`Network` may have filters A for the correlation in its layers and C for its estimate
that differ from D, and a soft threshold θ_i for each filter. It computes :math:`z_{t+1} = S_θ(z_t − α Aᵀ(D z_t − x))` and the estimate
:math:`C z_T`.

:func:`network_gradient` computes gradients in closed form, which is fast. Let :math:`⟨x, z⟩` be the correlation of images with codes, that
is, the gradient of :math:`\sum x ⊙ Dz` with respect to the filters. Layer t computes :math:`r_t = D z_t − x`,
:math:`u_t = z_t − α Aᵀ r_t` and :math:`z_{t+1} = P_t(u_t)`. Its back-propagation is

.. math::
    \bar u_t = \bar z_{t+1} ⊙ 1[z_{t+1} ≠ 0], \qquad q_t = A \bar u_t, \qquad \bar z_t = \bar u_t − α Dᵀ q_t, \\
    \bar A = −α \textstyle\sum_t ⟨r_t, \bar u_t⟩, \qquad \bar D = −α \textstyle\sum_t ⟨q_t, z_t⟩, \qquad
    \bar θ = −\textstyle\sum_t \mathrm{sign}(z_{t+1}) ⊙ \bar u_t \text{ (summed over samples and places)},

and :math:`\bar C = ⟨C z_T − x, z_T⟩`. The gradient of a tied dictionary is the sum of these parts. :mod:`pudle.kernels.image_layers`
computes them on a CPU, and torch's convolutions below on other devices. :func:`autograd_network_gradient` computes gradients by automatic
differentiation and is the oracle of the tests.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pudle.core.closed_form import Gradient, flushed_denormals, loss_of
from pudle.core.convolution import Dictionary, average_shifts, check_image_shapes
from pudle.core.unrolling import Unrolling, soft_threshold, soft_threshold_in_place
from pudle.errors import PudleError
from pudle.kernels import cuda_graphs


class Network(NamedTuple):
    """The arrays of an unrolled denoiser with T layers z ← P(z − α Aᵀ(Dz − x)) and the estimate Cz. Gradients have the same form.

    filters : D (p, 1, k, k)
    analysis : A, of the same shape; None means that it is tied to D
    decoder : C, of the same shape; None means that it is tied to D
    thresholds : θ (p,), one soft threshold per filter, which replaces αλ; None means the thresholds of the unrolling
    """

    filters: Tensor
    analysis: Tensor | None = None
    decoder: Tensor | None = None
    thresholds: Tensor | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> "Network":
        """The network with ``function`` applied to each array that is not None."""
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
    """Gradient (a :class:`Network`) of ½‖target − Cz‖², plus ``l1_weight`` λ‖z‖₁ for ae-lasso, averaged over images.

    ``images`` are encoded (for example noisy images), and ``targets`` are approximated (for example clean images; default: ``images``).
    ``backward_layers`` is the number of last layers that ae-ls and ae-lasso back-propagate through (default: all T layers). The squared
    error excludes ``margin`` pixels along the border, which fewer filters reach. Source: PUDLE, Section 3, with a convolutional D (Section 6).
    The computation is in blocks of images, so that memory does not grow with n.
    """
    targets = images if targets is None else targets
    n_back = _check(
        images, network, estimator, unrolling, stride=stride, targets=targets, backward_layers=backward_layers, margin=margin
    )
    penalty = l1_weight * unrolling.lam if loss_of(estimator).has_l1 else 0.0
    parts, codes, loss = _run(images, targets, network, unrolling, stride, n_back, penalty, _inside(images, margin))
    synthesis, analysis, decoder, thresholds = (part / len(images) for part in parts)
    gradient = Network(
        synthesis + (analysis if network.analysis is None else 0) + (decoder if network.decoder is None else 0),
        *(None if array is None else part for array, part in zip(network[1:], (analysis, decoder, thresholds), strict=True)),
    )
    return Gradient(gradient, codes, float(loss) / len(images))


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
    """The result of :func:`network_gradient`, by automatic differentiation through torch's transposed convolution."""
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
                codes = soft_threshold(u, level, nonnegative=unrolling.nonnegative)
    residual = F.conv_transpose2d(codes, decoder, stride=stride) - targets
    residual = residual if margin == 0 else residual[..., margin:-margin, margin:-margin]
    loss = 0.5 * residual.square().sum() / len(images)
    if estimator == "ae-lasso":
        loss = loss + l1_weight * unrolling.lam * codes.abs().sum() / len(images)
    elif estimator not in ("dec", "ae-ls"):
        raise PudleError(f"autograd_network_gradient has no loss for the estimator {estimator!r}")
    gradients = iter(torch.autograd.grad(loss, [array for array in network if array is not None]))
    return Gradient(network.map(lambda _: next(gradients)), codes.detach(), float(loss.detach()))


def filter_gradient(images: Tensor, filters: Tensor, estimator: str, unrolling: Unrolling, **options) -> Gradient:
    """:func:`network_gradient` of the network that has ``filters`` (p, 1, k, k) only; the gradient is that of the filters."""
    return _of_filters(network_gradient(images, Network(filters), estimator, unrolling, **options))


def autograd_filter_gradient(images: Tensor, filters: Tensor, estimator: str, unrolling: Unrolling, **options) -> Gradient:
    """The result of :func:`filter_gradient`, by automatic differentiation."""
    return _of_filters(autograd_network_gradient(images, Network(filters), estimator, unrolling, **options))


def _of_filters(result: Gradient) -> Gradient:
    return result._replace(gradient=result.gradient.filters)


@torch.no_grad()
def denoise(images: Tensor, network: Network, unrolling: Unrolling, *, stride: int, shift_average: bool = False) -> Tensor:
    """Estimates (n, 1, h, w) of noisy ``images`` by one pass through the network, without gradients.

    shift_average : average the estimates over all stride² shifts of the grid of codes (Simon & Elad, 2019); images may then have any size
    """
    if shift_average:
        return average_shifts(
            images, network.filters.shape[-1], stride, lambda moved: denoise(moved, network, unrolling, stride=stride)
        )
    _check(images, network, "ae-ls", unrolling, stride=stride, targets=images)
    decoder = Dictionary(network.filters if network.decoder is None else network.decoder, stride)
    height, width = images.shape[-2:]
    size = max(_block(images, network.filters, stride), torch.get_num_threads())
    codes = (_run(block, None, network, unrolling, stride)[1] for block in images.split(size))
    return torch.cat([decoder.synthesize(z)[..., :height, :width] for z in codes])


def _run(images, targets, network, unrolling, stride, n_back=0, penalty=0.0, inside=None):
    """The parts of the gradient with respect to D, A, C and θ, summed over images; the codes; and the sum of the losses.

    Compiled loops compute them on a CPU in single and double precision, and torch's convolutions otherwise. Without ``targets`` only the codes
    are computed.
    """
    network = network.map(torch.detach)
    targets = None if targets is None else targets.detach()
    settings = {"stride": stride, "stop": unrolling.n_layers - n_back, "penalty": penalty, "inside": inside}
    run = run_network
    if images.device.type == "cpu" and images.dtype in (torch.float32, torch.float64):
        # importing numba is slow, and only this function needs it
        from pudle.kernels.image_layers import run_image_network as run
    elif (
        images.is_cuda and targets is not None and len(images) <= _block(images, network.filters, stride, cuda_graphs.MAX_CODES)
    ):
        run = _replayed_network
    with flushed_denormals():
        return run(images.detach(), targets, (*_tied(network), network.thresholds), unrolling, **settings)


def _replayed_network(images, targets, network, unrolling, *, inside, **settings):
    """:func:`run_network` on a GPU, whose kernels are recorded."""
    *parts, codes, loss = cuda_graphs.replayed(_tensors, images, targets, inside, *network, unrolling=unrolling, **settings)
    return parts, codes, loss


def _tensors(images, targets, inside, *network, **settings):
    parts, codes, loss = run_network(images, targets, network, inside=inside, **settings)
    return *parts, codes, loss


def run_network(images, targets, network, unrolling, *, stride, stop, penalty, inside):
    """:func:`pudle.kernels.image_layers.run_image_network` for tensors on any device."""
    *arrays, thresholds = network
    synthesis, analysis, decoder = (Dictionary(array, stride) for array in arrays)
    parts = [torch.zeros_like(array) for array in arrays] + [images.new_zeros(len(arrays[0]))]
    loss, codes = images.new_zeros((), dtype=torch.float64), []
    size = _block(images, arrays[0], stride)
    for start in range(0, len(images), size):
        block = synthesis.pad(images[start : start + size])
        z, history = _layers(block, synthesis, analysis, thresholds, unrolling, stop)
        codes.append(z)
        if targets is None:
            continue
        error = decoder.synthesize(z).sub_(decoder.pad(targets[start : start + size]))
        error = error if inside is None else error.mul_(decoder.pad(inside))
        loss += error.square().sum().double() / 2 + (penalty * z.abs().sum().double() if penalty else 0.0)
        parts[2] += decoder.product(error, z)
        if history:
            back = decoder.correlate(error).add_(z.sign(), alpha=penalty)
            _back_propagate(back, z, history, synthesis, analysis, unrolling.step, parts)
    return parts, torch.cat(codes), loss


def _layers(block, synthesis, analysis, thresholds, unrolling, stop):
    """z_T of padded images, and (z_t, r_t) of the layers from ``stop`` on: r_t = D z_t − x, z_{t+1} = P_t(z_t − α Aᵀ r_t); z_0 = 0 is None."""
    z, history = None, []
    for t in range(unrolling.n_layers):
        residual = -block if z is None else synthesis.synthesize(z).sub_(block)
        if t >= stop:
            history.append((z, residual))
        u = analysis.correlate(residual)
        u = u.mul_(-unrolling.step) if z is None else torch.add(z, u, alpha=-unrolling.step, out=u)
        if thresholds is None:
            z = unrolling.shrink_in_place(u, t)
        else:
            z = soft_threshold_in_place(u, thresholds[:, None, None], nonnegative=unrolling.nonnegative)
    return z, history


def _back_propagate(back, codes, history, synthesis, analysis, step, parts):
    """Add the contributions of the layers in ``history`` to ``parts``, from z̄_T = ``back`` and ``codes`` z_T; both may be overwritten.

    history : (z_t, r_t) for each layer, with None for z_0 = 0
    """
    while history:
        # z̄ at non-zero codes and 0 elsewhere, in one pass
        error = torch.ops.aten.softshrink_backward.grad_input(back, codes, 0.0, grad_input=back)
        parts[3] -= (codes.sign() * error).sum((0, 2, 3))
        codes, residual = history.pop()
        parts[1].sub_(analysis.product(residual, error), alpha=step)
        if codes is not None:
            image = analysis.synthesize(error)
            parts[0].sub_(synthesis.product(image, codes), alpha=step)
            back = error.sub_(synthesis.correlate(image), alpha=step)


def _inside(images: Tensor, margin: int) -> Tensor | None:
    """An image of ones with zeros on ``margin`` pixels along its border; None if ``margin`` is 0."""
    height, width = images.shape[-2:]
    return F.pad(images.new_ones(1, 1, height - 2 * margin, width - 2 * margin), [margin] * 4) if margin else None


def _tied(network: Network) -> tuple[Tensor, Tensor, Tensor]:
    """D, A and C."""
    filters, analysis, decoder, _ = network
    return filters, filters if analysis is None else analysis, filters if decoder is None else decoder


def _block(images: Tensor, filters: Tensor, stride: int, n_codes: int | None = None) -> int:
    """Images per block, whose layers have ``n_codes`` codes.

    By default, one layer has about 0.6 MB of codes on a CPU and stays in the cache; blocks are larger on a GPU.
    """
    kernel = filters.shape[-1]
    height, width = ((size - kernel) // stride + 1 for size in images.shape[-2:])
    n_codes = n_codes or (150_000 if images.device.type == "cpu" else 50_000_000)
    return max(1, n_codes // (len(filters) * height * width))


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
    """The number of layers to back-propagate through. Raises :class:`PudleError` if arguments are invalid."""
    if loss_of(estimator).has_l1 and unrolling.lam is None:
        raise PudleError(
            f"estimator {estimator!r} needs lam: its loss has the term λ‖z‖₁, which hard thresholding does not define"
        )
    if unrolling.accelerated:
        raise PudleError("convolutional gradients need layers without acceleration, not acceleration='fista'")
    if estimator != "ae-ls" and len(network) > sum(array is None for array in network) + 1:
        raise PudleError(f"only the estimator 'ae-ls' learns analysis filters, decoder and thresholds, not {estimator!r}")
    if network.thresholds is not None and (unrolling.hard or unrolling.decay != 1):
        raise PudleError(
            "learned thresholds are soft and the same in all layers: replace threshold by lam, and leave out decay"
        )
    for filters in _tied(network):
        check_image_shapes(images, filters, stride)
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
        raise PudleError(f"margin={margin} leaves no pixels of images of {images.shape[-2]} x {images.shape[-1]} pixels")
    n_layers = unrolling.n_layers
    if backward_layers is not None and not 1 <= backward_layers <= n_layers:
        raise PudleError(f"backward_layers must be from 1 to n_layers={n_layers}, not {backward_layers}")
    return (backward_layers or n_layers) if loss_of(estimator).through_codes else 0
