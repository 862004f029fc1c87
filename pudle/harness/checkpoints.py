"""A long run keeps its state now and then, and one that was stopped goes on from there, to the same result.

States are dictionaries of NumPy arrays and of what JSON can say, in ``.npz`` files without pickled objects.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pudle.harness import files

EVERY = 120  # seconds
_TOLD = "JSON"


class Checkpoints:
    """Files ``checkpoint-<seed>.npz`` in a cell's ``folder``. ``key`` is a text that changes with whatever makes a state worthless."""

    def __init__(self, folder: Path, key: str):
        self.folder, self.key = Path(folder), key
        self._saved = time.monotonic()

    def due(self) -> bool:
        """Whether :data:`EVERY` seconds have passed since the start or the last state."""
        return time.monotonic() - self._saved >= EVERY

    def save(self, seed: int, state: Mapping) -> None:
        arrays = {name: value for name, value in state.items() if isinstance(value, np.ndarray)}
        told = json.dumps({name: value for name, value in state.items() if name not in arrays} | {"key": self.key})
        files.replace(self._path(seed), lambda path: np.savez(path, **arrays, **{_TOLD: told}))
        self._saved = time.monotonic()

    def load(self, seed: int) -> dict | None:
        """The state that ``seed`` saved last with the same key; None if there is none."""
        if not self._path(seed).exists():
            return None
        with np.load(self._path(seed), allow_pickle=False) as archive:
            arrays = dict(archive)
        told = json.loads(str(arrays.pop(_TOLD)))
        return arrays | told if told.pop("key") == self.key else None

    def remove(self) -> None:
        """Remove all of them: the run is complete."""
        for path in self.folder.glob("checkpoint-*.npz"):
            path.unlink()

    def _path(self, seed: int) -> Path:
        return self.folder / f"checkpoint-{seed}.npz"
