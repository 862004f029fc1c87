"""Cells and reference results for tests."""

import json

import numpy as np
import yaml
from workflows import ROOT

from pudle.harness import cells, files
from pudle.harness.cells import Cell
from pudle.harness.reference import Reference

SETTINGS = {"lam": 0.2, "estimator": "dec"}
PAPER = ROOT / "config" / "paper.yaml"


def cell(*seeds, **changes) -> Cell:
    """A cell of the experiment ``learning`` with these seeds and changed settings."""
    return Cell("learning", SETTINGS | changes, seeds, ("lam",))


def compute(cell: Cell, folder, commit="a" * 40, ended="2026-01-01T00:00:00Z", shift=0.0, label=None):
    """A cell with three rows and two timings a seed, and one array."""

    def run(settings, seeds, record):
        for seed in seeds:
            with record.seed(seed):
                for step in range(3):
                    record.add(step, {"error": seed + step / 3 + shift}, **({"kind": label} if label else {}))
                record.time(1, 0.5)
                record.array("filters", np.full((2, 2), seed + 0.1))

    cells.run(cell, folder, run, fingerprint="f")
    record = json.loads((folder / "cell.json").read_text())
    record["provenance"]["git"] = {"commit": commit, "clean": True}
    files.write(folder / "cell.json", json.dumps(record | {"ended": ended}))
    return folder


def keep(folder, *computed) -> Reference:
    """Reference results in ``folder`` with the cells of the folders ``computed``."""
    kept = Reference(folder)
    for path in computed:
        kept.update([(path, None)])
    return kept


def merged(overlay) -> dict:
    """The default configuration with the changes of the file ``overlay``."""
    from pudle.cli.reference_commands import _merged

    return _merged(yaml.safe_load((ROOT / "config" / "config.yaml").read_text()), yaml.safe_load(overlay.read_text()))
