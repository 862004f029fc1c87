"""The files of a reference. The same run gives the same bytes.

``<cell id>.<digits>.tar.xz`` is one run of a cell: ``cell.json``, ``rows.csv`` and ``timings.csv`` as the run wrote them, and a reduced
``arrays.npz`` for the figures. The digits are the first eight of the hash of ``cell.json``. Its parts that are the same in many runs,
:data:`SHARED`, are in files of their own, ``<digits>.json``, and the archive has their digits in these places.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import lzma
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pudle.errors import PudleError
from pudle.harness.record import KEYS

NOT_RUN = "not run"  # the status of a cell that was planned for the reference and is missing there
SUFFIX = ".tar.xz"
SHARED = ("code", "inputs", "provenance")  # hashes of modules and of data, and the machine with its packages
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
    """One file of a reference: a run of one cell. ``record`` is its complete ``cell.json``, ``contents`` are its other files by name."""

    path: Path
    record: Mapping
    contents: Mapping[str, bytes]

    @property
    def commit(self) -> str:
        """The commit of the code that ran, "… with changes", or "none" outside of a checkout."""
        return commit(self.record)


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


def digits(text: str, count: int = 8) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:count]


def shared(record: Mapping) -> dict[str, tuple[str, str]]:
    """The digits and the text of each part of a ``record`` that is kept in a file of its own, by key."""
    texts = {key: as_text(record[key]) for key in SHARED if record.get(key)}
    return {key: (digits(text, 16), text) for key, text in texts.items()}


def packed(record: Mapping, contents: Mapping[str, bytes]) -> tuple[str, bytes]:
    """The name and the bytes of the archive of a run."""
    kept = {**record, **{key: name for key, (name, _) in shared(record).items()}}
    members = {**contents, "cell.json": as_text(kept).encode()}
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(members):
            entry = tarfile.TarInfo(name)
            entry.size = len(members[name])
            archive.addfile(entry, io.BytesIO(members[name]))
    return f"{record['id']}.{digits(as_text(record))}{SUFFIX}", lzma.compress(written.getvalue())


def unpacked(path: Path, part: Callable[[str], object]) -> Kept:
    """The run in the archive ``path``, where ``part`` reads the shared part with given digits.

    Raises :class:`PudleError` if the archive is damaged or belongs to another cell.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(lzma.decompress(path.read_bytes())), mode="r:") as archive:
            contents = {entry.name: file.read() for entry in archive if (file := archive.extractfile(entry))}
    except (OSError, EOFError, lzma.LZMAError, tarfile.TarError, ValueError) as error:
        raise PudleError(f"{path}: cannot be read: {error}; restore the file from git") from None
    try:
        record = json.loads(contents.pop("cell.json"))
        record |= {key: part(record[key]) for key in SHARED if record.get(key)}
        intact = set(RECORD) <= set(record) and "rows.csv" in contents
        intact &= (path.parent.name, path.name) == (record["experiment"], f"{record['id']}.{digits(as_text(record))}{SUFFIX}")
    except PudleError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError):
        intact = False
    if not intact:
        raise PudleError(
            f"{path}: its cell.json, or a shared part of it, is damaged or belongs to another cell; restore the files from git"
        )
    return Kept(path, record, contents)


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
