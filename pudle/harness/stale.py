"""Does a cell that is there still agree with the plan?

``cell.json`` carries what a cell was made from, so this holds for results that were copied, moved or exported, too.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from pudle.errors import PudleError
from pudle.harness import files
from pudle.harness.cells import Cell


def reason(cell: Cell, folder: Path, fingerprint: str, device: str, differing: Callable[[Mapping[str, str]], object]) -> str:
    """Why the cell in ``folder`` must be computed again, as a noun; empty where it agrees with the plan, or is not there.

    fingerprint : of the code that would compute it now
    device : "cpu", "cuda", or "auto", which takes a result of either
    differing : which of the inputs in ``cell.json`` are others now, or were not read
    """
    if not (folder / "cell.json").exists():
        return ""
    try:
        found = files.read_json(folder / "cell.json")
        return next((what for what, same in _comparisons(cell, found, fingerprint, device, differing) if not same), "")
    except (PudleError, AttributeError, KeyError, TypeError):
        return "record"


def _comparisons(cell: Cell, found: Mapping, fingerprint: str, device: str, differing: Callable):
    yield "settings", found["settings"] == dict(cell.settings)
    yield "seeds", found["seeds"] == list(cell.seeds)
    yield "code", found["fingerprint"] == fingerprint
    yield "device", device == "auto" or (found["provenance"]["device"] == "cpu") == (device == "cpu")
    yield "inputs", found["status"] == "failed" or not differing(found["inputs"])  # one that failed may have read but some
