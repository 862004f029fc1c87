"""The commands that check, trace, compare and archive runs: ``pudle manifest``, ``audit``, ``trace``, ``diff`` and ``export``."""

import sys
from pathlib import Path

import click

from pudle.cli.paths import PathType

PLUGINS = click.option(
    "--plugin",
    "plugins",
    multiple=True,
    metavar="FILE",
    help="A plug-in file that the run needs; replaces those that its configuration names. May be given several times.",
)
FOLDER = PathType(file_okay=False)


@click.command()
@click.option("--root", type=FOLDER, default=Path("results/default"), show_default=True, help="Folder of one scale.")
@click.option(
    "--snakefile",
    type=PathType(exists=True),
    default=Path("Snakefile"),
    show_default=True,
    help="The workflow.",
)
def manifest(root, snakefile):
    """Write ROOT/manifest.json, a Workflow Run RO-Crate, which lists every file of the finished run with its SHA-256."""
    from pudle.audit.manifest import write
    from pudle.audit.run import Run

    write(Run(root), snakefile)


@click.command()
@click.argument("results", type=PathType())
@click.option("--quick", is_flag=True, help="Compare hashes, cells and plan only, without recomputing tables and verdicts.")
@click.option(
    "--rerun", type=click.IntRange(min=0), default=0, metavar="K", help="Compute K random cells again and compare their rows."
)
@click.option(
    "--budget",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Largest recorded time that the cells chosen by --rerun may have taken in total.",
)
@click.option("--seed", default=0, show_default=True, help="Seed of the random choice of --rerun.")
@PLUGINS
def audit(results, quick, rerun, budget, seed, plugins):
    """Check the run in RESULTS, a folder of one scale or a ZIP file of `pudle export`; exit with status 1 if anything is wrong."""
    from tabulate import tabulate

    from pudle.audit import archive, checks
    from pudle.audit.rerun import rerun as run_again

    with archive.opened(results) as root:
        chosen = list(plugins) or ([] if root != results else None)
        found = checks.audit(root, chosen, recompute=not quick)
        if rerun:
            again, lines = run_again(root, rerun, seed, chosen, budget)
            found += again
            click.echo("\n".join(lines), err=True)
    files: dict[tuple[str, str], list[str]] = {}
    for file, check, finding in found:
        files.setdefault((check, finding), []).append(file)
    table = [[f"{names[0]}{f' and {len(names) - 1} more' * (len(names) > 1)}", *key] for key, names in files.items()]
    if found:
        click.echo(tabulate(table, ["file", "check", "finding"], maxcolwidths=[60, None, 80]))
    click.echo(f"{results}: {len(found)} finding{'s' * (len(found) != 1)}" if found else f"{results}: all is well")
    sys.exit(int(bool(found)))


@click.command()
@click.argument("file", type=PathType())
@click.option("--row", type=int, metavar="N", help="Trace only the N-th row of a CSV file, counted from 1 after its header.")
def trace(file, row):
    """Print the origin of FILE or of one of its rows: table, rows, cells, settings, code, data, and commands to compute them again."""
    from pudle.audit.trace import trace as lines

    for line in lines(file, row):
        click.echo(line)


@click.command()
@click.argument("first", type=PathType())
@click.argument("second", type=PathType())
def diff(first, second):
    """Print the changes from the run FIRST to the run SECOND, which are folders or ZIP files; exit with status 1 if there are any."""
    from tabulate import tabulate

    from pudle.audit import archive
    from pudle.audit.diff import diff as compare
    from pudle.audit.run import Run

    with archive.opened(first) as old, archive.opened(second) as new:
        sections = compare(Run(old), Run(new))
    for name, rows in sections.items():
        click.echo(f"{name}\n\n{tabulate(rows, 'keys', maxcolwidths=50)}\n")
    if not sections:
        click.echo("nothing changed except times")
    sys.exit(int(bool(sections)))


@click.command()
@click.argument("results", type=FOLDER)
@click.argument("file", type=PathType())
def export(results, file):
    """Write the run in the folder RESULTS to one archive FILE.zip, with all files that an audit elsewhere needs."""
    from pudle.audit import archive
    from pudle.audit.run import Run

    click.echo(f"{file}: {archive.export(Run(results), file)} files")


COMMANDS = (manifest, audit, trace, diff, export)
