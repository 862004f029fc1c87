"""Codes of unrolled layers and derivatives through them, computed by the fastest implementation that applies."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from pudle.core.closed_form import pull_back, run_and_keep
from pudle.core.gradients import unrolled_codes
from pudle.core.unrolling import Unrolling, check_shapes, iterate, runs_compiled, soft_threshold


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
    """Codes z_T (n, p) of ``x`` (n, m) after T unrolled layers.

    Codes are differentiable in ``x``, ``dictionary`` (m, p), ``lam`` and ``step``. The settings are those of
    :class:`pudle.core.unrolling.Unrolling`. Raises :class:`PudleError` if they are invalid, or if shapes or types do not fit. Source: PUDLE,
    Algorithm 1.

    On a CPU in float32 or float64, codes are computed by compiled loops over non-zeros (by dense products with "fista"). ``backward()``
    then uses the closed form of :mod:`pudle.core.closed_form`. Where a gradient is required, the layers are kept for it, by their codes that
    are not 0: at most about 0.6 n T p numbers, where torch would store 2.6 n T p or more. Samples beyond that run again in ``backward()``, and
    so do all samples if many layers are dense. Under ``torch.no_grad()`` nothing is kept.

    In all other cases torch records the layers: on other devices, for other types, under ``torch.func``, ``torch.compile`` and forward-mode
    differentiation, and in a backward pass with ``create_graph``.
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
    check_shapes(x, dictionary)

    def keep(x, dictionary):
        return run_and_keep(x.detach(), dictionary.detach(), unrolling) or (unrolled_codes(x, dictionary, unrolling), ())

    def back(x, dictionary, adjoint, wanted, layers):
        settings = {"weights": wanted[1], "slopes": wanted[2] or wanted[3], "layers": layers}
        return pull_back(x, dictionary, unrolling, adjoint.contiguous(), **settings)

    paths = Paths(
        fast=lambda x, dictionary: unrolled_codes(x, dictionary, unrolling),
        keep=keep,
        back=back,
        plain=lambda *inputs: _plain_codes(*inputs, unrolling),
    )
    return paths.run(x, dictionary, *levels, compiled=runs_compiled(x, dictionary))


def constants_and_levels(lam, step) -> list:
    """λ and α as constants, and then both as tensors to differentiate with respect to, or None if they require no gradient."""
    wanted = [isinstance(value, Tensor) and value.requires_grad for value in (lam, step)]
    constants = [value.detach() if want else value for value, want in zip((lam, step), wanted, strict=True)]
    return constants + [value if want else None for value, want in zip((lam, step), wanted, strict=True)]


class Paths(NamedTuple):
    """Four functions that compute codes, or derivatives through them, for layers with given settings.

    fast : (x, D) → codes, by operations that torch does not record
    keep : (x, D) → the same codes, and a tuple of tensors that ``back`` needs
    back : (x, D, z̄, wanted, kept) → derivatives with respect to x, D, λ and α from the derivatives ``z̄`` of the codes; ``wanted`` holds one
        boolean for each of them, and ``kept`` the tensors of ``keep``
    plain : (x, D, λ or None, α or None) → codes, by operations that torch records
    """

    fast: Callable
    keep: Callable
    back: Callable
    plain: Callable

    def run(self, x: Tensor, dictionary: Tensor, lam: Tensor | None, step: Tensor | None, *, compiled: bool) -> Tensor:
        """Codes by ``plain`` unless ``compiled``; by ``keep`` and ``back`` if an input requires a gradient; otherwise by ``fast``."""
        if not compiled:
            return self.plain(x, dictionary, lam, step)
        if torch.is_grad_enabled() and any(value is not None and value.requires_grad for value in (x, dictionary, lam, step)):
            return _Codes.apply(x, dictionary, lam, step, self)
        return self.fast(x, dictionary)


def _plain_codes(x: Tensor, dictionary: Tensor, lam: Tensor | None, step: Tensor | None, unrolling: Unrolling) -> Tensor:
    """Layers that torch records; ``lam`` and ``step`` are None, or what to differentiate with respect to."""
    start = x.new_zeros(x.shape[0], dictionary.shape[1])
    return plain_layers(unrolling, start, lambda point: (point @ dictionary.T - x) @ dictionary, lam, step)


def plain_layers(
    unrolling: Unrolling, start: Tensor, correlate: Callable[[Tensor], Tensor], lam: Tensor | None, step: Tensor | None
) -> Tensor:
    """:func:`pudle.core.unrolling.iterate` with ``lam`` and ``step``, unless they are None, in place of the numbers of ``unrolling``."""

    def shrink(u: Tensor, layer: int) -> Tensor:
        level = (unrolling.step if step is None else step) * (unrolling.lam if lam is None else lam) * unrolling.decay**layer
        return soft_threshold(u, level, nonnegative=unrolling.nonnegative)

    plain = unrolling.hard or (lam is None and step is None)
    return iterate(unrolling, start, correlate, step=step, shrink=None if plain else shrink)


class _Codes(torch.autograd.Function):
    """Codes by ``Paths.keep``, with derivatives by ``Paths.back``.

    Tensors of both calls are saved as torch saves those of its own operations: it frees them after the backward pass.
    """

    @staticmethod
    def forward(ctx, x, dictionary, lam, step, paths):
        codes, kept = paths.keep(x, dictionary)
        ctx.save_for_backward(x, dictionary, lam, step, *kept)
        ctx.paths = paths
        return codes

    @staticmethod
    def backward(ctx, adjoint):
        inputs, kept, wanted = ctx.saved_tensors[:4], ctx.saved_tensors[4:], ctx.needs_input_grad[:4]
        if torch.is_grad_enabled():  # create_graph: derivatives must be differentiable
            codes = ctx.paths.plain(*inputs)
            asked = [value for value, want in zip(inputs, wanted, strict=True) if want]
            found = iter(torch.autograd.grad(codes, asked, adjoint, create_graph=True))
            return *(next(found) if want else None for want in wanted), None
        x, dictionary, lam, step = inputs
        of_x, of_dictionary, *numbers = ctx.paths.back(x, dictionary, adjoint, wanted, kept)
        of_levels = (
            torch.full_like(value, number) if want else None
            for value, number, want in zip((lam, step), numbers, wanted[2:], strict=True)
        )
        return of_x if wanted[0] else None, of_dictionary if wanted[1] else None, *of_levels, None
