"""Checks of the contract of methods, for ``pudle check-method NAME`` and, with :func:`check`, for your own tests.

A method runs with its default settings on a small and easy problem: an orthonormal dictionary, two non-zeros per sample, no noise, and a
start near the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pudle import methods
from pudle.harness.plugin_checks import Broken, BrokenPromise, PromiseCheck, demand, examine

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["PROMISES", "BrokenPromise", "PromiseCheck", "check", "findings"]

N_ATOMS, SPARSITY, BATCH, UPDATES, INIT_NOISE = 32, 2, 50, 200, 0.03
BRIEF = 16  # batches of short checks; enough for methods that collect batches first


def check(name: str, plugins: Iterable[str | Path] = (), settings: Mapping | None = None) -> list[PromiseCheck]:
    """Run all checks on method ``name``. Raises :class:`BrokenPromise`, which lists all failed checks."""
    methods.load_plugins(plugins)
    return demand("method", name, findings(name, settings))


def findings(name: str, settings: Mapping | None = None) -> Iterator[PromiseCheck]:
    """The findings on method ``name``, one for each check."""
    return examine(methods.REGISTRY, name, _Trial(name, settings or {}), PROMISES)


class _Trial:
    """A method and its test problem."""

    def __init__(self, name: str, settings: Mapping):
        self.name, self.settings = name, settings
        self.unit_norm = methods.get(name).unit_norm

    def problem(self, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Samples (n, m), the initial dictionary and the true one (m, p)."""
        import torch

        from pudle.core.initialization import perturb_dictionary
        from pudle.data.synthetic import make_sparse_data

        drawn = make_sparse_data(BATCH * UPDATES, N_ATOMS, N_ATOMS, SPARSITY, signs="independent", seed=0, dtype=torch.float64)
        truth = torch.linalg.qr(drawn.dictionary).Q
        start = perturb_dictionary(truth, INIT_NOISE, seed=0)
        return tuple(tensor.to(dtype or torch.float32) for tensor in (drawn.codes @ truth.T, start, truth))

    def method(self, start: Tensor) -> methods.Method:
        import numpy as np

        return methods.create(self.name, start, self.settings, np.random.default_rng(0))

    def run(self, batches: Iterable[Tensor], start: Tensor) -> methods.Method:
        method = self.method(start)
        for batch in batches:
            method.update(batch)
        return method


def _shapes(trial: _Trial) -> str:
    import torch

    for dtype in (torch.float32, torch.float64):
        x, start, _ = trial.problem(dtype)
        method = trial.run(x[: BRIEF * BATCH].split(BATCH), start)
        _same_kind("the dictionary", method.dictionary, start)
        if hasattr(method, "encode"):
            _same_kind("the result of encode", method.encode(x[:7]), x.new_zeros(7, N_ATOMS))
    codes = f"codes (7, {N_ATOMS})" if hasattr(method, "encode") else "no codes"
    return f"dictionary ({N_ATOMS}, {N_ATOMS}), {codes}; float32 and float64"


def _same_kind(what: str, value: Tensor, like: Tensor) -> None:
    shape = tuple(getattr(value, "shape", ()))
    if shape != tuple(like.shape) or getattr(value, "dtype", None) != like.dtype:
        kind = f"{type(value).__name__} of shape {shape} and type {getattr(value, 'dtype', None)}"
        raise Broken(f"{what} is a {kind}, not a Tensor of shape {tuple(like.shape)} and type {like.dtype}")
    if not value.isfinite().all():
        raise Broken(f"{what} has {int((~value.isfinite()).sum())} entries that are not finite")


def _unit_norms(trial: _Trial) -> str:
    if not trial.unit_norm:
        return "not promised"
    x, start, _ = trial.problem()
    method, worst = trial.method(start), 0.0
    for batch in x[: BRIEF * BATCH].split(BATCH):
        method.update(batch)
        worst = max(worst, float((method.dictionary.norm(dim=0) - 1).abs().max()))
    if not worst <= 1e-4:
        raise Broken(f"an atom's norm is {worst:.2g} from 1 after an update (set unit_norm = False, or use self.move_to)")
    return f"largest distance from 1 is {worst:.1e}"


def _inputs(trial: _Trial) -> str:
    x, start, _ = trial.problem()
    kept_x, kept_start = x.clone(), start.clone()
    trial.run(x[: BRIEF * BATCH].split(BATCH), start)
    for what, now, before in (("the initial dictionary", start, kept_start), ("a batch", x, kept_x)):
        if not now.equal(before):
            raise Broken(f"the method changed {what} by up to {float((now - before).abs().max()):.2g}; work on a copy")
    return "initial dictionary and batches are unchanged"


def _deterministic(trial: _Trial) -> str:
    x, start, _ = trial.problem()
    first, second = (trial.run(x[: BRIEF * BATCH].split(BATCH), start).dictionary for _ in range(2))
    if not first.equal(second):
        apart = float((first - second).abs().max())
        raise Broken(f"two runs with one seed differ by up to {apart:.2g}; draw random numbers from self.generator only")
    return "two runs are equal to the last bit"


def _batch_of_one(trial: _Trial) -> str:
    x, start, _ = trial.problem()
    _same_kind("the dictionary", trial.run(x[:3].split(1), start).dictionary, start)
    return "finite after three of them"


def _improves(trial: _Trial) -> str:
    from pudle.core.metrics import dictionary_error

    x, start, truth = trial.problem()
    learned = trial.run(x.split(BATCH), start).dictionary
    _same_kind("the dictionary", learned, start)
    before, after = (dictionary_error(dictionary, truth, align=True) for dictionary in (start, learned))
    measured = f"error {before:.3g} before and {after:.3g} after {UPDATES} batches of {BATCH}"
    if not after < 0.9 * before:
        raise Broken(f"{measured}; it must decrease by at least a tenth")
    return measured


PROMISES: dict[str, Callable[[_Trial], str]] = {
    "right shapes and types": _shapes,
    "atoms of norm 1": _unit_norms,
    "unchanged inputs": _inputs,
    "same seed, same result": _deterministic,
    "batches of one sample": _batch_of_one,
    "lower error on an easy problem": _improves,
}
