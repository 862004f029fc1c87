"""A long run saves its state at intervals. A run that was stopped continues from its state and gives the same result.

States are dictionaries of NumPy arrays, numbers and strings. torch saves them, and loads them without running pickled code.
"""

import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pudle.harness import files

EVERY = 120  # seconds


class Checkpoints:
    """Files ``checkpoint-<seed>.pt`` in a cell's ``folder``. ``key`` is a text that changes whenever a state becomes invalid."""

    def __init__(self, folder: Path, key: str):
        self.folder, self.key = Path(folder), key
        self._started = self._saved = time.monotonic()
        self._before = 0.0  # seconds of the runs that were stopped
        self._used = self._stopping = False

    @property
    def seconds(self) -> float:
        """Seconds since the start, including the earlier runs that the state comes from."""
        return self._before + time.monotonic() - self._started

    def due(self) -> bool:
        """Whether :data:`EVERY` seconds have passed since the start or the last state, or the process has been asked to end."""
        self._used = True
        return self._stopping or time.monotonic() - self._saved >= EVERY

    def save(self, seed: int, state: Mapping) -> None:
        """Save ``state``; then end the process with status 143 if it has received SIGTERM."""
        save(self._path(seed), self.key, {"state": state, "seconds": self.seconds})
        self._saved = time.monotonic()
        if self._stopping:
            raise SystemExit(128 + signal.SIGTERM)

    def load(self, seed: int) -> dict | None:
        """The last state that ``seed`` saved with the same key; None if there is none."""
        found = load(self._path(seed), self.key)
        if found is None:
            return None
        self._before = found["seconds"]
        return found["state"]

    @contextmanager
    def ending_on_request(self) -> Iterator[None]:
        """End the process inside on SIGTERM, which schedulers send at a deadline.

        If the run saves states, it ends after the next one; otherwise it ends at once.
        """

        def stop(*_):
            if not self._used:
                raise SystemExit(128 + signal.SIGTERM)
            self._stopping = True

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def _path(self, seed: int) -> Path:
        return self.folder / f"checkpoint-{seed}.pt"


def save(path: Path, key: str, state: Mapping) -> None:
    """Write ``state`` to ``path``, for :func:`load` with the same ``key``."""
    import torch  # planning does not wait for it

    files.replace(path, lambda temporary: torch.save({"key": key, "state": _saved(state)}, temporary))


def load(path: Path, key: str) -> dict | None:
    """The state that :func:`save` wrote to ``path`` with the same ``key``; None if there is none."""
    if not path.exists():
        return None
    import torch

    saved: dict = torch.load(path, weights_only=True, map_location="cpu")
    return _loaded(saved["state"]) if saved["key"] == key else None


def _saved(value: object) -> object:
    """Arrays as tensors of the same layout, and NumPy's numbers as Python's."""
    import torch

    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.array(value, order="K"))
    if isinstance(value, Mapping):
        return {key: _saved(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_saved, value))
    return value.item() if isinstance(value, np.generic) else value


def _loaded(value: object) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return value.numpy()
    if isinstance(value, dict):
        return {key: _loaded(part) for key, part in value.items()}
    return type(value)(map(_loaded, value)) if isinstance(value, list | tuple) else value
