"""Does an existing cell still agree with the plan?

``cell.json`` records the inputs of a cell, so that the comparison also works for results that were copied, moved or exported.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from pudle.errors import PudleError
from pudle.harness import files
from pudle.harness.cells import Cell
from pudle.harness.reference import is_taken


def reason(cell: Cell, folder: Path, fingerprint: str, device: str, differing: Callable[[Mapping[str, str]], object]) -> str:
    """The part that changed, as a noun, if the cell in ``folder`` must be computed again; empty if it agrees with the plan or is missing.

    A cell that was taken from reference results was not computed here, and has the reason "origin".

    fingerprint : that of the code that would compute the cell now
    device : "cpu", "cuda", or "auto", which accepts a result of either
    differing : returns the inputs in ``cell.json`` that have changed or were not read
    """
    if not (folder / "cell.json").exists():
        return ""
    try:
        found = files.read_json(folder / "cell.json")
        return next((what for what, same in _comparisons(cell, found, fingerprint, device, differing) if not same), "")
    except (PudleError, AttributeError, KeyError, TypeError):
        return "record"


def _comparisons(cell: Cell, found: Mapping, fingerprint: str, device: str, differing: Callable):
    yield "origin", not is_taken(found)
    yield "settings", found["settings"] == dict(cell.settings)
    yield "grid", found["varies"] == list(cell.varies)
    yield "seeds", found["seeds"] == list(cell.seeds)
    yield "code", found["fingerprint"] == fingerprint
    yield "device", device == "auto" or (found["provenance"]["device"] == "cpu") == (device == "cpu")
    # a failed cell may have read only some of its inputs
    yield "inputs", found["status"] == "failed" or not differing(found["inputs"])
