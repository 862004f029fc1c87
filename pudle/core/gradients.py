r"""The three gradients of the dictionary, ``dec``, ``ae-lasso`` and ``ae-ls``.

With :math:`L_{ls} = \text{mean}\, ½‖x − Dz‖²`, :math:`L_{lasso} = L_{ls} + λ\, \text{mean}\, ‖z‖_1` and codes z_T(D),

- ``dec`` is ∂L_ls/∂D with z_T held constant, the direction of alternating minimisation;
- ``ae-lasso`` and ``ae-ls`` are total derivatives of L_lasso and L_ls, back-propagated through the T layers.

:func:`unrolled_gradient` computes them in closed form (:mod:`pudle.core.closed_form`), which is fast. :func:`autograd_gradient` computes them
by automatic differentiation and is the oracle of the tests.
"""

import torch
from torch import Tensor

from pudle.core.closed_form import LOSSES, Gradient, gradient_in_closed_form, loss_of
from pudle.core.unrolling import Unrolling, check_codes, check_shapes
from pudle.errors import PudleError
from pudle.kernels import cuda_graphs

ESTIMATORS = tuple(LOSSES)


def dictionary_gradient(
    x: Tensor,
    dictionary: Tensor,
    estimator: str,
    *,
    lam: float | None = None,
    threshold: float | None = None,
    step: float,
    n_layers: int,
    decay: float = 1.0,
    nonnegative: bool = False,
    acceleration: str = "none",
    backward_layers: int | None = None,
) -> Tensor:
    """Gradient (m, p) of the loss averaged over the samples ``x`` (n, m), at ``dictionary`` (m, p).

    ``estimator`` is "dec", "ae-lasso" (which needs ``lam``) or "ae-ls". ``backward_layers`` truncates back-propagation to this number of last
    layers. The other settings are those of :func:`pudle.encode`. Raises :class:`PudleError` if shapes, types or settings do not fit.
    Source: PUDLE, Section 3.
    """
    unrolling = Unrolling(
        lam=lam,
        threshold=threshold,
        step=step,
        n_layers=n_layers,
        decay=decay,
        nonnegative=nonnegative,
        acceleration=acceleration,
    )
    return unrolled_gradient(x, dictionary, estimator, unrolling, backward_layers=backward_layers).gradient


def decoder_gradient(x: Tensor, dictionary: Tensor, codes: Tensor) -> Tensor:
    """∂L_ls/∂D (m, p) at given codes (n, p). It is ĝ at the lasso's codes, g* at the true codes, and ``dec`` at z_T.

    Raises :class:`PudleError` if shapes or types do not fit.
    """
    check_codes(x, dictionary, codes)
    return (codes @ dictionary.T - x).T @ codes / len(x)


def autograd_gradient(
    x: Tensor, dictionary: Tensor, estimator: str, unrolling: Unrolling, *, backward_layers: int | None = None
) -> Gradient:
    """The result of :func:`unrolled_gradient`, by automatic differentiation over the entire batch at once."""
    _check(x, dictionary, estimator, unrolling, backward_layers)
    dictionary = dictionary.detach().requires_grad_()
    codes = previous = x.new_zeros(len(x), dictionary.shape[1])
    for t, momentum in enumerate(unrolling.momenta()):
        with torch.set_grad_enabled(t >= unrolling.n_layers - (backward_layers or unrolling.n_layers)):
            point = codes + momentum * (codes - previous) if momentum else codes
            previous, codes = codes, unrolling.shrink(point - unrolling.step * ((point @ dictionary.T - x) @ dictionary), t)
    if estimator == "dec":
        codes = codes.detach()  # before decoding, since otherwise dec would equal ae-ls
    loss = 0.5 * (codes @ dictionary.T - x).square().sum() / len(x)
    if estimator == "ae-lasso":
        loss = loss + unrolling.lam * codes.abs().sum() / len(x)
    elif estimator not in ("dec", "ae-ls"):
        raise PudleError(f"autograd_gradient has no loss for the estimator {estimator!r}")
    (gradient,) = torch.autograd.grad(loss, dictionary)
    return Gradient(gradient, codes.detach(), float(loss.detach()))


@torch.no_grad()
def unrolled_gradient(
    x: Tensor, dictionary: Tensor, estimator: str, unrolling: Unrolling, *, backward_layers: int | None = None
) -> Gradient:
    """Gradient, codes and loss in closed form, in blocks of samples. :mod:`pudle.kernels.forward` runs layers with sparse codes.

    backward_layers : number of last layers to back-propagate through; None means all. ``dec``, which has no back-propagation, requires None
    """
    stop = _check(x, dictionary, estimator, unrolling, backward_layers)
    return _in_closed_form(x, dictionary, None, estimator, unrolling, stop)


@torch.no_grad()
def unrolled_codes(x: Tensor, dictionary: Tensor, unrolling: Unrolling, start: Tensor | None = None) -> Tensor:
    """Codes z_T (n, p) of ``x`` (n, m), as :func:`pudle.encode` computes them on its fast path, from ``start`` (n, p) or 0."""
    check_shapes(x, dictionary)
    if not len(x):
        return x.new_zeros(0, dictionary.shape[1])
    return _in_closed_form(x, dictionary, start, "dec", unrolling, unrolling.n_layers).codes


def _in_closed_form(
    x: Tensor, dictionary: Tensor, start: Tensor | None, estimator: str, unrolling: Unrolling, stop: int
) -> Gradient:
    """The gradient, with kernels that are recorded if a GPU would wait for them to start."""
    arrays, settings = (x.detach(), dictionary.detach(), start), {"estimator": estimator, "unrolling": unrolling, "stop": stop}
    if x.is_cuda and len(x) * dictionary.shape[1] <= cuda_graphs.MAX_CODES:
        gradient, codes, loss = cuda_graphs.replayed(_tensors, *arrays, **settings)
    else:
        gradient, codes, loss = _tensors(*arrays, **settings)
    return Gradient(gradient, codes, float(loss))


def _tensors(x, dictionary, start, *, estimator, unrolling, stop):
    return gradient_in_closed_form(x, dictionary, estimator, unrolling, stop, start=start)[0]


def _check(x: Tensor, dictionary: Tensor, estimator: str, unrolling: Unrolling, backward_layers: int | None) -> int:
    """The layer at which back-propagation stops, T for ``dec``. Raises :class:`PudleError` if arguments are invalid."""
    check_shapes(x, dictionary)
    if not len(x):
        raise PudleError(f"x has the shape {tuple(x.shape)}: a gradient needs at least one sample")
    loss = loss_of(estimator)
    if loss.has_l1 and unrolling.lam is None:
        raise PudleError(
            f"estimator {estimator!r} needs lam: its loss has the term λ‖z‖₁, which hard thresholding does not define; choose 'dec' or 'ae-ls'"
        )
    if backward_layers is not None and not loss.through_codes:
        raise PudleError(
            f"estimator {estimator!r} holds the codes constant: leave out backward_layers, or choose 'ae-lasso' or 'ae-ls'"
        )
    if backward_layers is not None and backward_layers < 1:
        raise PudleError(f"backward_layers must be at least 1, not {backward_layers}")
    if not loss.through_codes:
        return unrolling.n_layers
    return 0 if backward_layers is None else max(0, unrolling.n_layers - backward_layers)
