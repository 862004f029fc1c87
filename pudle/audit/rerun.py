"""Do cells give the same rows when they run again?"""

import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd
from tqdm import tqdm

import pudle
from pudle import experiments
from pudle.audit.finding import Finding
from pudle.audit.recompute import read
from pudle.audit.run import Run, name_of
from pudle.data import catalogue
from pudle.harness import cells, files, plan, reference
from pudle.harness.cells import Cell

HOME = Path(pudle.__file__).resolve().parents[1]  # run this package, even if the working folder contains another one
TOLERANCE = 1e-3  # of a quantity's largest absolute value: for other machines or versions
# Relative distances ‖a − b‖ / ‖a‖ of two results that are equal in theory. Rounding changes them by a share of a, that is, of 1.
DISTANCES = ("output_gap",)
_SITES = (
    "PYTHONUSERBASE",
    "PYTHONNOUSERSITE",
)  # locations of packages; other variables of Python are ignored, as by jobs
_SAME = ("python", "packages", "platform", "processor", "threads", "blas", "device", "dtype", "deterministic")


def rerun(
    root: Path, count: int, seed: int, plugins: Iterable[str] | None = None, budget: float | None = None
) -> tuple[list[Finding], list[str]]:
    """Run ``count`` random cells, chosen by ``seed``, in a temporary folder; returns the findings and a line about each cell.

    On the same machine with the same versions the outputs must be identical byte by byte, except for timings. Otherwise the rows must
    agree within the tolerance, and the line names the differences. Cells that reached a time limit or ran out of memory are left out.

    budget : largest number of seconds that the chosen cells took together when they were first computed; unlimited unless given
    """
    run = Run(root, plugins)
    found, lines = [], []
    chosen = pick(run, count, seed, budget)
    if len(chosen) < count:
        lines.append(
            f"{len(chosen)} cells are run again instead of {count}: no others can be run here{'' if budget is None else ' within the budget'}"
        )
    for cell in tqdm(chosen, desc="cells run again", unit="cell", disable=None):  # on a terminal only
        with tempfile.TemporaryDirectory() as folder:
            path = os.pathsep.join([str(HOME), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))])
            environment = {name: os.environ[name] for name in os.environ if name in _SITES or not name.startswith("PYTHON")}
            environment |= {"PUDLE_DATA": run.data, "PYTHONPATH": path, "PYTHONUTF8": "1"}
            words = command(run, cell, folder, _planned(run, cell, Path(folder)))
            done = subprocess.run(
                words,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                env=environment,
            )
            if done.returncode:
                found.append(Finding(run.path(cell, "rows.csv"), "rerun", f"cannot be run again: {done.stderr.strip()[-300:]}"))
                continue
            again, line = _compare(run, cell, Path(folder))
        found += again
        lines.append(f"{name_of(cell)}: {line}")
    return found, lines


def pick(run: Run, count: int, seed: int, budget: float | None = None) -> list[Cell]:
    """At most ``count`` cells that can be run again, chosen at random by ``seed``.

    Cells that do not fit into the rest of the ``budget`` (seconds) are skipped, and so are taken cells whose data sets are missing here, and
    those that were computed on a GPU if there is none here: a processor takes much longer.
    """
    chosen: list[Cell] = []
    left = float("inf") if budget is None else budget
    repeatable = [cell for cell in run.cells if run.records.get(name_of(cell), {}).get("status") in ("done", "diverged")]
    for cell in random.Random(seed).sample(repeatable, len(repeatable)):
        record = run.records[name_of(cell)]
        seconds = 0 if budget is None else record.get("seconds", 0)
        if (
            len(chosen) < count
            and seconds <= left
            and not (reference.is_taken(record) and (_lacks_data(run, cell) or _lacks_gpu(record)))
        ):
            chosen.append(cell)
            left -= seconds
    return chosen


def _lacks_gpu(record: dict) -> bool:
    if record["provenance"].get("device", "cpu") == "cpu":
        return False
    import torch

    return not torch.cuda.is_available()


def _lacks_data(run: Run, cell: Cell) -> bool:
    return not all(catalogue.is_there(name, Path(run.data)) for name in experiments.data_sets(cell))


