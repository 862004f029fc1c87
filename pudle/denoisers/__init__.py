"""Denoisers as plug-ins, to set beside the learned filters.

A denoiser is a class in a file of this folder, in a file of yours (``plugins:`` in the config) or in an installed package (entry points
of the group ``pudle.denoisers``)::

    @register("my-denoiser")
    class MyDenoiser(Denoiser):
        '''The one line that `pudle denoisers` shows.'''

        source = "who published it, where"

        class Settings(Settings):
            width: float = Field(1.0, gt=0, description="What it is.")

        def denoise(self, noisy): ...

As for methods, what is heavy is imported inside the functions that need it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from pudle.harness import plugins
from pudle.harness.plugins import Plugin, Settings, SettingsError

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "REGISTRY",
    "Denoiser",
    "Field",
    "Settings",
    "SettingsError",
    "create",
    "fingerprint",
    "get",
    "names",
    "register",
    "source_file",
    "validate",
]


class Denoiser(Plugin):
    """Estimates a grey image with values in [0, 1] from one with Gaussian noise on it. It never sees a clean test image."""

    improves: ClassVar[bool] = True  # a promise: halves the error of an easy problem

    def __init__(self, settings: Settings, sigma: float, generator: np.random.Generator):
        """``sigma`` is the standard deviation of the noise, for images in [0, 1]; all randomness comes from ``generator``."""
        self.settings = settings
        self.sigma = sigma
        self.generator = generator

    def fit(self, images: Mapping[str, np.ndarray]) -> None:
        """Learn from clean training images (h, w), float32, by name. Called once, before :meth:`denoise`; does nothing unless given."""

    @abstractmethod
    def denoise(self, noisy: np.ndarray) -> np.ndarray:
        """The estimate (h, w) of one noisy image (h, w), float32, whose values may lie outside of [0, 1]."""


REGISTRY = plugins.Registry("denoiser", Denoiser, __name__)
register, names, get = REGISTRY.register, REGISTRY.names, REGISTRY.get
validate, source_file, fingerprint = REGISTRY.validate, REGISTRY.source_file, REGISTRY.fingerprint


def create(name: str, settings: Mapping, sigma: float, generator: np.random.Generator) -> Denoiser:
    """Denoiser ``name`` for noise of standard deviation ``sigma``."""
    return get(name)(REGISTRY.settings(name, settings), sigma, generator)
