"""The base of methods that follow a gradient with an optimiser."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Literal

from pudle.methods import Field, Method, Settings

if TYPE_CHECKING:
    from torch import Tensor


DecayRate = Annotated[float, Field(ge=0, lt=1)]


class Descent(Method):
    """Adam or plain gradient descent along :meth:`gradient`. Atoms are rescaled to norm 1 after every update."""

    class Settings(Settings):
        optimizer: Literal["adam", "sgd"] = Field("adam", description="Adam, or plain gradient descent.")
        learning_rate: float = Field(1e-3, gt=0, description="Learning rate of the optimiser.")
        adam_eps: float = Field(1e-3, gt=0, description="Adam's eps, which dominates where it is large against the gradients.")
        adam_betas: tuple[DecayRate, DecayRate] = Field((0.9, 0.999), strict=False, description="Adam's two decay rates.")

    def __init__(self, dictionary, settings, generator):
        import torch

        from pudle.core.optimization import ConstrainedDescent

        super().__init__(dictionary, settings, generator)
        if settings.optimizer == "adam":
            options = {"eps": settings.adam_eps, "betas": settings.adam_betas}
            optimizer = torch.optim.Adam([self.dictionary], settings.learning_rate, **options)
        else:
            optimizer = torch.optim.SGD([self.dictionary], settings.learning_rate)
        self._descent = ConstrainedDescent(optimizer)

    @abstractmethod
    def gradient(self, batch: Tensor) -> Tensor:
        """The gradient (m, p) of the loss on ``batch``; updates go against it."""

    def update(self, batch):
        self._descent.update(self.gradient(batch))
