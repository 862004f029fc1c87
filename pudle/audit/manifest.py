"""``manifest.json``: the run as a Workflow Run RO-Crate, with the SHA-256 of every file.

The metadata follow RO-Crate 1.3 and the profiles Process, Workflow and Provenance Run Crate 0.6: each command of the workflow is a
``CreateAction`` from files to files, and each cell has one with its settings, code and data. All contents come from the folder, so that
an audit can write the manifest again and compare.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from rocrate.model.contextentity import ContextEntity
from rocrate.rocrate import ROCrate

from pudle.audit.run import CRATE, MANIFEST, Run, name_of
from pudle.errors import PudleError
from pudle.harness import files, reference
from pudle.harness.cells import Cell
from pudle.harness.files import read_json

WORKFLOW = "code/Snakefile"
LICENSE = "https://spdx.org/licenses/BSD-3-Clause"
FORMATS = {
    ".csv": "text/csv",
    ".html": "text/html",
    ".json": "application/json",
    ".md": "text/markdown",
    ".npz": "application/zip",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".py": "text/x-python",
    ".svg": "image/svg+xml",
}  # the tables of systems differ
PROFILES = {name: f"https://w3id.org/ro/wfrun/{name.split()[0].lower()}/0.6" for name in
            ("Process Run Crate", "Workflow Run Crate", "Provenance Run Crate")}  # fmt: skip


def write(run: Run, snakefile: Path) -> None:
    """Copy the workflow's files and the user's methods into the run's folder, then write its manifest under both of its names.

    Raises :class:`PudleError` if the run is incomplete.
    """
    _copy_code(run, Path(snakefile))
    missing = [name for name in run.files if not (run.root / name).is_file()]
    if missing:
        raise PudleError(f"{run.root / missing[0]}: missing, with {len(missing) - 1} more; run `snakemake` first")
    content = text(run, hashes(run.root, run.files))
    for name in (CRATE, MANIFEST):
        files.write(run.root / name, content)


def hashes(root: Path, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of each existing file in ``names``; links are not followed."""
    return {name: files.sha256(path) for name in names if (path := Path(root, name)).is_file() and not path.is_symlink()}


def entries(root: Path) -> dict[str, dict]:
    """The entries of the manifest by @id, or those of its copy if it is damaged; empty if both are damaged."""
    for name in (MANIFEST, CRATE):
        try:
            found = {entity["@id"]: entity for entity in read_json(root / name)["@graph"]}
            listed(found.values())
        except (PudleError, KeyError, TypeError, AttributeError):
            continue
        return found
    return {}


def listed(entities: Iterable[Mapping]) -> dict[str, str]:
    """The files among the ``entities`` of a manifest, with their SHA-256."""
    return {
        entity["@id"]: entity.get("sha256", "") for entity in entities if "File" in entity["@type"] and entity["@id"] != CRATE
    }


