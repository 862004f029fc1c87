"""The README of reference results: a line for each run of a cell and for each cell that was not run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pudle.harness.reference_files import NOT_RUN, as_seeds, short

if TYPE_CHECKING:
    from pudle.harness.reference import Reference


def readme(reference: Reference) -> str:
    """A Markdown page that lists the runs in the reference and the missing cells."""
    runs = [kept for name in sorted(reference.kept) for kept in reference.kept[name]]
    left = list(reference.not_run())
    planned = sum(map(len, reference.planned.values()))
    untouched = sum(f"{experiment}/{cell}" not in reference.kept for experiment, cell, _ in left)
    hours = sum(kept.record.get("seconds", 0) for kept in runs) / 3600
    lines = [
        "# Reference results",
        "",
        "Written by `pudle reference update` from the files beside it; do not edit. `docs/reference.md` says what they are for.",
        "",
        f"{planned} cells are planned. {planned - untouched} of them are here, {untouched} were not run, and "
        f"{len(left) - untouched} more lack seeds. Computing took {hours:.1f} hours.",
        "",
    ]
    notes = reference.folder / "notes.md"
    if notes.exists():
        lines += [notes.read_text(encoding="utf-8").strip(), ""]
    experiments = sorted({*reference.planned, *(kept.record["experiment"] for kept in runs)})
    for experiment in experiments:
        lines += [f"## {experiment}", "", "| cell | status | seeds | seconds | commit | machine | torch | ended |"]
        lines.append("| --- | --- | --- | --- | --- | --- | --- | --- |")
        for kept in (kept for kept in runs if kept.record["experiment"] == experiment):
            record, made = kept.record, kept.record["provenance"]
            machine = (
                f"{made.get('processor')}, {made.get('device')}, {made.get('threads')} thread{'s' * (made.get('threads') != 1)}"
            )
            cells = [f"`{record['id']}`", record["status"], as_seeds(record["seeds"]), f"{record.get('seconds', 0):.0f}"]
            cells += [short(kept.commit), machine, str(made.get("packages", {}).get("torch")), record["ended"][:10]]
            lines.append(f"| {' | '.join(cells)} |")
        lines += [f"| `{cell}` | {NOT_RUN} | {as_seeds(seeds)} | | | | | |" for of, cell, seeds in left if of == experiment]
        lines.append("")
    return "\n".join(lines)
