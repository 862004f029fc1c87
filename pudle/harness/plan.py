"""The plan of a run, ``plan.json``: a JSON list of all its cells, each with its experiment, id, settings, seeds and varying settings.

The rule ``configuration`` of the workflow writes it beside ``config.json``, from which it follows. Cells, and all stages that read their
results, take the cells from it.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from pudle.errors import PudleError
from pudle.harness.cells import Cell

PLAN = "plan.json"


def text(planned: Iterable[Cell]) -> str:
    """The contents of ``plan.json``, with one line for each cell."""
    return "[\n" + ",\n".join(json.dumps(described(cell), ensure_ascii=False) for cell in planned) + "\n]\n"


def described(cell: Cell) -> dict[str, object]:
    """A cell as JSON values."""
    return {
        "experiment": cell.experiment,
        "id": cell.id,
        "settings": dict(cell.settings),
        "seeds": list(cell.seeds),
        "varies": list(cell.varies),
    }


def read(root: Path) -> list[Cell]:
    """The cells of the run in the folder ``root``, in the order of ``plan.json``.

    Raises :class:`PudleError` if the file is missing or damaged, or if an id or a list of seeds contradicts the rest of its cell.
    """
    path = Path(root, PLAN)
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(entries, list):
            raise TypeError("no list")
        planned = [
            Cell(entry["experiment"], entry["settings"], tuple(entry["seeds"]), tuple(entry["varies"])) for entry in entries
        ]
        differing = next((entry["id"] for entry, cell in zip(entries, planned, strict=True) if entry != described(cell)), None)
    except FileNotFoundError:
        raise PudleError(f"{path}: not found; run `snakemake`, which writes it") from None
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise PudleError(
            f"{path}: not a list of cells: {type(error).__name__}: {error}; run `snakemake`, which writes it"
        ) from None
    if differing is not None:
        raise PudleError(
            f"{path}: the cell {differing!r} contradicts its settings; run `snakemake`, which writes the file again"
        )
    return planned
