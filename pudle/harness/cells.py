"""A cell is one point of an experiment's grid with all its seeds: one job, one folder.

``<results>/<scale>/cells/<experiment>/<cell id>/`` holds ``rows.csv``, ``cell.json`` (settings, status, provenance, hashes of the
other files) and, if the experiment records any, ``timings.csv`` and ``arrays.npz``. ``cell.json`` is written last, so that a folder
with this file is complete. Until then ``seed-<seed>.pt`` holds a finished seed, and ``checkpoint-<seed>.pt`` the state of an
unfinished one.
"""

import hashlib
import itertools
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pudle.errors import PudleError
from pudle.harness import files, provenance, usage
from pudle.harness.checkpoints import Checkpoints, load, save
from pudle.harness.record import Record, out_of_memory


@dataclass(frozen=True)
class Cell:
    """One point of an experiment's grid: flat ``settings``, its ``seeds``, and which settings vary over the grid."""

    experiment: str
    settings: Mapping[str, Any]
    seeds: tuple[int, ...]
    varies: tuple[str, ...]

    @property
    def id(self) -> str:
        """The varying settings, readable, and eight digits of the hash of all settings."""
        slug = "__".join(f"{key}-{self.settings[key]}" for key in self.varies if key in self.settings)
        digest = hashlib.sha256(files.canonical_json(dict(self.settings)).encode()).hexdigest()[:8]
        return "__".join(filter(None, [re.sub(r"[^\w.+-]+", "-", slug)[:80], digest]))

    def folder(self, root: Path) -> Path:
        """The cell's folder under ``root`` = ``<results>/<scale>``."""
        return Path(root, "cells", self.experiment, self.id)


def grid(settings: Mapping[str, Any], **lists: str) -> Iterator[dict[str, object]]:
    """Every combination of the settings that are lists: ``grid(settings, estimator="estimators")`` yields one flat dictionary
    for each value of ``settings["estimators"]``, under the name ``estimator``; the other settings stay as they are."""
    fixed = {key: value for key, value in settings.items() if key not in lists.values()}
    for values in itertools.product(*(settings[key] for key in lists.values())):
        yield fixed | dict(zip(lists, values, strict=True))


RunFunction = Callable[[Mapping, Sequence[int], Record], None]  # run(settings, seeds, record) fills the record


def run(
    cell: Cell,
    folder: Path,
    experiment: RunFunction,
    *,
    fingerprint: str,
    code: Mapping[str, str] | None = None,
    data: Mapping[str, Path] | None = None,
    contents: Mapping[str, str] | None = None,
    device: str = "cpu",
    computing: Callable[[], AbstractContextManager] = nullcontext,
) -> str:
    """Compute the missing seeds of one cell and write its folder; returns the cell's status.

    The status is "done" or the worst ending of a seed: "diverged", "stalled" or "failed" (for example, out of memory). User errors
    (:class:`pudle.errors.PudleError`) and bugs are raised. Only finished seeds and saved states are then written, and the next run
    continues from them.

    code : SHA-256 of the source of each module that the cell depends on, recorded in ``cell.json``
    data : folders by name; ``cell.json`` records the SHA-256 of each file that is read from them
    contents : SHA-256 by name of the files of data as they are now; finished seeds and states that were computed from others are not used
    device : the device that was requested; ``computing()`` makes it torch's default during the computation
    """
    seeds = []
    for seed in cell.seeds:
        found = finished(cell, folder, seed, fingerprint, device, contents)
        if found is None:
            with computing():
                found = compute(cell, seed, folder, experiment, fingerprint, data, contents)
            if seed != cell.seeds[-1]:
                keep(cell, folder, seed, found, fingerprint, device, contents)
        seeds.append(found)
    return merge(cell, folder, seeds, fingerprint, code)


def compute(
    cell: Cell,
    seed: int,
    folder: Path,
    experiment: RunFunction,
    fingerprint: str,
    data: Mapping[str, Path] | None = None,
    contents: Mapping[str, str] | None = None,
) -> dict:
    """Compute one seed of a cell; returns its record and the metadata that :func:`merge` needs. Arguments as in :func:`run`.

    All rows are computed here. If the same seed was stopped before, the computation continues from its state in ``folder``.
    """
    started = _now()
    usage.reset_peak_memory()
    checkpoints = Checkpoints(
        folder, files.canonical_json([dict(cell.settings), fingerprint, provenance.device(), dict(contents or {})])
    )
    record = Record(checkpoints, first=cell.seeds[0])
    with provenance.reading(data or {}) as inputs, checkpoints.ending_on_request():
        try:
            experiment(cell.settings, (seed,), record)
        except Exception as error:
            if not out_of_memory(error):
                raise
            record.fail((seed,), f"out of memory: {error}")
    return record.state() | {
        "started": started,
        "seconds": checkpoints.seconds,
        "peak_memory_mb": usage.peak_memory_mb(),
        "inputs": inputs,
        "provenance": provenance.describe(),
    }


