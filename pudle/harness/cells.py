"""A cell is one point of an experiment's grid with all its seeds: one job, one folder.

``<results>/<scale>/cells/<experiment>/<cell id>/`` holds ``rows.csv``, ``cell.json`` (settings, status, provenance, hashes of the
other files) and, where the experiment keeps any, ``timings.csv`` and ``arrays.npz``. ``cell.json`` is written last: a folder
that has it is complete.
"""

import hashlib
import itertools
import json
import re
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pudle.errors import PudleError
from pudle.harness import files, provenance
from pudle.harness.checkpoints import Checkpoints
from pudle.harness.record import Record, out_of_memory


@dataclass(frozen=True)
class Cell:
    """One point of an experiment's grid: flat ``settings``, its ``seeds``, and which settings vary over the grid."""

    experiment: str
    settings: Mapping[str, object]
    seeds: tuple[int, ...]
    varies: tuple[str, ...]

    @property
    def id(self) -> str:
        """The varying settings, readable, and eight digits of the hash of all settings."""
        slug = "__".join(f"{key}-{self.settings[key]}" for key in self.varies if key in self.settings)
        digest = hashlib.sha256(files.canonical_json(dict(self.settings)).encode()).hexdigest()[:8]
        return "__".join(filter(None, [re.sub(r"[^\w.+-]+", "-", slug)[:80], digest]))

    def folder(self, root: Path) -> Path:
        """Its place under ``root`` = ``<results>/<scale>``."""
        return Path(root, "cells", self.experiment, self.id)


def grid(settings: Mapping[str, Any], **lists: str) -> Iterator[dict[str, object]]:
    """Every combination of the settings that are lists: ``grid(settings, estimator="estimators")`` yields one flat dictionary
    for each value of ``settings["estimators"]``, under the name ``estimator``; the other settings stay as they are."""
    fixed = {key: value for key, value in settings.items() if key not in lists.values()}
    for values in itertools.product(*(settings[key] for key in lists.values())):
        yield fixed | dict(zip(lists, values, strict=True))


def run(
    cell: Cell,
    folder: Path,
    experiment: Callable[[Mapping, Sequence[int], Record], None],
    *,
    fingerprint: str,
    code: Mapping[str, str] | None = None,
    data: Mapping[str, Path] | None = None,
) -> str:
    """Run one cell and write its folder; returns its status.

    ``experiment(settings, seeds, record)`` fills the record. The status is "done" or the worst ending of a seed: "diverged", "stalled"
    or "failed", as where memory runs out. Errors for people (:class:`pudle.errors.PudleError`) and bugs pass through, and nothing is
    written but what the record was told to keep: a run that was stopped goes on from there.

    code : SHA-256 of the source of each module that the cell depends on, kept in ``cell.json``
    data : folders by name: of the files that are read from them, ``cell.json`` holds the SHA-256
    """
    started, clock = _now(), time.monotonic()
    folder = Path(folder)
    checkpoints = Checkpoints(folder, files.canonical_json([dict(cell.settings), fingerprint, provenance.device()]))
    record = Record(checkpoints)
    with provenance.reading(data or {}) as inputs:
        try:
            experiment(cell.settings, cell.seeds, record)
        except Exception as error:
            if not out_of_memory(error):
                raise
            record.fail(cell.seeds, f"out of memory: {error}")
    outputs = {"rows.csv": lambda path: record.rows().to_csv(path, index=False)}
    if len(record.timings()):
        outputs["timings.csv"] = lambda path: record.timings().to_csv(path, index=False)
    if record.arrays:
        outputs["arrays.npz"] = record.save_arrays
    for name, save in outputs.items():
        files.replace(folder / name, save)
    for name in {"timings.csv", "arrays.npz"} - set(outputs):
        (folder / name).unlink(missing_ok=True)  # of an earlier run
    description = {
        "experiment": cell.experiment,
        "id": cell.id,
        "settings": dict(cell.settings),
        "varies": list(cell.varies),
        "seeds": list(cell.seeds),
        "status": record.status,
        "endings": record.endings,
        "started": started,
        "ended": _now(),
        "seconds": round(time.monotonic() - clock, 3),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "fingerprint": fingerprint,
        "code": dict(code or {}),
        "inputs": inputs,
        "outputs": {name: files.sha256(folder / name) for name in outputs},
        "provenance": provenance.describe(),
    }
    files.write(folder / "cell.json", json.dumps(description, indent=1, ensure_ascii=False) + "\n")
    checkpoints.remove()
    return record.status


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def read(folder: Path) -> dict:
    """The contents of a cell's ``cell.json``; a damaged one is a :class:`PudleError`."""
    told = files.read_json(Path(folder, "cell.json"))
    lacking = [key for key in ("settings", "status", "endings", "started", "provenance") if key not in told]
    if lacking:
        raise PudleError(
            f"{Path(folder, 'cell.json')}: no record of a cell: it lacks the key {lacking[0]!r}; remove its folder"
        )
    return told
