"""PUDLE, which computes gradients of the dictionary through T unrolled layers of a sparse coder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import model_validator

from pudle.methods import Field, register
from pudle.methods.descent import Descent

if TYPE_CHECKING:
    from torch import Tensor

    from pudle.core.unrolling import Unrolling

_PAPER = "Tolooshams & Ba, TMLR 2022 (arXiv 2106.00058)"


class Unrolled(Descent):
    """One gradient through T layers per batch. Subclasses choose the thresholds and the number of layers of back-propagation."""

    source = _PAPER
    estimator = "ae-ls"

    class Settings(Descent.Settings):
        step: float = Field(0.2, gt=0, description="Step size α of a layer.")
        n_layers: int = Field(100, ge=1, description="Layers T.")

    def shrinkage(self) -> dict[str, float]:
        """The current thresholding, as arguments of :class:`pudle.core.unrolling.Unrolling`."""
        return {"lam": self.settings.lam}

    def backward_layers(self) -> int | None:
        """The number of last layers to back-propagate through; None means all layers."""
        return None

    def gradient(self, batch: Tensor) -> Tensor:
        from pudle.core.gradients import unrolled_gradient

        unrolling, back = self._unrolling(), self.backward_layers()
        return unrolled_gradient(batch, self.dictionary, self.estimator, unrolling, backward_layers=back).gradient

    def encode(self, x: Tensor) -> Tensor:
        from pudle.core.encoding import encode

        return encode(x, self.dictionary, **vars(self._unrolling()))

    def _unrolling(self) -> Unrolling:
        from pudle.core.unrolling import Unrolling

        return Unrolling(**self.shrinkage(), step=self.settings.step, n_layers=self.settings.n_layers)


class Soft(Unrolled):
    """The base of methods with soft thresholding at αλ."""

    class Settings(Unrolled.Settings):
        lam: float = Field(0.2, gt=0, description="Sparsity level λ.")


@register("pudle-dec")
class Dec(Soft):
    """Gradient of the decoder with codes held constant, which is alternating minimisation with inexact codes."""

    estimator = "dec"


@register("pudle-ae-lasso")
class AeLasso(Soft):
    """Back-propagation of the lasso loss through T layers with fixed λ."""

    estimator = "ae-lasso"


@register("pudle-ae-ls")
class AeLs(Soft):
    """Back-propagation of the least-squares loss through T layers with fixed λ."""


@register("pudle-ae-ls-decay")
class AeLsDecay(Soft):
    """ae-ls with λ_t = λ ν^t in layer t, where ν decreases from 1 during learning, which removes the bias of λ."""

    class Settings(Soft.Settings):
        decay_drop: float = Field(0.005, ge=0, description="What ν is lowered by each time.")
        decay_every: int = Field(100, ge=1, description="Batches between two lowerings of ν.")
        decay_floor: float = Field(0.005, gt=0, le=1, description="ν goes no lower; it must stay above 0.")

    def __init__(self, dictionary, settings, generator):
        super().__init__(dictionary, settings, generator)
        self._batches = 0

    def shrinkage(self):
        lowered = 1 - self.settings.decay_drop * (self._batches // self.settings.decay_every)
        return {"lam": self.settings.lam, "decay": max(lowered, self.settings.decay_floor)}

    def update(self, batch):
        super().update(batch)
        self._batches += 1


@register("pudle-ae-ls-ht")
class AeLsHt(Unrolled):
    """ae-ls with hard thresholding, which has no bias."""

    class Settings(Unrolled.Settings):
        threshold: float = Field(0.1, gt=0, description="Hard threshold b; not multiplied by the step.")

    def shrinkage(self):
        return {"threshold": self.settings.threshold}


@register("pudle-truncated")
class Truncated(Soft):
    """ae-ls with back-propagation through the last K of the T layers only."""

    source = f"{_PAPER}; truncation: Shaban et al., AISTATS 2019 (arXiv 1810.10667)"

    class Settings(Soft.Settings):
        backward_layers: int = Field(10, ge=1, description="Layers K to back-propagate through, counted from the last.")

        @model_validator(mode="after")
        def _within_the_layers(self):
            if self.backward_layers > self.n_layers:
                raise ValueError(f"backward_layers = {self.backward_layers} is more than n_layers = {self.n_layers}")
            return self

    def backward_layers(self):
        return self.settings.backward_layers
