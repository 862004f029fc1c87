"""Codes of unrolled layers, and derivatives through them, on the fastest path that a call allows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pudle.core.closed_form import pull_back
from pudle.core.gradients import unrolled_codes
from pudle.core.unrolling import Unrolling, check_shapes, iterate, runs_compiled


def encode(
    x: Tensor,
    dictionary: Tensor,
    *,
    lam: float | Tensor | None = None,
    threshold: float | None = None,
    step: float | Tensor,
    n_layers: int,
    decay: float = 1.0,
    nonnegative: bool = False,
    acceleration: str = "none",
) -> Tensor:
    """Codes z_T (n, p) of ``x`` (n, m) after T unrolled layers; differentiable in ``x``, ``dictionary`` (m, p), ``lam`` and ``step``.

    Settings as in :class:`pudle.core.unrolling.Unrolling`, whose :class:`PudleError` they raise. Source: PUDLE, Algorithm 1.

    On a CPU in float32 or float64, codes come from compiled loops over entries that are not 0 (dense products with "fista"), and
    ``backward()`` from the closed form of :mod:`pudle.core.closed_form`: it runs the layers once more, and so keeps nothing of them.
    Plain layers, which torch records, run on other devices and in other types, under ``torch.func``, ``torch.compile`` and
    forward-mode differentiation, and in a backward pass with ``create_graph``.
    """
    levels = [value if isinstance(value, Tensor) and value.requires_grad else None for value in (lam, step)]
    unrolling = Unrolling(
        lam=lam if levels[0] is None else lam.detach(),
        threshold=threshold,
        step=step if levels[1] is None else step.detach(),
        n_layers=n_layers,
        decay=decay,
        nonnegative=nonnegative,
        acceleration=acceleration,
    )
    check_shapes(x, dictionary)
    if not runs_compiled(x, dictionary):
        return _plain_codes(x, dictionary, *levels, unrolling)
    if torch.is_grad_enabled() and any(value is not None and value.requires_grad for value in (x, dictionary, *levels)):
        return _Codes.apply(x, dictionary, *levels, unrolling)
    return unrolled_codes(x, dictionary, unrolling)


def _plain_codes(x: Tensor, dictionary: Tensor, lam: Tensor | None, step: Tensor | None, unrolling: Unrolling) -> Tensor:
    """Layers that torch records; ``lam`` and ``step`` are None, or what to differentiate with respect to."""

    def shrink(u: Tensor, layer: int) -> Tensor:
        level = (unrolling.step if step is None else step) * (unrolling.lam if lam is None else lam) * unrolling.decay**layer
        return F.relu(u - level) if unrolling.nonnegative else u - u.clamp(-level, level)

    plain = unrolling.hard or (lam is None and step is None)
    return iterate(
        unrolling,
        x.new_zeros(x.shape[0], dictionary.shape[1]),
        lambda point: (point @ dictionary.T - x) @ dictionary,
        step=step,
        shrink=None if plain else shrink,
    )


class _Codes(torch.autograd.Function):
    """:func:`encode`, with derivatives in closed form."""

    @staticmethod
    def forward(ctx, x, dictionary, lam, step, unrolling):
        ctx.save_for_backward(x, dictionary, lam, step)
        ctx.unrolling = unrolling
        return unrolled_codes(x, dictionary, unrolling)

    @staticmethod
    def backward(ctx, back):
        inputs, wanted = ctx.saved_tensors, ctx.needs_input_grad[:4]
        if torch.is_grad_enabled():  # somebody will differentiate the derivatives
            codes = _plain_codes(*inputs, ctx.unrolling)
            asked = [value for value, want in zip(inputs, wanted, strict=True) if want]
            found = iter(torch.autograd.grad(codes, asked, back, create_graph=True))
            return *(next(found) if want else None for want in wanted), None
        x, dictionary, lam, step = inputs
        of_x, of_dictionary, *numbers = pull_back(
            x, dictionary, ctx.unrolling, back.contiguous(), weights=wanted[1], slopes=wanted[2] or wanted[3]
        )
        of_levels = (
            torch.full_like(value, number) if want else None
            for value, number, want in zip((lam, step), numbers, wanted[2:], strict=True)
        )
        return of_x if wanted[0] else None, of_dictionary, *of_levels, None
