"""Outputs appear whole or not at all: everything is written beside its place and then renamed."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # a cell of a spreadsheet that begins with one of them is computed


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
            error.filename = str(path)  # a full disk does not say what it had no room for
        raise
    finally:
        temporary.unlink(missing_ok=True)


def sweep(root: Path) -> None:
    """Remove what killed processes left half-written under ``root``."""
    for leftover in Path(root).rglob(".*.partial*"):
        leftover.unlink(missing_ok=True)


def canonical_json(value: object) -> str:
    """One text for one value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256(path: Path) -> str:
    """Hash of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
