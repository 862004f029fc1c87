"""What an experiment hands back: tidy rows, and arrays for the figures that show more than numbers.

A row is (labels…, seed, step, quantity, value). A value that is not finite ends its seed: the seed is recorded as diverged, with
the rows up to there, and the others go on.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd


class Diverged(Exception):
    """A value was not finite. Raised inside :meth:`Record.seed`, which catches it."""


class Record:
    """Rows and arrays of one cell."""

    def __init__(self):
        self._rows: list[dict] = []
        self._seed: int | None = None
        self.arrays: dict[str, np.ndarray] = {}
        self.diverged: dict[str, str] = {}  # seed → what happened

    @contextmanager
    def seed(self, seed: int) -> Iterator[None]:
        """Everything recorded inside belongs to ``seed``; divergence ends the block, not the cell."""
        self._seed = seed
        try:
            yield
        except Diverged as reason:
            self.diverged[str(seed)] = str(reason)

    def add(self, step: int, values: Mapping[str, float], **labels: str) -> None:
        """Record quantities at ``step`` (a layer or an update); ``labels`` are further key columns, such as an estimator."""
        for quantity, value in values.items():
            value = float(value)
            self.check(step, **{quantity: value})
            self._rows.append({**labels, "seed": self._seed, "step": step, "quantity": quantity, "value": value})

    def check(self, step: int, **values: float) -> None:
        """End the seed as diverged, with a row that says so, if one of ``values`` is not finite."""
        for quantity, value in values.items():
            if not np.isfinite(value):
                self._rows.append({"seed": self._seed, "step": step, "quantity": "diverged", "value": 1.0})
                raise Diverged(f"{quantity} is {value} at step {step}")

    def array(self, name: str, value) -> None:
        """Keep an array of the current seed, read back as ``<name>/<seed>``."""
        self.arrays[f"{name}/{self._seed}"] = np.asarray(value)

    def rows(self) -> pd.DataFrame:
        """All rows; labels that a row does not have are empty."""
        frame = pd.DataFrame(self._rows)
        keys = ["seed", "step", "quantity", "value"]
        labels = [column for column in frame.columns if column not in keys]
        frame[labels] = frame[labels].fillna("")
        return frame[labels + keys]

    def save_arrays(self, path: Path) -> None:
        with open(path, "wb") as file:
            np.savez_compressed(file, **self.arrays)
