"""A long run saves its state now and then, and a run that was stopped goes on from there, to the same result.

States are dictionaries of NumPy arrays, numbers and text, saved by torch and loaded without running pickled code.
"""

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pudle.harness import files

EVERY = 120  # seconds


class Checkpoints:
    """Files ``checkpoint-<seed>.pt`` in a cell's ``folder``. ``key`` is a text that changes with whatever makes a state worthless."""

    def __init__(self, folder: Path, key: str):
        self.folder, self.key = Path(folder), key
        self._saved = time.monotonic()

    def due(self) -> bool:
        """Whether :data:`EVERY` seconds have passed since the start or the last state."""
        return time.monotonic() - self._saved >= EVERY

    def save(self, seed: int, state: Mapping) -> None:
        import torch  # planning does not wait for it

        kept = {name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value for name, value in state.items()}
        files.replace(self._path(seed), lambda path: torch.save({"key": self.key, "state": kept}, path))
        self._saved = time.monotonic()

    def load(self, seed: int) -> dict | None:
        """The state that ``seed`` saved last with the same key; None if there is none."""
        if not self._path(seed).exists():
            return None
        import torch

        saved = torch.load(self._path(seed), weights_only=True, map_location="cpu")
        if saved["key"] != self.key:
            return None
        return {name: value.numpy() if isinstance(value, torch.Tensor) else value for name, value in saved["state"].items()}

    def remove(self) -> None:
        """Remove all checkpoints: the run is complete."""
        for path in self.folder.glob("checkpoint-*.pt"):
            path.unlink()

    def _path(self, seed: int) -> Path:
        return self.folder / f"checkpoint-{seed}.pt"
