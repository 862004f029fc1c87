"""The chain behind one file or one number: figure, table, rows, cell, settings, code, data, and how to run the cell again."""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from pudle import experiments
from pudle.audit import manifest, rerun
from pudle.audit.run import MANIFEST, Run, Step, name_of
from pudle.errors import PudleError
from pudle.harness import cells, files, reference

_RESULTS = ("value", "mean", "low", "high", "n_seeds", "n_ended", "origin")  # columns other than keys
_MOST = 8  # cells or lines that are listed one by one


def trace(path: Path, row: int | None = None) -> Iterator[str]:
    """The chain behind ``path``, a file of a run, or behind its row number ``row`` (from 1), line by line.

    Raises :class:`PudleError` if the file is missing or outside of a finished run, or if there is no such row.
    """
    path = Path(path).absolute()
    if not path.is_file():
        raise PudleError(f"{path}: there is no such file")
    root = next((folder for folder in path.parents if (folder / MANIFEST).is_file()), None)
    if root is None:
        raise PudleError(f"{path}: is not in the folder of a finished run, which has a {MANIFEST}; run `snakemake` first")
    run, name = Run(root), path.relative_to(root).as_posix()
    digests = manifest.listed(manifest.entries(root).values())
    step = next((step for step in run.steps if name in step.outputs), None)
    record = None if row is None else _record(path, row)
    yield _file(run, digests, name)
    if record is not None:
        yield f"  row {row}: {_fields(record)}"
    if step is None:
        return
    yield f"  made by `{step.command}` ({step.name})"
    experiment = step.name.split("/")[1] if "/" in step.name else None
    if record is not None and experiment is None:
        experiment = record.get("experiment")
    chosen = [cell for cell in run.cells if experiment in (None, cell.experiment) and _makes(run, step, cell)]
    if record is None:
        yield from (_file(run, digests, source) for source in step.inputs if not source.startswith("cells/"))
        yield from _cells(run, digests, chosen)
        return
    chosen = [cell for cell in chosen if _matches(cell, record)]
    table = f"tables/{experiment}.csv"
    if table in step.inputs:
        yield _file(run, digests, table)
        yield from _lines(run.root / table, record)
    yield from _cells(run, digests, chosen, record)


def _makes(run: Run, step: Step, cell: cells.Cell) -> bool:
    return run.path(cell, "cell.json") in (*step.inputs, *step.outputs)


def _matches(cell: cells.Cell, record: Mapping[str, str]) -> bool:
    """Whether a row with these columns can come from ``cell``."""
    keys = {key: str(cell.settings.get(key, "")) for key in cell.varies} | {"cell": cell.id}
    return all(record.get(key, value) == value for key, value in keys.items())


def _cells(
    run: Run, digests: Mapping[str, str], chosen: list[cells.Cell], record: Mapping[str, str] | None = None
) -> Iterator[str]:
    for cell in chosen[:_MOST]:
        for output in run.outputs(cell):
            yield _file(run, digests, output)
            if record and output.endswith("rows.csv"):
                yield from _lines(run.root / output, record)
        yield from _cell(run, cell)
    if len(chosen) > _MOST:
        yield f"and {len(chosen) - _MOST} more cells, the first of them {name_of(chosen[_MOST])}"


def _cell(run: Run, cell: cells.Cell) -> Iterator[str]:
    record = run.records.get(name_of(cell))
    if record is None:
        yield f"  no record of {name_of(cell)}: it has not been run, or its cell.json is damaged"
        return
    if not reference.was_run(record):
        yield f"  status    {reference.remark(record)}"
        return
    made = record["provenance"]
    git = made.get("git") or {"commit": "none", "clean": True}
    here = "the same as here" if experiments.fingerprint(cell) == record["fingerprint"] else "NOT THE SAME AS HERE"
    yield f"  status    {record['status']}, {record['started']} to {record['ended']}, seeds {', '.join(map(str, record['seeds']))}"
    if reference.is_taken(record):
        runs = [f"{one['file']} (commit {reference.short(one['commit'])})" for one in record["taken_from"]["runs"]]
        yield f"  taken     not computed here: from {record['taken_from']['reference']}, {', '.join(runs)}"
    yield f"  settings  {files.canonical_json(record['settings'])}"
    commit = f"{git['commit']}{'' if git['clean'] else ' with changes'}"
    yield f"  code      fingerprint {record['fingerprint']}, {here}; {len(record['code'])} modules; commit {commit}"
    data = [f"{name} {digest[:12]}…" for name, digest in record["inputs"].items()]
    more = f" and {len(data) - _MOST} more, in cell.json" if len(data) > _MOST else ""
    none = "not recorded" if experiments.data_sets(cell) else "drawn from the seeds"
    yield f"  data      {', '.join(data[:_MOST]) or none}{more}"
    torch = made.get("packages", {}).get("torch")
    computed = f"device {made.get('device')}, {made.get('threads')} threads"
    yield f"  machine   {made.get('processor')}, {computed}, Python {made.get('python')}, torch {torch}"
    where = f"PUDLE_DATA={shlex.quote(run.data)} " if any(name.startswith("data/") for name in record["inputs"]) else ""
    words = ["pudle", *rerun.command(run, cell, "again")[4:]]
    yield f"  again     {where}{shlex.join(words)} && cmp again/rows.csv {shlex.quote(str(run.root / run.path(cell, 'rows.csv')))}"


def _file(run: Run, digests: Mapping[str, str], name: str) -> str:
    if name == MANIFEST:
        return name
    digest = manifest.hashes(run.root, [name]).get(name, "")
    compared = (
        "as in the manifest" if digest and digest == digests.get(name) else "NOT AS IN THE MANIFEST" if digest else "MISSING"
    )
    return f"{name}  SHA-256 {digest[:12] or 'none'}…, {compared}"


def _record(path: Path, row: int) -> dict[str, str]:
    if path.suffix != ".csv":
        raise PudleError(f"{path}: only CSV files have rows")
    table = files.read_csv(path, dtype=str, keep_default_na=False)
    if not 1 <= row <= len(table):
        raise PudleError(f"{path}: has the rows 1 to {len(table)}, not {row}")
    return table.iloc[row - 1].to_dict()


def _lines(path: Path, record: Mapping[str, str]) -> Iterator[str]:
    """The lines of a table whose keys have the values of ``record``."""
    table = files.read_csv(path, dtype=str, keep_default_na=False)
    keys = [key for key in table if key in record and key not in _RESULTS]
    found = table[(table[keys] == pd.Series(record)[keys]).all(axis=1)] if keys else table[:0]
    if "quantity" not in keys:
        yield f"  the row has no quantity; it comes from {'all of its' if keys else 'the'} lines and arrays"
        return
    for line, values in list(found.to_dict("index").items())[:_MOST]:
        yield f"  line {line + 2}: {_fields(values)}"
    if len(found) > _MOST:
        yield f"  and {len(found) - _MOST} more lines, to line {found.index[-1] + 2}"


def _fields(record: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in record.items())
