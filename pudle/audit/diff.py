"""What changed between two runs: settings, cells, code, versions, verdicts and numbers."""

from collections.abc import Callable, Iterator, Mapping

import pandas as pd

from pudle.analysis.verdicts import worded
from pudle.audit.recompute import RTOL
from pudle.audit.run import Run, name_of
from pudle.harness import files, reference

NONE = "none"
_UNITS = ("python", "platform", "processor", "cores", "threads", "device", "dtype", "deterministic")
_NUMBERS = ("mean", "low", "high", "n_seeds", "n_ended", "origin")


def diff(old: Run, new: Run) -> dict[str, list[dict]]:
    """The differences as rows, by section; sections without differences are left out. Times and seconds are ignored."""
    sections = {
        "settings": _pairs(_flat(old.config), _flat(new.config), what="key"),
        "cells": _pairs(*(_statuses(run) for run in (old, new)), what="cell"),
        "code": _pairs(*(_gathered(run, lambda record: record["code"].items()) for run in (old, new)), what="module"),
        "versions": _pairs(*(_gathered(run, _versions) for run in (old, new)), what="what"),
        "data": _pairs(*(_gathered(run, lambda record: record["inputs"].items()) for run in (old, new)), what="file"),
        "verdicts": _pairs(*(_verdicts(run) for run in (old, new)), what="claim"),
        "published": _pairs(*(_column(run, "published.csv", "id", "verdict") for run in (old, new)), what="value"),
        "numbers": list(_numbers(old, new)),
        "damaged": list(_damaged({"first": old, "second": new})),
    }
    return {name: rows for name, rows in sections.items() if rows}


def _pairs(old: Mapping, new: Mapping, *, what: str) -> list[dict]:
    return [
        {what: key, "first": old.get(key, NONE), "second": new.get(key, NONE)}
        for key in sorted({*old, *new})
        if old.get(key, NONE) != new.get(key, NONE)
    ]


def _flat(settings: Mapping, prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in settings.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
    return found


def _statuses(run: Run) -> dict[str, str]:
    return {name_of(cell): run.records.get(name_of(cell), {"status": "missing"})["status"] for cell in run.cells}


def _gathered(run: Run, what: Callable) -> dict[str, str]:
    """All values of each key in the records of a run, from the cells that were run."""
    found: dict[str, set[str]] = {}
    for record in filter(reference.was_run, run.records.values()):
        for key, value in what(record):
            found.setdefault(key, set()).add(str(value))
    return {key: ", ".join(sorted(values)) for key, values in found.items()}


def _versions(record: Mapping) -> Iterator[tuple[str, object]]:
    made = record["provenance"]
    yield from made.get("packages", {}).items()
    yield from ((unit, made.get(unit)) for unit in _UNITS)
    # A process may have loaded only some of the libraries, or two copies of one.
    yield from (("blas", library) for library in made.get("blas") or [None])
    git = made.get("git") or {}
    yield "commit", f"{git.get('commit')}{'' if git.get('clean', True) else ' with changes'}"


def _column(run: Run, name: str, key: str, value: str) -> dict[str, str]:
    table = files.read_csv(run.root / name, [key, value], keep_default_na=False)
    return dict(table[[key, value]].itertuples(index=False, name=None))


def _verdicts(run: Run) -> dict[str, str]:
    """The verdicts in the words of the report. Older runs lack the kinds of their claims."""
    verdicts, kinds = _column(run, "claims.csv", "claim", "verdict"), {}
    if "kind" in files.read_csv(run.root / "claims.csv", ["claim"]):
        kinds = _column(run, "claims.csv", "claim", "kind")
    return {claim: worded(kinds.get(claim, ""), verdict) for claim, verdict in verdicts.items()}


def _damaged(runs: Mapping[str, Run]) -> Iterator[dict]:
    """Files of cells that differ from the hashes in their ``cell.json``, so that other differences may be misleading."""
    for which, run in runs.items():
        for cell in run.cells:
            for output, digest in run.records.get(name_of(cell), {"outputs": {}})["outputs"].items():
                path, name = cell.folder(run.root) / output, run.path(cell, output)
                if not path.is_file():
                    yield {"run": which, "file": name, "found": "is missing"}
                elif files.sha256(path) != digest:
                    yield {"run": which, "file": name, "found": "is not the file that the cell wrote"}


def _table(run: Run, experiment: str) -> pd.DataFrame:
    path, columns = run.root / "tables" / f"{experiment}.csv", ["quantity", "step", "mean"]
    return files.read_csv(path, columns, keep_default_na=False, dtype={"mean": float})


def _numbers(old: Run, new: Run) -> Iterator[dict]:
    """For each table the numbers of changed, added and removed rows, and the largest relative change of a mean.

    Changes are relative to the largest absolute mean of the quantity.
    """
    for experiment in sorted({*old.experiments, *new.experiments}):
        if experiment not in old.experiments or experiment not in new.experiments:
            yield {"table": experiment, "changed": f"only in the {'first' if experiment in old.experiments else 'second'}"}
            continue
        first, second = (_table(run, experiment) for run in (old, new))
        keys = [key for key in first if key in second and key not in _NUMBERS]
        first, second = (table.astype(dict.fromkeys(keys, str)) for table in (first, second))
        both = first.merge(second, on=keys, how="outer", suffixes=("", "_new"), indicator=True)
        same = both[both._merge == "both"]
        scale = same["mean"].abs().groupby(same.quantity).transform("max").clip(lower=1e-300)
        change = (same["mean_new"] - same["mean"]).abs() / scale
        came, went = ((both._merge == side).sum() for side in ("right_only", "left_only"))
        if (change > RTOL).any() or came or went:
            largest = same.loc[change.idxmax()] if (change > RTOL).any() else None
            yield {
                "table": experiment,
                "changed": f"{(change > RTOL).sum()} of {len(same)}",
                "came": came,
                "went": went,
                "largest": "" if largest is None else f"{largest['mean']:.6g} → {largest['mean_new']:.6g}",
                "where": "" if largest is None else ", ".join(f"{key}={largest[key]}" for key in keys if largest[key] != ""),
            }
