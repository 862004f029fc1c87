"""Reference results: a folder of finished cells that a run takes instead of computing them.

``<folder>/cells/<experiment>/<cell id>.<digits>.tar.xz`` is one run of a cell, and ``<folder>/shared/<digits>.json`` a part of the records
of runs (:mod:`pudle.harness.reference_files`). A cell may have several such files, from several machines and seeds; for each seed the run
that ended last counts. ``<folder>/planned.json`` lists the cells and seeds that the reference should contain. Planned cells that are
missing are listed as *not run*, and are not computed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from pudle.errors import PudleError
from pudle.harness import files
from pudle.harness.cells import Cell
from pudle.harness.record import ENDINGS
from pudle.harness.reference_files import (
    NOT_RUN,
    RECORD,
    SUFFIX,
    Kept,
    as_seeds,
    as_text,
    checked,
    commit,
    joined,
    of_seeds,
    packed,
    shared,
    short,
    smaller,
    unpacked,
)
from pudle.harness.reference_readme import readme

PLANNED, README, CELLS, PARTS = "planned.json", "README.md", "cells", "shared"
LARGEST, LARGEST_SUM = 1_000_000, 8_000_000  # bytes of one file, and of all
_CONTENTS = ("rows.csv", "timings.csv", "arrays.npz")


def find(value: str | None, home: Path) -> Reference | None:
    """The reference in the folder ``value``, the configuration's ``reference``; None for None.

    The path is relative to the working directory or, if the folder does not exist there, to ``home``, the checkout. Raises
    :class:`PudleError` if it exists in neither.
    """
    if value is None:
        return None
    asked = Path(os.path.expanduser(value))
    found = next((path for path in (asked, Path(home, asked)) if os.path.isdir(path)), None)
    if found is None:
        raise PudleError(
            f"'reference' is {value!r}: there is no such folder in {Path.cwd()} or {home}; null computes every cell here"
        )
    return Reference(found, str(value))


@dataclass(frozen=True)
class Offer:
    """The results that replace the computation of a planned ``cell``: the seeds of each of ``parts``, and the seeds ``not_run``."""

    cell: Cell
    parts: tuple[tuple[Kept, tuple[int, ...]], ...] = ()
    not_run: tuple[int, ...] = ()
    reason: str = "not in the reference results"
    name: str = ""  # of the reference

    def origin(self) -> dict:
        """The value of ``taken_from`` in the cell's record."""
        runs = [
            {
                "file": f"{kept.path.parent.name}/{kept.path.name}",
                "sha256": files.sha256(kept.path),
                "commit": kept.commit,
                "seeds": list(seeds),
            }
            for kept, seeds in self.parts
        ]
        return {"reference": self.name, "runs": runs} | ({} if runs else {"reason": self.reason})

    @property
    def planned(self) -> dict:
        """The keys of the cell's record that follow from the plan and the reference."""
        return {
            "experiment": self.cell.experiment,
            "id": self.cell.id,
            "settings": dict(self.cell.settings),
            "varies": list(self.cell.varies),
            "seeds": [seed for seed in self.cell.seeds if seed not in self.not_run],
            "not_run": list(self.not_run),
            "taken_from": self.origin(),
        }

    def record(self, outputs: Mapping[str, str]) -> dict:
        """The cell's ``cell.json``."""
        if not self.parts:
            nothing = {"status": NOT_RUN, "endings": [], "started": "", "ended": "", "fingerprint": ""}
            return self.planned | nothing | {"code": {}, "inputs": {}, "outputs": dict(outputs), "provenance": {}}
        records = [kept.record for kept, _ in self.parts]
        newest = max(records, key=lambda record: record["ended"])
        endings = [ending for kept, seeds in self.parts for ending in kept.record["endings"] if ending["seed"] in seeds]
        return self.planned | {
            "status": max((ending["status"] for ending in endings), key=ENDINGS.index, default="done"),
            "endings": endings,
            "started": min(record["started"] for record in records),
            "ended": newest["ended"],
            "seconds": round(sum(record.get("seconds", 0) for record in records), 3),
            "peak_memory_mb": max(
                (one for record in records if (one := record.get("peak_memory_mb")) is not None), default=None
            ),
            "fingerprint": newest["fingerprint"],
            "code": newest["code"],
            "inputs": newest["inputs"],
            "outputs": dict(outputs),
            "provenance": newest["provenance"],
        }

    def contents(self) -> dict[str, bytes]:
        """The cell's files, without ``cell.json``."""
        tables = {
            name: [(kept.contents[name], seeds, kept) for kept, seeds in self.parts if name in kept.contents]
            for name in ("rows.csv", "timings.csv")
        }
        found = {name: joined(parts) for name, parts in tables.items() if parts or name == "rows.csv"}
        for kept, seeds in self.parts:
            if self.cell.seeds[0] in seeds and "arrays.npz" in kept.contents:
                found["arrays.npz"] = kept.contents["arrays.npz"]
        return found

    def is_written(self, folder: Path) -> bool:
        """Whether the cell in ``folder`` was written from this offer."""
        try:
            found = files.read_json(Path(folder, "cell.json"))
        except PudleError:
            return False
        return all(found.get(key) == value for key, value in self.planned.items())

    def write(self, folder: Path) -> None:
        """Write the cell's folder, ``cell.json`` last."""
        contents = self.contents()
        for name, content in contents.items():
            files.write(Path(folder, name), content)
        for name in set(_CONTENTS) - set(contents):
            Path(folder, name).unlink(missing_ok=True)  # of an earlier run
        outputs = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
        files.write(Path(folder, "cell.json"), as_text(self.record(outputs)))


