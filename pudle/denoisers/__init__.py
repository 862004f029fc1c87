"""Denoisers as plug-ins, to compare with the learned filters.

A denoiser is a class in a file of this folder, in your own file (``plugins:`` in the config) or in an installed package (entry points of
the group ``pudle.denoisers``)::

    @register("my-denoiser")
    class MyDenoiser(Denoiser):
        '''The description, in one line, that `pudle denoisers` shows.'''

        source = "authors and publication"

        class Settings(Settings):
            width: float = Field(1.0, gt=0, description="Width of the filter in pixels.")

        def denoise(self, noisy): ...

Like methods, denoisers import large packages inside the functions that need them.
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
    """Estimates a grey image with values in [0, 1] from an image with Gaussian noise, without access to clean test images."""

    improves: ClassVar[bool] = True  # promises to halve the error of an easy problem

    def __init__(self, settings: Settings, sigma: float, generator: np.random.Generator):
        """``sigma`` is the standard deviation of the noise for images in [0, 1]; all random numbers come from ``generator``."""
        self.settings = settings
        self.sigma = sigma
        self.generator = generator

    def fit(self, images: Mapping[str, np.ndarray]) -> None:
        """Learn from clean training images (h, w), float32, by name. It is called once before :meth:`denoise`; the default does nothing."""

    @abstractmethod
    def denoise(self, noisy: np.ndarray) -> np.ndarray:
        """The estimate (h, w) of one noisy image (h, w), float32, whose values may be outside [0, 1]."""


REGISTRY = plugins.Registry("denoiser", Denoiser, __name__)
register, names, get = REGISTRY.register, REGISTRY.names, REGISTRY.get
validate, source_file, fingerprint = REGISTRY.validate, REGISTRY.source_file, REGISTRY.fingerprint


def create(name: str, settings: Mapping, sigma: float, generator: np.random.Generator) -> Denoiser:
    """An instance of the denoiser ``name`` for noise of standard deviation ``sigma``."""
    return get(name)(REGISTRY.settings(name, settings), sigma, generator)