def keep(
    cell: Cell,
    folder: Path,
    seed: int,
    computed: Mapping,
    fingerprint: str,
    device: str = "cpu",
    contents: Mapping[str, str] | None = None,
) -> None:
    """Save a seed that :func:`compute` has finished, until the cell is merged. Arguments as in :func:`run`."""
    save(_seed_file(folder, seed), _key(cell, fingerprint, device, contents), computed)
    Path(folder, f"checkpoint-{seed}.pt").unlink(missing_ok=True)


def finished(
    cell: Cell, folder: Path, seed: int, fingerprint: str, device: str = "cpu", contents: Mapping[str, str] | None = None
) -> dict | None:
    """The saved result of a finished seed with the same settings, code, device and data; None if there is none."""
    return load(_seed_file(folder, seed), _key(cell, fingerprint, device, contents))


def merge(cell: Cell, folder: Path, seeds: Sequence[Mapping], fingerprint: str, code: Mapping[str, str] | None = None) -> str:
    """Write the folder of a cell from the results of all its ``seeds``; returns its status. Arguments as in :func:`run`."""
    folder, record = Path(folder), Record()
    for seed in seeds:
        record.extend(seed)
    outputs = {"rows.csv": lambda path: record.rows().to_csv(path, index=False)}
    if len(record.timings()):
        outputs["timings.csv"] = lambda path: record.timings().to_csv(path, index=False)
    if record.arrays:
        outputs["arrays.npz"] = record.save_arrays
    for name, save_output in outputs.items():
        files.replace(folder / name, save_output)
    for name in {"timings.csv", "arrays.npz"} - set(outputs):
        (folder / name).unlink(missing_ok=True)  # of an earlier run
    inputs: dict[str, str] = {}
    for name, digest in itertools.chain.from_iterable(seed["inputs"].items() for seed in seeds):
        inputs[name] = digest if inputs.get(name, digest) == digest else provenance.CHANGED
    description = {
        "experiment": cell.experiment,
        "id": cell.id,
        "settings": dict(cell.settings),
        "varies": list(cell.varies),
        "seeds": list(cell.seeds),
        "status": record.status,
        "endings": record.endings,
        "started": min(seed["started"] for seed in seeds),
        "ended": _now(),
        "seconds": round(sum(seed["seconds"] for seed in seeds), 3),
        "peak_memory_mb": max((seed["peak_memory_mb"] for seed in seeds if seed["peak_memory_mb"] is not None), default=None),
        "fingerprint": fingerprint,
        "code": dict(code or {}),
        "inputs": dict(sorted(inputs.items())),
        "outputs": {name: files.sha256(folder / name) for name in outputs},
        "provenance": seeds[-1]["provenance"],
    }
    files.write(folder / "cell.json", json.dumps(description, indent=1, ensure_ascii=False) + "\n")
    for pattern in ("checkpoint-*.pt", "seed-*.pt"):
        for path in folder.glob(pattern):
            path.unlink()
    files.sweep(folder)  # temporary files of a job that was killed and tried again
    return record.status


def _seed_file(folder: Path, seed: int) -> Path:
    return Path(folder, f"seed-{seed}.pt")


def _key(cell: Cell, fingerprint: str, device: str, contents: Mapping[str, str] | None) -> str:
    """A text that changes whenever a finished seed becomes invalid."""
    return files.canonical_json([dict(cell.settings), fingerprint, device, cell.seeds[0], dict(contents or {})])


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def read(folder: Path) -> dict:
    """The contents of a cell's ``cell.json``; raises :class:`PudleError` if it is damaged."""
    record = files.read_json(Path(folder, "cell.json"))
    lacking = [key for key in ("settings", "status", "endings", "started", "provenance") if key not in record]
    if lacking:
        raise PudleError(
            f"{Path(folder, 'cell.json')}: is not a record of a cell: it lacks the key {lacking[0]!r}; remove its folder"
        )
    return record
