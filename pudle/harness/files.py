"""Outputs appear completely or not at all: each file is written beside its place and then renamed. Damaged inputs raise a clear error."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pudle.errors import PudleError

if TYPE_CHECKING:
    import pandas as pd

_REMEDY = "remove it and run `snakemake` again"
FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # spreadsheets compute a cell that begins with one of these


def write(path: Path, content: str | bytes) -> None:
    """Write text or bytes to ``path``."""
    data = content.encode() if isinstance(content, str) else content
    replace(path, lambda temporary: temporary.write_bytes(data))


def replace(path: Path, save: Callable[[Path], object]) -> None:
    """Let ``save`` write a temporary file with the suffix of ``path``, then move it there in one step."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        save(temporary)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)  # the error of a full disk does not name the file
        raise
    finally:
        temporary.unlink(missing_ok=True)


def sweep(root: Path) -> None:
    """Remove incomplete files that killed processes left under ``root``."""
    for leftover in Path(root).rglob(".*.partial*"):
        leftover.unlink(missing_ok=True)


def canonical_json(value: object) -> str:
    """One text for one value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256(path: Path) -> str:
    """Hash of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def holds(path: str | Path, content: str) -> bool:
    """Whether the text file ``path`` exists and has exactly this content."""
    try:
        return Path(path).read_text(encoding="utf-8") == content
    except (OSError, ValueError):
        return False


def read_json(path: Path) -> dict:
    """The object in a JSON file; raises :class:`PudleError` if there is none."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PudleError(f"{path}: not found; is this the folder of a finished run, such as results/default?") from None
    except (OSError, ValueError, RecursionError) as error:
        raise PudleError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise PudleError(f"{path}: does not contain a JSON object")
    return content


def read_csv(path: Path, columns: Iterable[str] = (), **options) -> pd.DataFrame:
    """A CSV file with at least these ``columns``, read by pandas with ``options``; raises :class:`PudleError` if it is missing or damaged."""
    import pandas as pd

    try:
        table = pd.read_csv(path, **options)
    except FileNotFoundError:
        raise PudleError(f"{path}: missing; run `snakemake` first") from None
    except (OSError, ValueError) as error:  # pandas' own are ValueErrors
        raise PudleError(f"{path}: cannot be read as a table: {' '.join(str(error).split())[:200]}; {_REMEDY}") from None
    lacking = [column for column in columns if column not in table]
    if lacking:
        raise PudleError(f"{path}: damaged, or not a file of pudle: it lacks the column {lacking[0]!r}; {_REMEDY}")
    return table
