"""Checks of the contract of denoisers, for ``pudle check-denoiser NAME`` and, with :func:`check`, for your own tests.

A denoiser runs with its default settings on an easy problem, a disc on a linear gradient with noise of σ = 25 / 255, after learning from
clean images of the same kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from pudle import denoisers
from pudle.harness import plugins
from pudle.harness.plugin_checks import Broken, BrokenPromise, PromiseCheck, demand, examine

__all__ = ["PROMISES", "BrokenPromise", "PromiseCheck", "check", "findings"]

SIGMA = 25 / 255
SHAPE = (64, 80)


def check(name: str, files: Iterable[str | Path] = (), settings: Mapping | None = None) -> list[PromiseCheck]:
    """Run all checks on denoiser ``name``, which may be in plug-in ``files``. Raises :class:`BrokenPromise`, which lists all failed checks."""
    plugins.load(files)
    return demand("denoiser", name, findings(name, settings))


def findings(name: str, settings: Mapping | None = None) -> Iterator[PromiseCheck]:
    """The findings on denoiser ``name``, one for each check."""
    return examine(denoisers.REGISTRY, name, _Trial(name, settings or {}), PROMISES)


class _Trial:
    """A denoiser and its test images."""

    def __init__(self, name: str, settings: Mapping):
        self.name, self.settings = name, settings
        draw = np.random.default_rng(0)
        self.images = {f"image {i}": picture(draw) for i in range(4)}
        self.clean = picture(draw)
        self.noisy = (self.clean + SIGMA * draw.standard_normal(SHAPE)).astype(np.float32)

    def run(self, images: Mapping[str, np.ndarray], noisy: np.ndarray) -> np.ndarray:
        denoiser = denoisers.create(self.name, self.settings, SIGMA, np.random.default_rng(0))
        denoiser.fit(images)
        return denoiser.denoise(noisy)


def picture(draw: np.random.Generator) -> np.ndarray:
    """An image of a disc on a linear gradient, float32 in [0, 1]."""
    rows, columns = np.indices(SHAPE)
    centre, radius = draw.uniform(20, 44, 2), draw.uniform(8, 18)
    disc = np.hypot(rows - centre[0], columns - centre[1]) < radius
    return (0.2 + 0.3 * columns / SHAPE[1] + 0.4 * disc).astype(np.float32)


def _shape(trial: _Trial) -> str:
    for cut in (SHAPE, (SHAPE[0] - 3, SHAPE[1] - 10)):
        noisy = trial.noisy[: cut[0], : cut[1]].copy()
        estimate = trial.run(trial.images, noisy)
        if np.shape(estimate) != cut or not np.isfinite(estimate).all():
            raise Broken(f"the estimate of a noisy image of shape {cut} has shape {np.shape(estimate)} or is not finite")
    return f"{SHAPE[0]} x {SHAPE[1]} and {cut[0]} x {cut[1]} pixels"


def _inputs(trial: _Trial) -> str:
    images, noisy = {name: image.copy() for name, image in trial.images.items()}, trial.noisy.copy()
    trial.run(images, noisy)
    for what, now, before in [
        ("the noisy image", noisy, trial.noisy),
        *((name, images[name], image) for name, image in trial.images.items()),
    ]:
        if not np.array_equal(now, before):
            raise Broken(f"the denoiser changed {what} by up to {np.abs(now - before).max():.2g}; work on a copy")
    return "training and noisy images are unchanged"


def _deterministic(trial: _Trial) -> str:
    first, second = (trial.run(trial.images, trial.noisy.copy()) for _ in range(2))
    if not np.array_equal(first, second):
        raise Broken(
            f"two runs with one seed differ by up to {np.abs(first - second).max():.2g}; draw random numbers from self.generator only"
        )
    return "two runs are equal to the last bit"


def _improves(trial: _Trial) -> str:
    before, after = (
        float(np.mean((image - trial.clean) ** 2)) for image in (trial.noisy, trial.run(trial.images, trial.noisy.copy()))
    )
    measured = f"mean squared error {before:.2g} before and {after:.2g} after"
    if not after < before / 2 and denoisers.get(trial.name).improves:
        raise Broken(f"{measured}; it must decrease by at least half")
    return measured


PROMISES: dict[str, Callable[[_Trial], str]] = {
    "an estimate of the right shape": _shape,
    "unchanged inputs": _inputs,
    "same seed, same result": _deterministic,
    "half the error on an easy problem": _improves,
}