class Reference:
    """The reference results in ``folder``; ``name`` is its name in the configuration."""

    def __init__(self, folder: Path, name: str = ""):
        self.folder, self.name = Path(folder), name or str(folder)

    @cached_property
    def planned(self) -> dict[str, dict[str, list[int]]]:
        """experiment → cell id → seeds that the reference should contain; raises :class:`PudleError` if the file is damaged."""
        path = self.folder / PLANNED
        found = files.read_json(path) if path.exists() else {}
        if not all(isinstance(ids, dict) and all(isinstance(seeds, list) for seeds in ids.values()) for ids in found.values()):
            raise PudleError(f"{path}: does not list cells with their seeds; write it again with `pudle reference plan`")
        return found

    @cached_property
    def kept(self) -> dict[str, list[Kept]]:
        """experiment/id → the runs of the cell, newest first."""
        found: dict[str, list[Kept]] = {}
        part = cache(self._part)
        for path in self._paths(CELLS):
            kept = unpacked(path, part)
            found.setdefault(f"{kept.record['experiment']}/{kept.record['id']}", []).append(kept)
        return {name: sorted(runs, key=lambda kept: kept.record["ended"], reverse=True) for name, runs in found.items()}

    def offer(self, cell: Cell) -> Offer | None:
        """The offer for ``cell``; None if the cell must be computed.

        Each seed must either be in the reference with the same settings, or be planned for the reference and missing.
        """
        name = f"{cell.experiment}/{cell.id}"
        parts: list[tuple[Kept, tuple[int, ...]]] = []
        left = list(cell.seeds)
        for kept in self.kept.get(name, []):
            seeds = tuple(seed for seed in left if seed in kept.record["seeds"])
            if seeds and kept.record["settings"] == dict(cell.settings):
                parts.append((kept, seeds))
                left = [seed for seed in left if seed not in seeds]
        if not set(left) <= set(self._seeds(name)):
            return None
        return Offer(cell, tuple(parts), tuple(left), name=self.name)

    def not_run(self) -> Iterator[tuple[str, str, list[int]]]:
        """Experiment, cell id and missing seeds of each planned cell that lacks some."""
        for experiment, ids in sorted(self.planned.items()):
            for cell, seeds in ids.items():
                there = {seed for kept in self.kept.get(f"{experiment}/{cell}", []) for seed in kept.record["seeds"]}
                if left := [seed for seed in seeds if seed not in there]:
                    yield experiment, cell, left

    def unplanned(self) -> list[str]:
        """The cells of the reference that are not planned, as experiment/id."""
        return [name for name in self.kept if not self._seeds(name)]

    def update(self, found: Iterable[tuple[Path, Callable | None]]) -> list[str]:
        """Add the finished cells in the folders ``found``, each with a function that reduces its arrays; returns a line for each cell.

        For each seed a new run takes the place of older ones. A function that reduces arrays means that they are a gallery, which is kept for
        the first planned seed alone. Raises :class:`PudleError`, and writes nothing, if two results of the same cell, seed and commit
        differ, if a file differs from what its cell wrote, or if the files are too large.
        """
        lines: list[str] = []
        new: dict[Path, bytes] = {}
        for folder, small in found:
            record = files.read_json(folder / "cell.json")
            name = f"{record['experiment']}/{record['id']}"
            contents = checked(folder, record)
            if self._is_there(name, record, contents["rows.csv"]):
                lines.append(f"{name}: is already in the reference")
                continue
            first = next(iter(self._seeds(name)), record["seeds"][0]) if small else record["seeds"][0]
            if first not in record["seeds"]:
                contents.pop("arrays.npz", None)
            elif "arrays.npz" in contents:
                contents["arrays.npz"] = smaller(contents["arrays.npz"], first, small)
            file, content = packed(record, contents)
            if len(content) > LARGEST:
                raise PudleError(f"{folder}: takes {len(content)} bytes in the reference, more than {LARGEST}")
            new |= {self._part_file(part): text.encode() for part, text in shared(record).values()}
            new[self.folder / CELLS / record["experiment"] / file] = content
            lines.append(f"{name}: seeds {as_seeds(record['seeds'])}, {record['status']}, {len(content)} bytes")
        total = self.size(leave_out=new) + sum(map(len, new.values()))
        if total > LARGEST_SUM:
            raise PudleError(f"{self.folder}: would hold {total} bytes, more than {LARGEST_SUM}; nothing was added")
        for path, content in new.items():
            files.write(path, content)
        self._forget()
        for path in self._superseded():
            path.unlink()
        self._forget()
        self.describe()
        return lines

    def prune(self) -> list[str]:
        """Remove all cells that are not planned, and shared parts that no cell needs; returns the cells' names as experiment/id."""
        gone = self.unplanned()
        for name in gone:
            for kept in self.kept[name]:
                kept.path.unlink()
        self._forget()
        records = [kept.record for runs in self.kept.values() for kept in runs]
        needed = {self._part_file(part) for record in records for part, _ in shared(record).values()}
        for path in set(self._paths(PARTS)) - needed:
            path.unlink()
        self.describe()
        return gone

    def plan(self, cells: Iterable[Cell]) -> None:
        """Write the list of cells and seeds that the reference should contain."""
        planned: dict[str, dict[str, list[int]]] = {}
        for cell in cells:
            planned.setdefault(cell.experiment, {})[cell.id] = list(cell.seeds)
        files.write(self.folder / PLANNED, as_text(planned, indent=None).replace("}, ", "},\n ").replace("], ", "],\n  "))
        self._forget()
        self.describe()

    def describe(self) -> None:
        """Write the README."""
        files.write(self.folder / README, readme(self))

    def size(self, leave_out: Container[Path] = ()) -> int:
        """Bytes of the files of all cells, and of the parts that they share."""
        paths = self._paths(CELLS) + self._paths(PARTS)
        return sum(path.stat().st_size for path in paths if path not in leave_out)

    def _paths(self, folder: str) -> list[Path]:
        """The files of cells or of shared parts, without those that are being written."""
        found = (self.folder / folder).glob(f"*/*{SUFFIX}" if folder == CELLS else "*.json")
        return sorted(path for path in found if not path.name.startswith("."))

    def _part_file(self, digits: str) -> Path:
        return self.folder / PARTS / f"{digits}.json"

    def _part(self, digits: str) -> dict:
        try:
            return files.read_json(self._part_file(digits))
        except PudleError:
            raise PudleError(f"{self._part_file(digits)}: is missing or damaged; restore the file from git") from None

    def _seeds(self, name: str) -> list[int]:
        """The planned seeds of a cell, given as experiment/id."""
        experiment, cell = name.split("/", 1)
        return self.planned.get(experiment, {}).get(cell, [])

    def _is_there(self, name: str, record: Mapping, rows: bytes) -> bool:
        """Whether the reference already has all seeds of a new run, with the same rows, from the same commit and code.

        Raises :class:`PudleError` if the rows differ.
        """
        same = set()
        for kept in self.kept.get(name, []):
            if (kept.commit, kept.record["fingerprint"]) != (commit(record), record["fingerprint"]):
                continue
            for seed in set(record["seeds"]) & set(kept.record["seeds"]):
                if of_seeds(rows, [seed]) != of_seeds(kept.contents["rows.csv"], [seed]):
                    raise PudleError(
                        f"{kept.path}: has a different result of {name}, seed {seed}, from the same commit ({kept.commit}): one of them is "
                        "wrong, or from another machine; remove the file to use the new one. Nothing was added"
                    )
                same.add(seed)
        return same >= set(record["seeds"])

    def _superseded(self) -> Iterator[Path]:
        """Files whose seeds are all in newer files."""
        for runs in self.kept.values():
            seen: set[int] = set()
            for kept in runs:
                if set(kept.record["seeds"]) <= seen:
                    yield kept.path
                seen |= set(kept.record["seeds"])

    def _forget(self) -> None:
        for name in ("planned", "kept"):
            self.__dict__.pop(name, None)


