r"""The three gradients of the dictionary: ``dec``, ``ae-lasso`` and ``ae-ls``.

With :math:`L_{ls} = \text{mean}\, ½‖x − Dz‖²` and :math:`L_{lasso} = L_{ls} + λ\, \text{mean}\, ‖z‖_1`, and codes z_T(D):

- ``dec``: ∂L_ls/∂D with z_T held constant, the direction of alternating minimisation;
- ``ae-lasso`` and ``ae-ls``: total derivatives of L_lasso and L_ls, back-propagated through the T layers.

:func:`unrolled_gradient` is the fast path, in closed form. With :math:`W = I − αDᵀD`, layer t computes
:math:`u_t = z_t W + α x D`, :math:`z_{t+1} = P_t(u_t)`. Back through it, row by row,

.. math::
    \bar u_t = \bar z_{t+1} ⊙ 1[z_{t+1} ≠ 0], \qquad \bar z_t = \bar u_t W, \qquad
    \bar D = −α \bigl( D (S + Sᵀ) − xᵀ \textstyle\sum_t \bar u_t \bigr), \quad S = \textstyle\sum_t z_tᵀ \bar u_t,

plus the direct term (D z_T − x) z_Tᵀ. :func:`autograd_gradient` is the plain path, and the oracle in the tests.
"""

from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from pudle.coding import Unrolling, check_shapes, encode
from pudle.errors import PudleError, one_of

ESTIMATORS = ("dec", "ae-lasso", "ae-ls")


class Gradient(NamedTuple):
    """A dictionary gradient (m, p) with what was computed on the way: codes z_T (n, p) and the estimator's loss."""

    gradient: Tensor
    codes: Tensor
    loss: float


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
) -> Tensor:
    """Gradient (m, p) of the loss averaged over the samples ``x`` (n, m), at ``dictionary`` (m, p).

    ``estimator`` is "dec", "ae-lasso" (needs ``lam``) or "ae-ls"; the settings are those of :func:`pudle.encode`.
    Source: PUDLE, Section 3.
    """
    unrolling = Unrolling(lam=lam, threshold=threshold, step=step, n_layers=n_layers, decay=decay, nonnegative=nonnegative)
    return unrolled_gradient(x, dictionary, estimator, unrolling).gradient


def decoder_gradient(x: Tensor, dictionary: Tensor, codes: Tensor) -> Tensor:
    """∂L_ls/∂D (m, p) at given codes (n, p): ĝ at the lasso's codes, g* at the true ones, ``dec`` at z_T."""
    return (codes @ dictionary.T - x).T @ codes / len(x)


def autograd_gradient(x: Tensor, dictionary: Tensor, estimator: str, unrolling: Unrolling) -> Gradient:
    """The same as :func:`unrolled_gradient` by automatic differentiation over the whole batch at once."""
    _check(x, dictionary, estimator, unrolling)
    dictionary = dictionary.detach().requires_grad_()
    codes = encode(x, dictionary, **vars(unrolling))
    if estimator == "dec":
        codes = codes.detach()  # before decoding: otherwise dec silently equals ae-ls
    loss = 0.5 * (codes @ dictionary.T - x).square().sum() / len(x)
    if estimator == "ae-lasso":
        loss = loss + unrolling.lam * codes.abs().sum() / len(x)
    (gradient,) = torch.autograd.grad(loss, dictionary)
    return Gradient(gradient, codes.detach(), float(loss.detach()))


@torch.no_grad()
def unrolled_gradient(
    x: Tensor, dictionary: Tensor, estimator: str, unrolling: Unrolling, *, backward_layers: int | None = None
) -> Gradient:
    """Gradient, codes and loss in closed form, in blocks of samples whose layers stay in the cache.

    ``backward_layers`` = K back-propagates through the last K layers only.
    """
    _check(x, dictionary, estimator, unrolling)
    n_atoms, n_layers, step = dictionary.shape[1], unrolling.n_layers, unrolling.step
    lam = unrolling.lam if estimator == "ae-lasso" else 0.0
    first = 0 if backward_layers is None else max(0, n_layers - backward_layers)
    through_layers = estimator != "dec"
    transfer = torch.eye(n_atoms, dtype=x.dtype, device=x.device) - step * dictionary.T @ dictionary  # W
    codes = torch.empty(len(x), n_atoms, dtype=x.dtype, device=x.device)
    direct = torch.zeros_like(dictionary)
    products = torch.zeros_like(transfer)  # S
    inputs = torch.zeros_like(dictionary)  # xᵀ Σ ū
    loss = 0.0
    size = min(len(x), _block(n_atoms, x.device))
    layers = x.new_zeros(n_layers + 1 if through_layers else 2, size, n_atoms)
    errors = x.new_empty(n_layers, size, n_atoms) if through_layers else None
    with _flushed_denormals():
        for start in range(0, len(x), size):
            block = x[start : start + size]
            z, drive = layers[:, : len(block)], step * block @ dictionary
            last = z[0].zero_()
            for t in range(n_layers):
                following = z[t + 1] if through_layers else z[(t + 1) % 2]
                torch.addmm(drive, last, transfer, out=following)
                last = _shrink_in_place(following, unrolling, t)
            codes[start : start + size] = last
            residual = last @ dictionary.T - block
            loss += float(residual.square().sum()) / 2 + lam * float(last.abs().sum())
            direct.addmm_(residual.T, last)
            if through_layers:
                back, u = residual @ dictionary + lam * last.sign(), errors[:, : len(block)]
                for t in reversed(range(first, n_layers)):
                    torch.mul(back, z[t + 1] != 0, out=u[t])
                    torch.mm(u[t], transfer, out=back)
                products.addmm_(z[first:-1].reshape(-1, n_atoms).T, u[first:].reshape(-1, n_atoms))
                inputs.addmm_(block.T, u[first:].sum(0))
    gradient = (direct - step * (dictionary @ (products + products.T) - inputs)) / len(x)
    return Gradient(gradient, codes, loss / len(x))


def _check(x: Tensor, dictionary: Tensor, estimator: str, unrolling: Unrolling) -> None:
    check_shapes(x, dictionary)
    one_of(estimator, ESTIMATORS, "estimator")
    if estimator == "ae-lasso" and unrolling.lam is None:
        raise PudleError("estimator 'ae-lasso' needs lam: its loss has the term λ‖z‖₁, which hard thresholding does not define")


def _shrink_in_place(u: Tensor, unrolling: Unrolling, layer: int) -> Tensor:
    """``unrolling.shrink`` without a new tensor."""
    level = unrolling.level(layer)
    if unrolling.hard:
        return u.mul_((u if unrolling.nonnegative else u.abs()) >= level)
    return u.sub_(level).relu_() if unrolling.nonnegative else torch.ops.aten.softshrink.out(u, level, out=u)


def _block(n_atoms: int, device: torch.device) -> int:
    """Samples a block: about 400 kB of codes a layer on a CPU, so that one layer stays in the cache; more on a GPU."""
    return max(1, (100_000 if device.type == "cpu" else 10_000_000) // n_atoms)


@contextmanager
def _flushed_denormals():
    """Back-propagated errors decay into denormal numbers, which processors multiply many times slower: treat them as zero."""
    smallest = torch.tensor(5e-324, dtype=torch.float64)
    before = bool(smallest * 1 == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
