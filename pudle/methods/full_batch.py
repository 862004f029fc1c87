"""The base of full-batch methods, which collects minibatches until there are enough samples."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from pudle.methods import Field, Method, Settings

if TYPE_CHECKING:
    from torch import Tensor


class FullBatchMethod(Method):
    """A method that calls :meth:`learn` each time ``samples_per_atom`` × p samples have arrived; a batch of this size is used at once."""

    class Settings(Settings):
        samples_per_atom: float = Field(
            5.0,
            ge=0,
            description="Batches are gathered until there are this many samples for each atom, and then learned from.",
        )

    def __init__(self, dictionary, settings, generator):
        super().__init__(dictionary, settings, generator)
        self._waiting: list[Tensor] = []
        self.idle = True  # until the first call of learn

    @abstractmethod
    def learn(self, x: Tensor) -> None:
        """Perform one iteration on the samples x (n, m)."""

    def update(self, batch):
        import torch

        self._waiting.append(batch.clone())
        if sum(map(len, self._waiting)) >= self.settings.samples_per_atom * self.dictionary.shape[1]:
            x, self._waiting, self.idle = torch.cat(self._waiting), [], False
            self.learn(x)