def text(run: Run, digests: Mapping[str, str]) -> str:
    """The manifest of ``run`` as JSON text. ``digests`` are the SHA-256 of its files."""
    return json.dumps(build(run, digests), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def build(run: Run, digests: Mapping[str, str]) -> dict:
    """The manifest of ``run`` as JSON values: RO-Crate metadata. ``digests`` are the SHA-256 of its files."""
    records = {name: record for name, record in run.records.items() if reference.was_run(record)}
    ran = [records[name_of(cell)] for cell in run.cells if name_of(cell) in records]
    crate = ROCrate()
    crate.name = f"pudle, results at the scale '{run.scale}'"
    crate.description = "Figures, tables and verdicts on unrolled dictionary learning, and the rows behind them."
    crate.root_dataset["datePublished"] = max((record["ended"] for record in ran), default="")
    add = partial(_add, crate)
    profiles = [add(url, ["CreativeWork", "Profile"], name=name, version="0.6") for name, url in PROFILES.items()]
    crate.root_dataset["conformsTo"] = profiles
    terms = "Who runs the workflow has not said what others may do with its results."
    crate.license = add("#license", "CreativeWork", name="not stated", description=terms)
    of_code = add(LICENSE, "CreativeWork", name="BSD-3-Clause", description="The licence of pudle, its workflow included.")
    versions = {name: _versions(ran, name) for name in ("pudle", "snakemake")}
    for name, digest in digests.items():
        _add_file(crate, run, name, digest, versions["snakemake"])
    workflow = crate.mainEntity
    commits = {json.dumps(record["provenance"].get("git"), sort_keys=True) for record in ran}
    workflow["version"] = sorted(commits)
    for name in run.kept_code:
        if not name.startswith("code/plugins/"):  # those are the user's own
            crate.get(name)["license"] = of_code
    tools = {step.command: None for step in run.steps}
    for command in tools:
        about = {"name": command, "version": versions["pudle"], "license": of_code}
        about["url"] = workflow  # its source has no other address
        tools[command] = add(f"#{command.replace(' ', '-')}", "SoftwareApplication", **about)
    workflow["hasPart"] = [*(crate.get(name) for name in run.kept_code if name != WORKFLOW), *tools.values()]

    for cell in run.cells:
        record = records.get(name_of(cell))
        if record:
            _add_settings(add, cell, record)
            _add_code(crate, add, record)
            for name, digest in record["inputs"].items():
                add(_data(name, digest), "DigitalDocument", name=name, sha256=digest)
    by_step = {f"cell/{name_of(cell)}": records.get(name_of(cell)) for cell in run.cells}
    for step in run.steps:
        record = by_step.get(step.name)
        sources = []
        if record:
            settings, code = step.name.replace("cell", "#settings", 1), f"#code/{record['fingerprint']}"
            sources = [settings, code, *(_data(name, digest) for name, digest in record["inputs"].items())]
        action = add(
            f"#{step.name}",
            "CreateAction",
            name=step.name,
            instrument=tools[step.command],
            object=[{"@id": name} for name in (*step.inputs, *sources)],
            result=[{"@id": name} for name in step.outputs],
        )
        if record:
            action["startTime"], action["endTime"] = record["started"], record["ended"]
            if reference.is_taken(record):
                action["description"] = (
                    f"Not computed in this run: taken from {reference.origin(record)}, computed at the times given."
                )
            failed = record["status"] == "failed"
            action["actionStatus"] = {"@id": f"http://schema.org/{'Failed' if failed else 'Completed'}ActionStatus"}
    action = add(
        "#run",
        "CreateAction",
        name=f"Run of the workflow at the scale '{run.scale}'",
        instrument=workflow,
        object=[{"@id": "config.json"}],
        result=[{"@id": name} for step in run.steps for name in step.outputs],
        startTime=min((record["started"] for record in ran), default=""),
        endTime=max((record["ended"] for record in ran), default=""),
    )
    crate.root_dataset["mentions"] = [action, *(crate.get(f"#{step.name}") for step in run.steps)]
    return crate.metadata.generate()


def _add(crate: ROCrate, identifier: str, kind: str | list[str], **properties: object) -> ContextEntity:
    return crate.add(ContextEntity(crate, identifier, {"@type": kind} | properties))


def _data(name: str, digest: object) -> str:
    """The @id of a data file. It includes the hash, since two cells may have read different files of the same name."""
    return f"#data/{name}/{str(digest)[:8]}"


def _versions(ran: Iterable[Mapping], package: str) -> str:
    """The versions of ``package`` that the cells ran with."""
    return ", ".join(sorted({record["provenance"].get("packages", {}).get(package, "unknown") for record in ran}))


def _add_file(crate: ROCrate, run: Run, name: str, digest: str, snakemake: str) -> None:
    properties = {"sha256": digest, "contentSize": str((run.root / name).stat().st_size)}
    properties["encodingFormat"] = FORMATS.get(Path(name).suffix, "text/plain")
    if run.unrepeatable(name):
        properties["description"] = "Holds seconds, memory or times of day: another run makes other bytes."
    if name == WORKFLOW:
        about = properties | {"name": "pudle"}
        crate.add_workflow(run.root / name, name, main=True, lang="snakemake", lang_version=snakemake, properties=about)
    else:
        crate.add_file(run.root / name, name, properties=properties)


def _add_settings(add: Callable, cell: Cell, record: Mapping) -> None:
    add(
        f"#settings/{name_of(cell)}",
        "PropertyValue",
        name="settings and seeds",
        value=files.canonical_json({"settings": record["settings"], "seeds": record["seeds"]}),
    )


def _add_code(crate: ROCrate, add: Callable, record: Mapping) -> None:
    """Add the modules behind a fingerprint. Cells that share it may differ in comments, so that each content has its own part."""
    parts = [f"#code/{module}/{digest[:8]}" for module, digest in record["code"].items()]
    for part, (module, digest) in zip(parts, record["code"].items(), strict=True):
        if part not in crate:
            add(part, "DigitalDocument", name=f"source of {module}", sha256=digest)
    identifier = f"#code/{record['fingerprint']}"
    known = crate.get(identifier) or add(identifier, "Collection", name=f"code with the fingerprint {record['fingerprint']}")
    have = {part["@id"] for part in known.properties().get("hasPart", [])}
    known.append_to("hasPart", [{"@id": part} for part in parts if part not in have])


def _copy_code(run: Run, snakefile: Path) -> None:
    rules = (snakefile.parent / "workflow" / "rules").glob("*.smk")
    wanted = {"Snakefile": snakefile} | {f"workflow/rules/{path.name}": path for path in rules}
    wanted |= {f"plugins/{Path(path).name}": Path(path).expanduser() for path in run.plugins}
    for name, path in wanted.items():
        files.write(run.root / "code" / name, path.read_bytes())
    for name in run.kept_code:
        if name.removeprefix("code/") not in wanted:
            (run.root / name).unlink()