def settle(
    cells: Iterable[Cell], reference: Reference | None, computed: Callable[[Cell], bool], missing: Callable[[Cell], str]
) -> dict[str, Offer]:
    """The offers for those ``cells`` that are written from the reference instead of being computed, by experiment/id.

    computed : whether a cell was computed here and agrees with the plan; such a cell is kept
    missing : the data set that a cell needs and that is missing here, or ""; with a reference, such a cell is left as not run
    """
    if reference is None:
        return {}
    offers = {}
    for cell in cells:
        if computed(cell):
            continue
        offer = reference.offer(cell)
        if offer is None and (lacking := missing(cell)):
            offer = Offer(cell, (), tuple(cell.seeds), f"data set {lacking!r} is not here", reference.name)
        if offer is not None:
            offers[f"{cell.experiment}/{cell.id}"] = offer
    return offers


def finished(path: Path) -> dict | None:
    """The ``cell.json`` at ``path`` of a computed cell; None for a cell that was taken or left as not run.

    Raises :class:`PudleError` if the record is incomplete or contradicts its folder.
    """
    record = files.read_json(path)
    if is_taken(record):
        return None
    lacking = next((key for key in RECORD if key not in record), None)
    if lacking:
        raise PudleError(f"{path}: is not a record of a cell: it lacks the key {lacking!r}; nothing was added")
    made = Cell(record["experiment"], record["settings"], tuple(record["seeds"]), tuple(record["varies"]))
    if (made.experiment, made.id) != (path.parents[1].name, path.parent.name) or made.id != record["id"]:
        raise PudleError(
            f"{path}: its settings have the id {made.experiment}/{made.id}, which differs from that of its folder; nothing was added"
        )
    return record


def is_taken(record: Mapping) -> bool:
    """Whether ``cell.json`` says that the cell was taken from a reference, or left as not run."""
    return "taken_from" in record


def was_run(record: Mapping) -> bool:
    return record.get("status") != NOT_RUN


def origin(record: Mapping) -> str:
    """ "here", "not run", or the commits that computed a taken cell, eight digits each."""
    if not was_run(record):
        return NOT_RUN
    if not is_taken(record):
        return "here"
    return " ".join(dict.fromkeys(f"reference {short(run['commit'])}" for run in record["taken_from"]["runs"]))


def remark(record: Mapping) -> str:
    """The seeds of a cell that were not run, for its line in a table; empty if all seeds were run."""
    if not was_run(record):
        return f"{NOT_RUN}: {record['taken_from'].get('reason', '')}"
    return f"seeds {as_seeds(record['not_run'])}: {NOT_RUN}" if record.get("not_run") else ""
