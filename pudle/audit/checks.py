"""Do the files agree with the manifest, the cells with the plan, and the cells' records with their files and with today's code?"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from pudle import experiments
from pudle.audit import manifest
from pudle.audit.finding import Finding
from pudle.audit.recompute import findings as recomputed
from pudle.audit.run import CRATE, MANIFEST, Run, name_of, on_disk
from pudle.data import catalogue
from pudle.errors import PudleError
from pudle.harness import files
from pudle.harness.record import ENDINGS

LIMIT = 20  # findings about entries of the manifest that are told one by one


def audit(root: Path, plugins: Iterable[str] | None = None, *, recompute: bool = True) -> list[Finding]:
    """Everything that is wrong with the run in the folder ``root``; an empty list if nothing is.

    recompute : compute tables, figures' numbers, verdicts and the page again; else compare hashes, cells and plan only
    """
    found = [*_files(Path(root))]
    try:
        run = Run(root, plugins)
    except PudleError as error:
        return [*found, Finding("config.json", "plan", str(error))]
    found += [*_manifest(run, {finding.file for finding in found}), *_cells(run)]
    if recompute:
        found += recomputed(run)
    return found


def _files(root: Path) -> Iterator[Finding]:
    """Every file is the one that the manifest lists, none is missing, and none is there besides."""
    here = {path.relative_to(root).as_posix(): path for path in on_disk(root)}
    for name, path in here.items():
        if path.is_symlink():
            yield Finding(name, "files", "is a symbolic link: a result is a file of its own")
    content, other = ((root / name).read_bytes() if (root / name).is_file() else b"" for name in (MANIFEST, CRATE))
    if content != other:
        yield Finding(CRATE, "manifest", f"is not the same as {MANIFEST}")
    told = manifest.listed(manifest.entries(root).values())
    digests = manifest.hashes(root, here)
    for name in sorted(set(told) - set(digests)):
        yield Finding(name, "files", "is missing")
    for name in sorted(set(digests) - {*told, MANIFEST, CRATE}):
        yield Finding(name, "files", "is not in the manifest")
    for name in sorted(name for name in set(told) & set(digests) if digests[name] != told[name]):
        yield Finding(name, "hash", f"has SHA-256 {digests[name][:12]}…, and the manifest says {str(told[name])[:12]}…")


def _manifest(run: Run, told: set[str]) -> Iterator[Finding]:
    """It lists what the run must have, and written anew from the folder it is the same; not for the files that are ``told`` already."""
    here = {path.relative_to(run.root).as_posix() for path in on_disk(run.root)} - {MANIFEST, CRATE}
    for name in sorted(set(run.files) - here - told):
        yield Finding(name, "files", "is missing")
    for name in sorted(here - set(run.files)):
        yield Finding(name, "files", f"is no file of this run{_stray(run, name)}")
    if not (run.root / MANIFEST).is_file():
        yield Finding(MANIFEST, "manifest", "is missing")
        return
    try:
        anew = manifest.text(run, manifest.hashes(run.root, run.files))
    except Exception as error:  # whatever edited cells break
        yield Finding(MANIFEST, "manifest", f"cannot be written anew: {type(error).__name__}: {error}")
        return
    if anew.encode() == (run.root / MANIFEST).read_bytes():
        return
    kept = manifest.entries(run.root)
    right = {entity["@id"]: entity for entity in json.loads(anew)["@graph"]}
    names = [name for name in sorted({*right, *kept}, key=str) if right.get(name) != kept.get(name) and name not in told]
    for name in names[:LIMIT]:
        entity, old = right.get(name), kept.get(name)
        if entity is None or old is None:
            yield Finding(MANIFEST, "manifest", f"{'lacks' if old is None else 'has, without reason,'} the entry {name!r}")
        else:
            keys = sorted(key for key in {*entity, *old} if entity.get(key) != old.get(key))
            yield Finding(MANIFEST, "manifest", f"entry {name!r}: {', '.join(keys)} not as the files say")
    if len(names) > LIMIT:
        yield Finding(MANIFEST, "manifest", f"and {len(names) - LIMIT} more entries")
    if not names:
        yield Finding(MANIFEST, "manifest", "is not, byte by byte, what the program writes")


def _stray(run: Run, name: str) -> str:
    """Why a file is there that the run does not have."""
    parts = name.split("/")
    if parts[0] == "cells" and len(parts) == 4 and "/".join(parts[1:3]) not in set(map(name_of, run.cells)):
        return f": no cell of the configuration; if it is of an earlier one, remove {'/'.join(parts[:3])}"
    return ""


def _cells(run: Run) -> Iterator[Finding]:
    data = Path(run.data).expanduser()
    for cell in run.cells:
        name, told = run.path(cell, "cell.json"), run.told.get(name_of(cell))
        if told is None:
            yield Finding(name, "cells", "is missing, or is no record of a cell, but the cell is planned")
            continue
        planned = {key: getattr(cell, key) for key in ("experiment", "id")} | {"settings": dict(cell.settings)}
        planned |= {key: list(getattr(cell, key)) for key in ("varies", "seeds")}
        for key, value in planned.items():
            if told.get(key) != value:
                yield Finding(name, "settings", f"{key} {_differing(value, told.get(key))}")
        if told["fingerprint"] != (now := experiments.fingerprint(cell)):
            changed = _changed(told["code"], experiments.code(cell))
            yield Finding(name, "code", f"was run by other code ({told['fingerprint']}) than is here ({now}): {changed}")
        for output, digest in told["outputs"].items():
            path = cell.folder(run.root) / output
            if path.is_file() and files.sha256(path) != digest:
                yield Finding(run.path(cell, output), "hash", "is not the file that the cell wrote, says its cell.json")
        for source in catalogue.differing(told["inputs"], experiments.data_sets(cell), data):
            if source in told["inputs"]:
                yield Finding(name, "data", f"read another {source} than is here")
            elif told["status"] != "failed":
                yield Finding(name, "data", f"does not say that it read {source}, which is here")
        yield from _endings(run, cell, told)


def _endings(run: Run, cell, told: dict) -> Iterator[Finding]:
    """Status, endings and rows tell the same, and every seed has rows."""
    name = run.path(cell, "cell.json")
    try:
        rows = pd.read_csv(cell.folder(run.root) / "rows.csv", keep_default_na=False)
        ended = sorted((int(row.seed), row.quantity) for row in rows[rows.quantity.isin(ENDINGS)].itertuples())
        said = sorted((int(ending["seed"]), ending["status"]) for ending in told["endings"])
        worst = max((status for _, status in said), key=ENDINGS.index, default="done")
        seeds = sorted(set(rows.seed), key=str)
    except Exception as error:  # whatever an edited file breaks
        yield Finding(run.path(cell, "rows.csv"), "rows", f"cannot be read with its cell.json: {type(error).__name__}: {error}")
        return
    if ended != said or told["status"] != worst:
        yield Finding(
            name,
            "rows",
            f"status {told['status']!r} and endings {said} do not fit the rows, where {ended or 'none'} ended early",
        )
    if set(seeds) != set(cell.seeds):
        yield Finding(run.path(cell, "rows.csv"), "rows", f"has the seeds {seeds}, not {list(cell.seeds)}")


def _differing(planned: object, found: object) -> str:
    """Where two values of a record differ, in words."""
    if isinstance(planned, dict) and isinstance(found, dict):
        keys = sorted(key for key in {*planned, *found} if planned.get(key) != found.get(key))
        told = (f"{key} = {found.get(key)!r}, not {planned.get(key)!r}" for key in keys)
        return f"are not those of config.json: {'; '.join(told)}"
    return f"is {found!r}, and the plan says {planned!r}"


def _changed(then: dict[str, str], now: dict[str, str]) -> str:
    names = sorted(name for name in {*then, *now} if then.get(name) != now.get(name))
    return f"changed since: {', '.join(names)}" if names else "no module differs, so perhaps another Python reads them"