def _planned(run: Run, cell: Cell, folder: Path) -> Path:
    """The folder of the run; for a taken cell with some of its seeds, one in ``folder`` whose plan has the cell with these seeds only."""
    seeds = tuple(run.records[name_of(cell)]["seeds"])
    if seeds == cell.seeds:
        return run.root
    files.write(folder / "plan" / "config.json", files.canonical_json(run.config))
    files.write(folder / "plan" / plan.PLAN, plan.text([replace(cell, seeds=seeds)]))
    return folder / "plan"


def command(run: Run, cell: Cell, output: str, root: Path | None = None) -> list[str]:
    """The command that runs a cell again and writes into the folder ``output``. A cell of a GPU runs on a GPU if there is one here.

    root : the folder whose ``plan.json`` has the cell; that of the run unless given
    """
    used = run.records[name_of(cell)]["provenance"].get("device", "cpu")
    words = ["cell", str(root or run.root), name_of(cell), "--device", "cpu" if used == "cpu" else "auto", "--output", output]
    named = run.config.get("plugins", [])
    if named and not run.plugins:
        words.append("--no-plugins")
    elif run.plugins != named:
        words += [f"--plugin={path}" for path in run.plugins]
    return [sys.executable, "-P", "-m", "pudle", *words]


def _compare(run: Run, cell: Cell, folder: Path) -> tuple[list[Finding], str]:
    then, now = run.records[name_of(cell)], cells.read(folder)
    taken = reference.is_taken(then)
    names = [
        name for name in then["outputs"] if name == "rows.csv" or not (taken or name == "timings.csv")
    ]  # the arrays of a taken cell are reduced
    changed = [name for name in names if now["outputs"].get(name) != then["outputs"][name]]
    if not changed:
        return [], f"{' and '.join(names)} again, byte by byte"
    other = environment_changes(then["provenance"], now["provenance"])
    if taken and then["fingerprint"] != experiments.fingerprint(cell):
        other.append(f"code ({reference.origin(then)}, now {experiments.fingerprint(cell)})")
    if not other:
        return [Finding(run.path(cell, name), "rerun", "another run here gives other bytes") for name in changed], "differs"
    apart = _apart(read(run.root / run.path(cell, "rows.csv")), read(folder / "rows.csv"))
    line = f"other bytes, with a different {', '.join(other)}; rows within {apart:.1e}"
    if apart <= TOLERANCE:
        return [], line
    return [Finding(run.path(cell, "rows.csv"), "rerun", f"{line}, which is above {TOLERANCE}")], line


def _apart(old: pd.DataFrame, new: pd.DataFrame) -> float:
    """The largest distance between two values, relative to the largest absolute value of their quantity; infinite if the rows differ.

    For :data:`DISTANCES` it is relative to 1 if the largest is smaller.
    """
    keys = [column for column in old if column != "value"]
    if list(old) != list(new) or len(old) != len(new):
        return float("inf")
    old, new = (frame.sort_values(keys, kind="stable", ignore_index=True) for frame in (old, new))
    if not old[keys].equals(new[keys]):
        return float("inf")
    scale = old.value.abs().groupby(old.quantity).transform("max").clip(lower=1e-300)
    scale = scale.mask(old.quantity.isin(DISTANCES), scale.clip(lower=1.0))
    return float(((old.value - new.value).abs() / scale).max())


def environment_changes(then: Mapping, now: Mapping) -> list[str]:
    """Descriptions of the differences in machine, versions and threads."""
    others = []
    for key in _SAME:
        old, new = then.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            others += [
                f"{name} ({old.get(name)}, now {new.get(name)})"
                for name in sorted({*old, *new})
                if old.get(name) != new.get(name)
            ]
        elif old != new and not _further_libraries(old, new):
            others.append(f"{key} ({old}, now {new})")
    return others


def _further_libraries(old: object, new: object) -> bool:
    """Whether the only difference is that one process had loaded more libraries than the other."""
    return isinstance(old, list) and isinstance(new, list) and (set(old) <= set(new) or set(new) <= set(old))
