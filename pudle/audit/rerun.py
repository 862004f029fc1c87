"""Do cells, run again, give the same rows?"""

import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

import pudle
from pudle.audit.finding import Finding
from pudle.audit.recompute import read
from pudle.audit.run import Run, name_of
from pudle.harness import cells

HOME = Path(pudle.__file__).resolve().parents[1]  # this package is run, whatever lies in the working folder
TOLERANCE = 1e-3  # of a quantity's largest absolute value: for other machines or versions
_SITES = (
    "PYTHONUSERBASE",
    "PYTHONNOUSERSITE",
)  # say where packages are; other variables of Python's are no more read than by jobs
_SAME = ("python", "packages", "platform", "processor", "threads", "blas", "device", "dtype", "deterministic")


def rerun(root: Path, count: int, seed: int, plugins: Iterable[str] | None = None) -> tuple[list[Finding], list[str]]:
    """Run ``count`` cells, picked by ``seed``, in a folder for the purpose; returns what differs, and a line about each cell.

    On the same machine with the same versions the outputs must have the same bytes, but for timings. Else the rows must agree within
    the tolerance, and the line names what is not the same. Cells that met a time limit or ran out of memory are left out.
    """
    run = Run(root, plugins)
    repeatable = [cell for cell in run.cells if run.told.get(name_of(cell), {}).get("status") in ("done", "diverged")]
    found, told = [], []
    for cell in random.Random(seed).sample(repeatable, min(count, len(repeatable))):
        with tempfile.TemporaryDirectory() as folder:
            path = os.pathsep.join(filter(None, [str(HOME), os.environ.get("PYTHONPATH")]))
            environment = {name: os.environ[name] for name in os.environ if name in _SITES or not name.startswith("PYTHON")}
            environment |= {"PUDLE_DATA": run.data, "PYTHONPATH": path, "PYTHONUTF8": "1"}
            done = subprocess.run(
                command(run, cell, folder), capture_output=True, encoding="utf-8", errors="replace", env=environment
            )
            if done.returncode:
                found.append(Finding(run.path(cell, "rows.csv"), "rerun", f"cannot be run again: {done.stderr.strip()[-300:]}"))
                continue
            again, line = _compare(run, cell, Path(folder))
        found += again
        told.append(f"{name_of(cell)}: {line}")
    return found, told


def command(run: Run, cell: cells.Cell, output: str) -> list[str]:
    """What runs a cell again, into the folder ``output``; one of a GPU on a GPU, if there is one here."""
    used = run.told[name_of(cell)]["provenance"].get("device", "cpu")
    words = ["cell", str(run.root), name_of(cell), "--device", "cpu" if used == "cpu" else "auto", "--output", output]
    named = run.config.get("plugins", [])
    if named and not run.plugins:
        words.append("--no-plugins")
    elif run.plugins != named:
        words += [f"--plugin={path}" for path in run.plugins]
    return [sys.executable, "-P", "-m", "pudle", *words]


def _compare(run: Run, cell: cells.Cell, folder: Path) -> tuple[list[Finding], str]:
    then, now = run.told[name_of(cell)], cells.read(folder)
    names = [name for name in then["outputs"] if name != "timings.csv"]
    changed = [name for name in names if now["outputs"].get(name) != then["outputs"][name]]
    if not changed:
        return [], f"{' and '.join(names)} again, byte by byte"
    other = unlike(then["provenance"], now["provenance"])
    if not other:
        return [Finding(run.path(cell, name), "rerun", "another run here gives other bytes") for name in changed], "differs"
    apart = _apart(read(run.root / run.path(cell, "rows.csv")), read(folder / "rows.csv"))
    line = f"not the same bytes, with other {', '.join(other)}; rows within {apart:.1e}"
    if apart <= TOLERANCE:
        return [], line
    return [Finding(run.path(cell, "rows.csv"), "rerun", f"{line}, which is above {TOLERANCE}")], line


def _apart(old: pd.DataFrame, new: pd.DataFrame) -> float:
    """The largest distance of two values, as a share of the largest absolute value of their quantity; infinite if other rows are there."""
    keys = [column for column in old if column != "value"]
    if list(old) != list(new) or not old[keys].equals(new[keys]):
        return float("inf")
    scale = old.value.abs().groupby(old.quantity).transform("max").clip(lower=1e-300)
    return float(((old.value - new.value).abs() / scale).max())


def unlike(then: Mapping, now: Mapping) -> list[str]:
    """What of machine, versions and threads is not the same, in words."""
    told = []
    for key in _SAME:
        old, new = then.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            told += [
                f"{name} ({old.get(name)}, now {new.get(name)})"
                for name in sorted({*old, *new})
                if old.get(name) != new.get(name)
            ]
        elif old != new and not _further_libraries(old, new):
            told.append(f"{key} ({old}, now {new})")
    return told


def _further_libraries(old: object, new: object) -> bool:
    """Whether one process had merely loaded more libraries than the other."""
    return isinstance(old, list) and isinstance(new, list) and (set(old) <= set(new) or set(new) <= set(old))
