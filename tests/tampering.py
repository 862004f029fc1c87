"""Edits of the files of a finished run, for the tests of the audit."""

import json
from pathlib import Path

import pandas as pd

CELL = "cells/robustness/variant-batch-4__method_name-pudle-dec__"


def cell_file(root: Path, name: str) -> Path:
    (path,) = root.glob(f"{CELL}*/{name}")
    return path


def edit_csv(change):
    """Change a CSV file as a table."""

    def edit(path: Path) -> None:
        table = pd.read_csv(path, keep_default_na=False)
        change(table).to_csv(path, index=False)

    return edit


def scale(column: str, row: int = 1, factor: float = 1 + 1e-6):
    def change(table: pd.DataFrame) -> pd.DataFrame:
        table[column] = pd.to_numeric(table[column])
        table.loc[row, column] *= factor
        return table

    return edit_csv(change)


def edit_json(**changes):
    return lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | changes, indent=1, ensure_ascii=False) + "\n")


def edit_text(old: str, new: str, times: int = 1):
    def edit(path: Path) -> None:
        assert old in path.read_text(encoding="utf-8")
        path.write_text(path.read_text(encoding="utf-8").replace(old, new, times), encoding="utf-8")

    return edit
