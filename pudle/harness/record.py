"""The output of an experiment: tidy rows, timings, and arrays for figures that show more than numbers.

A row is (labels…, seed, step, quantity, value). If a seed cannot continue, its rows up to this point are kept and followed by a row
with the quantity "diverged", "failed" or "stalled", and the other seeds continue. A failed run is thus recorded as a result.
"""

import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from pudle.errors import PudleError
from pudle.harness.checkpoints import Checkpoints
from pudle.harness.files import FORMULAS

ENDINGS = ("diverged", "stalled", "failed")  # in increasing order of severity
LONGEST = 1e9  # seconds, 30 years: the system's timer takes little more
KEYS = ["seed", "step", "quantity", "value"]  # the columns of a row other than labels


class Diverged(Exception):
    """A value was not finite."""


class Stalled(Exception):
    """The time limit was reached."""


class Record:
    """Rows, timings and arrays of one cell, or of one of its seeds. Without ``checkpoints`` no states are saved or loaded.

    first : the first seed of the cell; some outputs are recorded for this seed only
    """

    def __init__(self, checkpoints: Checkpoints | None = None, first: int | None = None):
        self._checkpoints, self._first_seed = checkpoints, first
        self._rows: list[dict] = []
        self._timings: list[dict] = []
        self._seed: int | None = None
        self._labels: Mapping[str, object] = {}
        self._step = 0
        self._first = 0, 0  # row and timing of the current seed
        self.arrays: dict[str, np.ndarray] = {}
        self.endings: list[dict] = []  # seed, labels, status and reason of each seed that did not end well

    @contextmanager
    def seed(self, seed: int, *, limit: float | None = None, guard: bool = False, **labels: object) -> Iterator[None]:
        """Everything recorded inside belongs to ``seed`` and has ``labels``. A NaN or infinite value ends the block as "diverged".

        limit : seconds after which the block ends as "stalled" (only where the system has an alarm, and in the main thread)
        guard : whether any other exception ends the block as "failed", as for methods of other authors; otherwise only lack of
            memory does, and other exceptions are raised
        """
        self._seed, self._labels, self._step = seed, labels, 0
        self._first = len(self._rows), len(self._timings)
        try:
            with _alarm(limit):
                yield
        except Diverged as reason:
            self._end("diverged", reason)
        except Stalled as reason:
            self._end("stalled", reason)
        except Exception as reason:
            if not guard and not out_of_memory(reason):
                raise
            self._end("failed", f"{'' if isinstance(reason, PudleError) else type(reason).__name__ + ': '}{reason}")
        finally:
            self._labels = {}

    def fail(self, seeds: Iterable[int], reason: str) -> None:
        """End each of ``seeds`` that has no rows as failed."""
        for seed in set(seeds) - {row["seed"] for row in self._rows}:
            with self.seed(seed, guard=True):
                raise PudleError(reason)

    def is_first(self, seed: int, seeds: Sequence[int]) -> bool:
        """Whether ``seed`` is the first seed of its cell; ``seeds`` are those that this process computes."""
        return seed == (seeds[0] if self._first_seed is None else self._first_seed)

    def state(self) -> dict:
        """All recorded data, for :meth:`extend`."""
        return {"rows": self._rows, "timings": self._timings, "endings": self.endings, "arrays": self.arrays}

    def extend(self, state: Mapping) -> None:
        """Add the :meth:`state` of another record, for example that of another seed of the cell."""
        self._rows += state["rows"]
        self._timings += state["timings"]
        self.endings += state["endings"]
        self.arrays |= state["arrays"]

    @property
    def status(self) -> str:
        """ "done", or the worst ending of any seed."""
        return max((ending["status"] for ending in self.endings), key=ENDINGS.index, default="done")

    def add(self, step: int, values: Mapping[str, float], **labels: object) -> None:
        """Record quantities at ``step`` (a layer or an update); ``labels`` are further key columns, such as an estimator."""
        for quantity, value in values.items():
            value = float(value)
            self.check(step, **{quantity: value})
            self._rows.append(self._row(step, quantity, value, labels))

    def check(self, step: int, **values: float) -> None:
        """End the seed as diverged if one of ``values`` is not finite."""
        self._step = step
        for quantity, value in values.items():
            if not np.isfinite(value):
                raise Diverged(f"{quantity} is {value} at step {step}")

    def time(self, step: int, seconds: float) -> None:
        """Record the seconds spent up to ``step``. Timings are kept apart from the rows, which are the same in every run."""
        self._timings.append(self._row(step, "seconds", seconds, {}))

    def keep(self, state: Callable[[], Mapping]) -> None:
        """If a checkpoint is due, save ``state()`` of the current seed (arrays and JSON values) with its rows and timings so far."""
        if self._checkpoints and self._checkpoints.due():
            rows, timings = self._first
            self._checkpoints.save(self._current(), {**state(), "rows": self._rows[rows:], "timings": self._timings[timings:]})

    def resume(self) -> dict | None:
        """The last state that :meth:`keep` saved for the current seed, if a run of this cell was stopped; restores its rows and timings.

        None if there is no saved state.
        """
        kept = self._checkpoints and self._checkpoints.load(self._current())
        if not kept:
            return None
        rows, timings = self._first
        self._rows[rows:], self._timings[timings:] = kept.pop("rows"), kept.pop("timings")
        return kept

    def array(self, name: str, value) -> None:
        """Record an array of the current seed, or a tensor on any device, under the name ``<name>/<seed>``."""
        self.arrays[f"{name}/{self._seed}"] = np.asarray(value.cpu() if hasattr(value, "cpu") else value)

    def rows(self) -> pd.DataFrame:
        """All rows; missing labels are empty."""
        return _frame(self._rows)

    def timings(self) -> pd.DataFrame:
        """Rows of the quantity "seconds"."""
        return _frame(self._timings)

    def save_arrays(self, path: Path) -> None:
        with open(path, "wb") as file:
            np.savez_compressed(file, **self.arrays)  # type: ignore[arg-type]

    def _current(self) -> int:
        assert self._seed is not None, "inside `with record.seed(...)` only"
        return self._seed

    def _row(self, step: int, quantity: str, value: float, labels: Mapping[str, object]) -> dict:
        for label in labels.values():
            if isinstance(label, str) and label.startswith(FORMULAS):
                raise PudleError(f"the label {label!r} would be a formula in a spreadsheet; rename its source")
        return {**self._labels, **labels, "seed": self._seed, "step": step, "quantity": quantity, "value": value}

    def _end(self, status: str, reason: object) -> None:
        self._rows.append(self._row(self._step, status, 1.0, {}))
        text = " ".join(str(reason).split())
        self.endings.append({"seed": self._seed, **self._labels, "status": status, "reason": text})


