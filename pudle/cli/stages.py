"""The stages of a run, as commands that the workflow calls."""

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import click

from pudle import experiments
from pudle.audit.run import Run, name_of
from pudle.cli.paths import PathType
from pudle.errors import PudleError, one_of
from pudle.harness import cells, files, plan

ROOT = click.option(
    "--root",
    type=PathType(file_okay=False),
    default=Path("results/default"),
    show_default=True,
    help="Folder of one scale.",
)


def _starting(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    return [name for name in experiments.EXPERIMENTS if name.startswith(typed)]


EXPERIMENT = click.argument("experiment", shell_complete=_starting)


@click.command()
@click.argument("root", type=PathType(file_okay=False))
@click.argument("name", metavar="EXPERIMENT/ID")
@click.option("--seed", type=int, help="Compute this seed only. A later run of the cell without this option merges the seeds.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of this process. Default: those in the configuration.")
@click.option("--device", type=click.Choice(["cpu", "cuda", "auto"]), help="Device. Default: that in the configuration.")
@click.option("--plugin", "plugins", multiple=True, metavar="FILE", help="A plug-in file; replaces those in the configuration.")
@click.option("--no-plugins", is_flag=True, help="Load no plug-in file.")
@click.option("--fingerprint", default="", help="Fingerprint of the code, which is written to cell.json.")
@click.option("--output", type=PathType(file_okay=False), help="Folder to write. Default: that of the cell.")
@click.option("--failed", metavar="REASON", help="Record the cell as failed for this reason instead of computing it.")
def cell(root, name, seed, threads, device, plugins, no_plugins, fingerprint, output, failed):
    """Compute the cell EXPERIMENT/ID of ROOT/plan.json and write its folder. Finished seeds are not computed again."""
    import torch

    from pudle.data import catalogue

    run = _run(root, [] if no_plugins else list(plugins) or None)
    planned = {name_of(cell): cell for cell in run.cells}
    chosen = planned[one_of(name, planned, f"cell of {root / plan.PLAN}")]
    _limit_threads(threads or run.config.get("threads", 1))
    torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms(True) would load the compiler
    # memory is overwritten anyway, and filling it takes as long as the work
    torch.utils.deterministic.fill_uninitialized_memory = False
    compute = experiments.get(chosen.experiment).run.load()
    if failed:

        def compute(settings, seeds, record):
            record.fail(seeds, failed)

    folder, device = output or chosen.folder(root), device or run.config.get("device", "cpu")
    data_sets = experiments.data_sets(chosen)
    contents = {key: value for name in data_sets for key, value in catalogue.contents(name, catalogue.data_root()).items()}
    if seed is None:
        status = cells.run(
            chosen,
            folder,
            compute,
            fingerprint=fingerprint,
            code=experiments.code(chosen),
            data=catalogue.roots(data_sets),
            contents=contents,
            device=device,
            computing=lambda: _computing_on(device),
        )
    else:
        one_of(str(seed), map(str, chosen.seeds), f"seed of {name}")
        with _computing_on(device):
            computed = cells.compute(chosen, seed, folder, compute, fingerprint, catalogue.roots(data_sets), contents)
        cells.keep(chosen, folder, seed, computed, fingerprint, device, contents)
        status = f"seed {seed} computed"
    click.echo(f"{name}: {status}", err=True)


@click.command()
@EXPERIMENT
@ROOT
def tables(experiment: str, root: Path):
    """Summarise the rows of EXPERIMENT in ROOT/tables/EXPERIMENT.csv."""
    table = _results(experiment, root).summarise()
    files.replace(root / "tables" / f"{experiment}.csv", lambda path: table.to_csv(path, index=False))


@click.command()
@click.argument("content")
@ROOT
def configuration(content: str, root: Path):
    """Write CONTENT, the merged configuration of a run as JSON text, to ROOT/config.json, and its cells to ROOT/plan.json."""
    files.write(root / "config.json", content)
    files.write(root / plan.PLAN, plan.text(experiments.plan(json.loads(content))))


@click.command()
@ROOT
def coverage(root: Path):
    """List every planned cell with its status and settings in ROOT/cells.csv."""
    from pudle.analysis.tables import coverage

    table = coverage(_run(root).cells, root)
    files.replace(root / "cells.csv", lambda path: table.to_csv(path, index=False))


@click.command()
@EXPERIMENT
@ROOT
def figures(experiment: str, root: Path):
    """Draw the figures of EXPERIMENT as PDF, PNG and SVG, each with a CSV file of the plotted data, in ROOT/figures/EXPERIMENT/."""
    from pudle.analysis import style

    results, scale = _results(experiment, root), _run(root).scale
    folder = root / "figures" / experiment
    drawn = experiments.get(experiment).figures
    for figure in _progress(drawn, f"figures of {experiment}"):
        image, plotted = style.draw(figure, results)
        style.save(image, plotted, folder / figure.name, f"{scale} scale, {results.stamp}")
    files.write(folder / "captions.md", style.captions(drawn, scale, results.stamp))


@click.command()
@ROOT
def verdicts(root: Path):
    """Judge every claim on the rows and write ROOT/claims.csv and ROOT/claims.md."""
    from pudle.analysis.tables import Results
    from pudle.analysis.verdicts import judge_all, markdown

    run = _run(root)
    claims = [(experiment, claim) for experiment in experiments.EXPERIMENTS for claim in experiments.get(experiment).claims]
    found = {experiment: Results(experiment, run.cells, root) for experiment in experiments.EXPERIMENTS}
    table = judge_all((experiment, claim, found[experiment]) for experiment, claim in claims)
    table["controls"] = [experiments.controls_of(*claim) for claim in claims]
    files.replace(root / "claims.csv", lambda path: table.to_csv(path, index=False))
    files.write(root / "claims.md", markdown(table, run.scale))


@click.command()
@EXPERIMENT
@ROOT
def controls(experiment: str, root: Path):
    """Run the negative controls of EXPERIMENT and write ROOT/controls/EXPERIMENT.csv. Exit with status 2 if a control does not
    contradict its claim."""
    import pandas as pd

    from pudle.analysis.negative_controls import require_power, verdicts

    _limit_threads(1)
    controlled = list(filter(experiments.has_controls, experiments.EXPERIMENTS))
    chosen = experiments.controls(one_of(experiment, controlled, "experiment with negative controls"))
    judged = experiments.get(experiment).claims
    table = pd.DataFrame(
        [row for control in _progress(chosen, f"controls of {experiment}") for row in verdicts(control, judged)]
    )
    click.echo(table.to_markdown(index=False, floatfmt=".3g"), err=True)
    require_power(experiment, table)
    files.replace(root / "controls" / f"{experiment}.csv", lambda path: table.to_csv(path, index=False))


@click.command()
@ROOT
def published(root: Path):
    """Compare published values and curves with ours and write ROOT/published.csv, ROOT/published_curves.csv and both as .md."""
    from pudle.analysis.comparison import compare, compare_curves, curves, curves_markdown, markdown, values
    from pudle.analysis.tables import Results

    run = _run(root)
    asked = {*values().experiment, *curves().experiment}
    found = {experiment: Results(experiment, run.cells, root) for experiment in sorted(asked)}
    rows, completed = ({experiment: getattr(found[experiment], part) for experiment in found} for part in ("rows", "completed"))
    table = compare(rows, run.scale, completed)
    files.replace(root / "published.csv", lambda path: table.to_csv(path, index=False))
    files.write(root / "published.md", markdown(table, run.scale))
    along = compare_curves(completed)
    files.replace(root / "published_curves.csv", lambda path: along.to_csv(path, index=False))
    files.write(root / "published_curves.md", curves_markdown(along, run.scale))


@click.command()
@ROOT
def report(root: Path):
    """Write the report, one page with all results that needs no network: ROOT/report/index.html."""
    from pudle.analysis.report import page

    run = _run(root)
    for name in ("claims", "published", "published_curves", "cells"):
        if not (root / f"{name}.csv").exists():
            raise PudleError(f"{root / name}.csv does not exist yet; run `snakemake` first")
    figures = {experiment: experiments.get(experiment).figures for experiment in experiments.EXPERIMENTS}
    files.write(root / "report" / "index.html", page(root, run.scale, run.cells, figures))


def _progress(items: Sequence, what: str) -> Iterable:
    """``items``, with a progress bar on standard error if it is a terminal."""
    from tqdm import tqdm

    return tqdm(items, desc=what, disable=None)


def _limit_threads(threads: int) -> None:
    """Limit the threads of torch and of every BLAS."""
    import scipy.linalg  # noqa: F401 (threadpool_limits affects only libraries that are loaded)
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    threadpool_limits(threads)


def _computing_on(device: str) -> AbstractContextManager:
    """A context that makes ``device`` torch's default while a cell runs. On a GPU results have full precision and are reproducible.

    CUDA must not be initialised earlier: jobs are forked processes, and CUDA does not survive a fork.
    """
    import torch

    if device == "cpu" or not torch.cuda.is_available():
        if device == "cuda":
            raise PudleError("--device cuda: torch finds no GPU that it can use here; give cpu, or auto")
        return nullcontext()
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # otherwise products are not deterministic
    torch.backends.fp32_precision = "ieee"  # otherwise convolutions use TF32, with mantissas of ten bits
    torch.backends.cudnn.conv.fp32_precision = torch.backends.cuda.matmul.fp32_precision = "ieee"  # torch 2.11 needs both
    return torch.device("cuda")


def _run(root: Path, plugins: list[str] | None = None) -> Run:
    """The run in the folder ``root``."""
    path = root / "config.json"
    if not path.exists():
        raise PudleError(f"{path} does not exist; run `snakemake` first, or name another scale with --root")
    return Run(root, plugins)


def _results(experiment: str, root: Path):
    from pudle.analysis.tables import Results

    return Results(one_of(experiment, experiments.EXPERIMENTS, "experiment"), _run(root).cells, root)


COMMANDS = (configuration, cell, tables, coverage, figures, verdicts, controls, published, report)
