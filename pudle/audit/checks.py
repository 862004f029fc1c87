"""Do the files agree with the manifest, the cells with the plan, and the cells' records with their files and with the current code?"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from pudle import experiments
from pudle.audit import manifest
from pudle.audit.finding import Finding
from pudle.audit.recompute import findings as recomputed
from pudle.audit.run import CRATE, MANIFEST, Run, error_text, name_of, on_disk
from pudle.data import catalogue
from pudle.errors import PudleError
from pudle.harness import files, plan, reference
from pudle.harness.cells import Cell
from pudle.harness.record import ENDINGS

LIMIT = 20  # findings about entries of the manifest that are listed one by one


def audit(root: Path, plugins: Iterable[str] | None = None, *, recompute: bool = True) -> list[Finding]:
    """The findings on the run in the folder ``root``; an empty list if all checks pass.

    recompute : whether to compute tables, figures' numbers, verdicts and the page again, besides comparing hashes, cells and plan
    """
    found = [*_files(Path(root))]
    try:
        run = Run(root, plugins)
    except PudleError as error:
        return [*found, Finding("config.json", "plan", str(error))]
    try:
        found += _plan(run)
    except PudleError as error:
        return [*found, Finding(plan.PLAN, "plan", str(error))]
    found += [*_manifest(run, {finding.file for finding in found}), *_cells(run)]
    if recompute:
        found += recomputed(run)
    return found


def _files(root: Path) -> Iterator[Finding]:
    """Every file agrees with the manifest, and none is missing or unlisted."""
    here = {path.relative_to(root).as_posix(): path for path in on_disk(root)}
    for name, path in here.items():
        if path.is_symlink():
            yield Finding(name, "files", "is a symbolic link; every result must be a regular file")
    content, other = ((root / name).read_bytes() if (root / name).is_file() else b"" for name in (MANIFEST, CRATE))
    if content != other:
        yield Finding(CRATE, "manifest", f"is not the same as {MANIFEST}")
    named = manifest.listed(manifest.entries(root).values())
    digests = manifest.hashes(root, here)
    for name in sorted(set(named) - set(digests)):
        yield Finding(name, "files", "is missing")
    for name in sorted(set(digests) - {*named, MANIFEST, CRATE}):
        yield Finding(name, "files", "is not in the manifest")
    for name in sorted(name for name in set(named) & set(digests) if digests[name] != named[name]):
        yield Finding(name, "hash", f"has SHA-256 {digests[name][:12]}…, and the manifest says {str(named[name])[:12]}…")


def _plan(run: Run) -> Iterator[Finding]:
    """``plan.json`` is the plan that the configuration gives. Raises :class:`PudleError` if ``plan.json`` cannot be read."""
    planned = {name_of(cell): cell for cell in run.cells}
    try:
        now = experiments.plan(run.config | {"plugins": []})  # the plug-ins are loaded already
    except Exception as error:  # an edited configuration can cause any error
        yield Finding("config.json", "plan", f"cannot be planned: {error_text(error)}")
        return
    if files.holds(run.root / plan.PLAN, plan.text(now)):
        return
    again = {name_of(cell): cell for cell in now}
    differing = [f"has the cell {name}, which config.json does not give" for name in planned if name not in again]
    differing += [f"lacks the cell {name}, which config.json gives" for name in again if name not in planned]
    for name in planned.keys() & again.keys():
        keys = [key for key in ("settings", "seeds", "varies") if getattr(planned[name], key) != getattr(again[name], key)]
        if keys:
            differing.append(f"has other {' and '.join(keys)} of {name} than config.json gives")
    for difference in sorted(differing) or ["differs in the order or the form of its cells from what config.json gives"]:
        yield Finding(plan.PLAN, "plan", difference)


def _manifest(run: Run, reported: set[str]) -> Iterator[Finding]:
    """The manifest lists all files of the run and no others, and equals one that is written again from the folder.

    Files that are ``reported`` already are left out.
    """
    here = {path.relative_to(run.root).as_posix() for path in on_disk(run.root)} - {MANIFEST, CRATE}
    for name in sorted(set(run.files) - here - reported):
        yield Finding(name, "files", "is missing")
    for name in sorted(here - set(run.files)):
        yield Finding(name, "files", f"does not belong to this run{_stray(run, name)}")
    if not (run.root / MANIFEST).is_file():
        yield Finding(MANIFEST, "manifest", "is missing")
        return
    try:
        made = manifest.text(run, manifest.hashes(run.root, run.files))
    except Exception as error:  # an edited cell can cause any error
        yield Finding(MANIFEST, "manifest", f"cannot be written again: {type(error).__name__}: {error}")
        return
    if made.encode() == (run.root / MANIFEST).read_bytes():
        return
    kept = manifest.entries(run.root)
    right = {entity["@id"]: entity for entity in json.loads(made)["@graph"]}
    names = [name for name in sorted({*right, *kept}, key=str) if right.get(name) != kept.get(name) and name not in reported]
    for name in names[:LIMIT]:
        entity, old = right.get(name), kept.get(name)
        if entity is None or old is None:
            yield Finding(MANIFEST, "manifest", f"{'lacks' if old is None else 'should not have'} the entry {name!r}")
        else:
            keys = sorted(key for key in {*entity, *old} if entity.get(key) != old.get(key))
            yield Finding(MANIFEST, "manifest", f"entry {name!r}: {', '.join(keys)} differ from the files")
    if len(names) > LIMIT:
        yield Finding(MANIFEST, "manifest", f"and {len(names) - LIMIT} more entries")
    if not names:
        yield Finding(MANIFEST, "manifest", "differs from the bytes that the program writes")


def _stray(run: Run, name: str) -> str:
    """The likely reason for a file that does not belong to the run; empty if unknown."""
    parts = name.split("/")
    if parts[0] == "cells" and len(parts) == 4 and "/".join(parts[1:3]) not in set(map(name_of, run.cells)):
        return f": its cell is not in plan.json; if it is from an earlier plan, remove {'/'.join(parts[:3])}"
    return ""


def _cells(run: Run) -> Iterator[Finding]:
    kept, data = run.reference_results, Path(run.data)
    for cell in run.cells:
        name, record = run.path(cell, "cell.json"), run.records.get(name_of(cell))
        if record is None:
            yield Finding(name, "cells", "is missing or damaged, but the cell is planned")
            continue
        planned = {key: getattr(cell, key) for key in ("experiment", "id")} | {"settings": dict(cell.settings)}
        planned |= {key: list(getattr(cell, key)) for key in ("varies", "seeds")}
        if reference.is_taken(record):
            left_out = set(map(str, record.get("not_run", ())))
            planned["seeds"] = [seed for seed in cell.seeds if str(seed) not in left_out]
            yield from _taken(run, kept, cell, record)
        for key, value in planned.items():
            if record.get(key) != value:
                yield Finding(name, "settings", f"{key} {_differing(value, record.get(key))}")
        if not reference.is_taken(record) and record["fingerprint"] != (now := experiments.fingerprint(cell)):
            changed = _changed(record["code"], experiments.code(cell))
            yield Finding(
                name,
                "code",
                f"was run by code with the fingerprint {record['fingerprint']}, and the code here has {now}: {changed}",
            )
        for output, digest in record["outputs"].items():
            path = cell.folder(run.root) / output
            if path.is_file() and files.sha256(path) != digest:
                yield Finding(run.path(cell, output), "hash", "is not the file that the cell wrote, according to its cell.json")
        for source in catalogue.differing(record["inputs"], experiments.data_sets(cell), data):
            if source in record["inputs"]:
                yield Finding(name, "data", f"read a {source} that differs from the one here")
            elif record["status"] != "failed" and reference.was_run(record):
                yield Finding(name, "data", f"does not list {source}, which is here, among the files that it read")
        if reference.was_run(record):
            yield from _endings(run, cell, record)
    yield from _unplanned(run, kept)


def _taken(run: Run, kept: reference.Reference | None, cell: Cell, record: dict) -> Iterator[Finding]:
    """A cell that was taken, or left as not run, agrees with the reference. Without the reference there are no findings."""
    if kept is None:
        return
    try:
        offer = kept.offer(cell)
        if offer is None and not reference.was_run(record) and not kept.kept.get(name_of(cell)):
            return  # left out because its data set was missing
        if offer is None or not offer.is_written(cell.folder(run.root)):
            yield Finding(
                run.path(cell, "cell.json"),
                "reference",
                f"differs from the current contents of {kept.name}; run `snakemake` again",
            )
            return
        contents = offer.contents()
        if record != offer.record({name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}):
            yield Finding(run.path(cell, "cell.json"), "reference", f"differs from the record in {kept.name}")
        for output, content in contents.items():
            path = cell.folder(run.root) / output
            if path.is_file() and path.read_bytes() != content:
                yield Finding(run.path(cell, output), "reference", f"differs from the file in {kept.name}")
    except PudleError as error:
        yield Finding(run.path(cell, "cell.json"), "reference", str(error))


def _unplanned(run: Run, kept: reference.Reference | None) -> Iterator[Finding]:
    """Cells of the reference, in the experiments of this run, whose settings are no longer planned."""
    if kept is None:
        return
    planned = set(map(name_of, run.cells))
    try:
        for name in kept.kept:
            if name.split("/")[0] in run.experiments and name not in planned:
                yield Finding(f"cells/{name}", "reference", f"is in {kept.name}, but is not planned: its settings have changed")
    except PudleError as error:
        yield Finding("config.json", "reference", str(error))


def _endings(run: Run, cell, record: dict) -> Iterator[Finding]:
    """Status, endings and rows agree, and every seed has rows."""
    name = run.path(cell, "cell.json")
    try:
        rows = pd.read_csv(cell.folder(run.root) / "rows.csv", keep_default_na=False)
        ended = sorted((int(row.seed), row.quantity) for row in rows[rows.quantity.isin(ENDINGS)].itertuples())
        said = sorted((int(ending["seed"]), ending["status"]) for ending in record["endings"])
        worst = max((status for _, status in said), key=ENDINGS.index, default="done")
        seeds = sorted(set(rows.seed), key=str)
    except Exception as error:  # an edited file can cause any error
        yield Finding(run.path(cell, "rows.csv"), "rows", f"cannot be read with its cell.json: {type(error).__name__}: {error}")
        return
    if ended != said or record["status"] != worst:
        yield Finding(
            name,
            "rows",
            f"status {record['status']!r} and endings {said} contradict the rows, where {ended or 'none'} ended early",
        )
    wanted = [seed for seed in cell.seeds if seed not in record.get("not_run", ())]
    if set(seeds) != set(wanted):
        yield Finding(run.path(cell, "rows.csv"), "rows", f"has the seeds {seeds}, not {wanted}")


def _differing(planned: object, found: object) -> str:
    """Where two values of a record differ, in words."""
    if isinstance(planned, dict) and isinstance(found, dict):
        keys = sorted(key for key in {*planned, *found} if planned.get(key) != found.get(key))
        differing = (f"{key} = {found.get(key)!r}, not {planned.get(key)!r}" for key in keys)
        return f"are not those of plan.json: {'; '.join(differing)}"
    return f"is {found!r}, and the plan has {planned!r}"


def _changed(then: dict[str, str], now: dict[str, str]) -> str:
    names = sorted(name for name in {*then, *now} if then.get(name) != now.get(name))
    return f"changed since: {', '.join(names)}" if names else "no module differs; the versions of Python may differ"