def out_of_memory(error: Exception) -> bool:
    """Whether ``error`` is one by which numpy, numba or torch report lack of memory."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)


def completed(rows: pd.DataFrame) -> pd.DataFrame:
    """The ``rows`` of a cell without those of runs that ended early. An ending concerns the rows that have its seed and its labels."""
    kept = ~rows.quantity.isin(ENDINGS)
    for ending in rows[~kept].to_dict("records"):
        kept &= ~((rows.seed == ending["seed"]) & belong(rows, ending))
    return rows[kept]


def belong(rows: pd.DataFrame, ending: Mapping, varies: Iterable[str] = ()) -> pd.Series:
    """Which of ``rows`` have the labels of ``ending``. An empty label of the ending matches any value, unless it varies over the grid."""
    found = pd.Series(True, rows.index)
    for label in [key for key in ending if key not in KEYS and (ending[key] != "" or key in varies)]:
        found &= rows[label] == ending[label]
    return found


def _frame(rows: list[dict]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=None if rows else KEYS)
    labels = [column for column in frame.columns if column not in KEYS]
    frame[labels] = frame[labels].where(frame[labels].notna(), "")
    return frame[labels + KEYS]


@contextmanager
def _alarm(limit: float | None) -> Iterator[None]:
    if limit is None or not hasattr(signal, "SIGALRM"):
        yield
        return

    def ring(*_):
        raise Stalled(f"not done after the time limit of {limit:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, min(limit, LONGEST))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
