"""The commands about reference results: ``pudle reference plan``, ``update``, ``show`` and ``take``."""

from collections.abc import Mapping

import click

from pudle import experiments
from pudle.audit.run import Run, name_of
from pudle.cli.paths import PathType
from pudle.data import catalogue
from pudle.errors import PudleError, one_of
from pudle.harness import reference as kept
from pudle.harness import settings

HOME = experiments.HOME
FOLDER = click.option(
    "--folder",
    type=PathType(file_okay=False),
    default=HOME / "results" / "reference",
    help="Folder of the reference results. Default: results/reference of the checkout.",
)


@click.group("reference")
def reference():
    """Show and update reference results, which are finished cells that a run takes instead of computing them."""


@reference.command()
@click.argument("overlays", nargs=-1, type=PathType(exists=True, dir_okay=False))
@FOLDER
def plan(overlays, folder):
    """Write the list of cells that the reference should hold: those of config/config.yaml with OVERLAYS, such as config/paper.yaml."""
    config = settings.read(HOME / "config" / "config.yaml")
    for overlay in overlays:
        config = _merged(config, settings.read(overlay))
    folder.mkdir(parents=True, exist_ok=True)
    config["reference"] = str(folder)  # with a reference, data sets may be missing
    experiments.validate(config, [HOME / "config" / "config.yaml", *overlays])
    found = kept.Reference(folder)
    found.plan(experiments.plan(config))
    click.echo(f"{folder}: {sum(map(len, found.planned.values()))} cells are planned")
    for name in found.unplanned():
        click.echo(f"{name} is no longer planned; `pudle reference update --prune RUN` removes it")


@reference.command()
@click.argument("run", type=PathType(file_okay=False, exists=True))
@FOLDER
@click.option("--prune", is_flag=True, help="Remove the cells that are no longer planned.")
def update(run, folder, prune):
    """Copy the finished cells of RUN into the reference.

    These are all cells under RUN/cells that the reference plans, regardless of the configuration that computed them. If the reference has
    no plan, that of RUN is written first.
    """
    found = kept.Reference(folder)
    if not found.planned:
        found.plan(Run(run).cells)
    chosen = []
    for path in sorted((run / "cells").glob("*/*/cell.json")):
        record = kept.finished(path)
        if record is None:
            continue
        if record["id"] in found.planned.get(record["experiment"], {}):
            chosen.append((path.parent, experiments.get(record["experiment"]).small_arrays))
        else:
            click.echo(f"{record['experiment']}/{record['id']} is not planned for the reference and was not copied")
    for line in found.update(chosen):
        click.echo(line)
    if prune:
        for name in found.prune():
            click.echo(f"{name} was removed, since it is no longer planned")
    click.echo(_counts(found))


@reference.command()
@click.argument("names", nargs=-1)
@FOLDER
def show(names, folder):
    """List the cells that the reference holds and those that were not run, for all experiments or for NAMES."""
    found = kept.Reference(folder)
    chosen = [one_of(name, experiments.EXPERIMENTS, "experiment") for name in names] or list(experiments.EXPERIMENTS)
    for name in sorted(found.kept):
        for run in found.kept[name]:
            if run.record["experiment"] in chosen:
                seeds = ",".join(map(str, run.record["seeds"]))
                line = f"{run.record['status']}, seeds {seeds}, {run.record.get('seconds', 0):.0f} s, {kept.short(run.commit)}"
                click.echo(f"{name}: {line}, {run.path}")
    for experiment, cell, seeds in found.not_run():
        if experiment in chosen:
            click.echo(f"{experiment}/{cell}: {kept.NOT_RUN}, seeds {','.join(map(str, seeds))}")
    click.echo(_counts(found))


@reference.command()
@click.argument("experiment")
@click.option("--root", type=PathType(file_okay=False), required=True, help="Folder of one scale.")
@click.option("--folder", type=PathType(file_okay=False), required=True, help="Folder of the reference results.")
@click.option("--cells", "ids", required=True, help="Ids of the cells, separated by commas.")
def take(experiment, root, folder, ids):
    """Copy cells of EXPERIMENT from the reference into the run under ROOT, and mark them as taken (a job of the workflow)."""
    run = Run(root)
    planned = {cell.id: cell for cell in run.of(one_of(experiment, experiments.EXPERIMENTS, "experiment"))}
    chosen = [planned[one_of(name, planned, "cell")] for name in ids.split(",")]
    found = kept.Reference(folder, str(run.config["reference"]))
    offers = kept.settle(chosen, found, lambda cell: False, missing_data)
    for cell in chosen:
        if name_of(cell) not in offers:
            raise PudleError(f"{folder} no longer holds {name_of(cell)}; run `snakemake` again")
        offers[name_of(cell)].write(cell.folder(root))
    click.echo(f"{experiment}: {len(chosen)} cells taken from {folder}", err=True)


def missing_data(cell) -> str:
    """The first data set that ``cell`` needs and that is missing here; "" if there is none."""
    return next((name for name in experiments.data_sets(cell) if not catalogue.is_there(name, catalogue.data_root())), "")


def _counts(found: kept.Reference) -> str:
    left = list(found.not_run())
    lacking = f"{len(left)} planned cells were not run, or not with all seeds" if left else "all planned cells are present"
    return f"{found.folder}: {len(found.kept)} cells, {found.size()} bytes; {lacking}"


def _merged(base: Mapping, overlay: Mapping) -> dict:
    """``base`` with the changes of ``overlay``, merged as Snakemake merges configurations."""
    both = {key: _merged(base[key], value) for key, value in overlay.items()
            if isinstance(value, Mapping) and isinstance(base.get(key), Mapping)}  # fmt: skip
    return {**base, **overlay, **both}
