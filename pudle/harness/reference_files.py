"""One file of a reference: a run of one cell as a zip archive. The same run gives the same bytes.

The archive contains ``cell.json`` and ``rows.csv`` as the run wrote them, ``timings.csv``, and a reduced ``arrays.npz`` for the
figures. Its name consists of the cell's id and eight digits of the hash of ``cell.json``.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pudle.errors import PudleError
from pudle.harness.record import KEYS

NOT_RUN = "not run"  # the status of a cell that was planned for the reference and is missing there
DATE = (1980, 1, 1, 0, 0, 0)  # the same run makes the same file
RECORD = (
    "experiment",
    "id",
    "settings",
    "varies",
    "seeds",
    "status",
    "endings",
    "ended",
    "fingerprint",
    "outputs",
    "provenance",
)


@dataclass(frozen=True)
class Kept:
    """One file of a reference: a run of one cell. ``record`` is its ``cell.json``."""

    path: Path
    record: Mapping

    @property
    def commit(self) -> str:
        """The commit of the code that ran, "… with changes", or "none" outside of a checkout."""
        return commit(self.record)

    def read(self, name: str) -> bytes:
        return read_member(self.path, name)


def commit(record: Mapping) -> str:
    """The commit of the code that a cell ran with, followed by "with changes" if there were any; "none" outside of a checkout."""
    git = record["provenance"].get("git") or {"commit": "none", "clean": True}
    return f"{git['commit']}{'' if git['clean'] else ' with changes'}"


def short(name: str) -> str:
    """A commit, cut to eight digits."""
    digits, _, changes = name.partition(" ")
    return f"{digits[:8]} {changes}".strip()


def smaller(content: bytes, seed: int, small: Callable | None) -> bytes:
    """The arrays of the cell's first ``seed`` in ``arrays.npz``, which figures show, reduced by ``small``."""
    import numpy as np

    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files if name.endswith(f"/{seed}")}
    written = io.BytesIO()
    np.savez_compressed(written, **(small(arrays) if small else arrays))
    return written.getvalue()


def as_picture(array, crop: int | None = None):
    """The middle ``crop`` x ``crop`` pixels of an array whose last two axes are pixels, rounded to 1/255 of the largest value."""
    import numpy as np

    height, width = array.shape[-2:]
    top, left = ((size - min(size, crop or size)) // 2 for size in (height, width))
    part = array[..., top : height - top, left : width - left].astype(np.float32)
    unit = max(float(np.abs(part).max(initial=0.0)), 1e-30) / 255
    return (np.round(part / unit) * unit).astype(np.float16)


def as_text(value: object, indent: int | None = 1) -> str:
    return json.dumps(value, indent=indent, ensure_ascii=False) + "\n"


def digits(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def read_record(path: Path) -> dict:
    content = read_member(path, "cell.json")
    try:
        record = json.loads(content)
        complete = set(RECORD) <= set(record)
    except (ValueError, TypeError):
        complete = False
    if not complete or f"{record['id']}.{digits(as_text(record))}" != path.stem or record["experiment"] != path.parent.name:
        raise PudleError(f"{path}: its cell.json is damaged or belongs to another cell; restore the file from git")
    return record


def read_member(path: Path, name: str) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(name)
    except (zipfile.BadZipFile, OSError, KeyError, ValueError, NotImplementedError, RuntimeError) as error:
        raise PudleError(f"{path}: cannot be read: {error}; restore the file from git") from None


def zipped(contents: Mapping[str, bytes]) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name in sorted(contents):
            entry = zipfile.ZipInfo(name, DATE)
            entry.compress_type, entry.external_attr, entry.create_system = zipfile.ZIP_DEFLATED, 0o644 << 16, 3
            archive.writestr(entry, contents[name], compresslevel=9)
    return written.getvalue()


def joined(parts: Sequence[tuple[bytes, tuple[int, ...], Kept]]) -> bytes:
    """The lines of the given seeds of several CSV files under one header. A single file with all of its seeds stays unchanged."""
    if len(parts) == 1 and set(parts[0][1]) == set(parts[0][2].record["seeds"]):
        return parts[0][0]
    chosen = [of_seeds(content, seeds) for content, seeds, _ in parts]
    labels = list(dict.fromkeys(column for lines in chosen for line in lines for column in line if column not in KEYS))
    written = io.StringIO()
    table = csv.DictWriter(written, [*labels, *KEYS], restval="", lineterminator="\n")
    table.writeheader()
    for lines in chosen:
        table.writerows(lines)
    return written.getvalue().encode()


def of_seeds(content: bytes, seeds: Iterable[int]) -> list[dict[str, str]]:
    wanted = set(map(str, seeds))
    return [line for line in csv.DictReader(io.StringIO(content.decode())) if line["seed"] in wanted]


def checked(folder: Path, record: Mapping) -> dict[str, bytes]:
    """The files of a cell; raises :class:`PudleError` if one differs from what the cell wrote."""
    contents = {}
    for name, digest in record["outputs"].items():
        try:
            contents[name] = (folder / name).read_bytes()
        except OSError as error:
            raise PudleError(f"{folder / name}: cannot be read: {error.strerror}; nothing was added") from None
        if hashlib.sha256(contents[name]).hexdigest() != digest:
            raise PudleError(
                f"{folder / name}: is not the file that the cell wrote, according to its cell.json; nothing was added"
            )
    return contents


def as_seeds(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, seeds))
