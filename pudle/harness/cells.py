"""A cell is one point of an experiment's grid with all its seeds: one job, one folder.

``<results>/<scale>/cells/<question>/<cell id>/`` holds ``rows.csv``, ``cell.json`` (settings, status, provenance, hashes of the
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

from pudle.harness import files, provenance
from pudle.harness.checkpoints import Checkpoints
from pudle.harness.record import Record


@dataclass(frozen=True)
class Cell:
    """One point of a question's grid: flat ``settings``, its ``seeds``, and which settings vary over the grid."""

    question: str
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
        return Path(root, "cells", self.question, self.id)


def grid(settings: Mapping[str, object], **lists: str) -> Iterator[dict[str, object]]:
    """Every combination of the settings that are lists: ``grid(settings, estimator="estimators")`` yields one flat dictionary
    for each value of ``settings["estimators"]``, under the name ``estimator``; the other settings stay as they are."""
    fixed = {key: value for key, value in settings.items() if key not in lists.values()}
    for values in itertools.product(*(settings[key] for key in lists.values())):
        yield fixed | dict(zip(lists, values, strict=True))


def run(cell: Cell, folder: Path, experiment: Callable[[Mapping, Sequence[int], Record], None], *, fingerprint: str) -> str:
    """Run one cell and write its folder; returns its status.

    ``experiment(settings, seeds, record)`` fills the record. The status is "done" or the worst ending of a seed: "diverged", "stalled"
    or "failed". Errors for people (:class:`pudle.errors.PudleError`) and bugs pass through, and nothing is written but what the record
    was told to keep: a run that was stopped goes on from there.
    """
    started, clock = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), time.monotonic()
    folder = Path(folder)
    checkpoints = Checkpoints(folder, files.canonical_json([dict(cell.settings), fingerprint]))
    record = Record(checkpoints)
    experiment(cell.settings, cell.seeds, record)
    outputs = {"rows.csv": lambda path: record.rows().to_csv(path, index=False)}
    if len(record.timings()):
        outputs["timings.csv"] = lambda path: record.timings().to_csv(path, index=False)
    if record.arrays:
        outputs["arrays.npz"] = record.save_arrays
    for name, save in outputs.items():
        files.replace(folder / name, save)
    description = {
        "question": cell.question,
        "id": cell.id,
        "settings": dict(cell.settings),
        "varies": list(cell.varies),
        "seeds": list(cell.seeds),
        "status": record.status,
        "endings": record.endings,
        "started": started,
        "seconds": round(time.monotonic() - clock, 3),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "fingerprint": fingerprint,
        "outputs": {name: files.sha256(folder / name) for name in outputs},
        "provenance": provenance.describe(),
    }
    files.write(folder / "cell.json", json.dumps(description, indent=1, ensure_ascii=False) + "\n")
    checkpoints.remove()
    return record.status


def read(folder: Path) -> dict:
    """The contents of a cell's ``cell.json``."""
    return json.loads(Path(folder, "cell.json").read_text())
