"""What a person types: ``pudle claims``; and what the workflow runs: one command for each of its stages."""

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import click

from pudle import __version__, experiments
from pudle.audit.run import Run, name_of
from pudle.cli import audit as _audit
from pudle.cli import data as _data
from pudle.cli import plugins as _plugins
from pudle.errors import PudleError, one_of
from pudle.experiments._shared.configuration import Configuration
from pudle.harness import cells, files

ROOT = click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("results/default"),
    show_default=True,
    help="Folder of one scale.",
)


class People(click.Group):
    """Shows a :class:`PudleError`, and what the system refuses (a full disk, say), as one paragraph and ends with status 2."""

    def invoke(self, context: click.Context):
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")  # a locale without λ is no reason to stop
        try:
            return super().invoke(context)
        except PudleError as error:
            told = str(error)
        except OSError as error:
            if error.errno is None:
                raise
            told = f"{error.filename or 'a file'}: {error.strerror}"
        try:
            click.echo(f"Error: {told}", err=True)
        except OSError:  # the log is on the same full disk
            click.echo(f"Error: {told}")
        sys.exit(2)


@click.group(cls=People, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main():
    """Unrolled dictionary learning, replicated, checked and extended. `snakemake` regenerates everything; these are the pieces."""


for command in (*_plugins.COMMANDS, _data.data, *_audit.COMMANDS):
    main.add_command(command)


@main.command()
@ROOT
@click.option("--scale", help="Name of the scale, in place of --root: results/SCALE.")
@click.option(
    "--describe", is_flag=True, help="Print what every claim says and how it is judged, as docs/claims.md does, instead."
)
@click.option(
    "--compare",
    nargs=2,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="ROOT ROOT",
    help="Set the verdicts of two runs side by side instead; exit with status 1 if two differ.",
)
def claims(root: Path, scale: str | None, describe: bool, compare: tuple[Path, Path] | None):
    """Print the verdicts; exit with status 1 if a claim of the paper or of its theory is contradicted."""
    if describe:
        click.echo(described_claims())
        return
    from pudle.analysis.verdicts import BEYOND, counted, is_ours, side_by_side, side_by_side_markdown, worded

    if compare:
        table = side_by_side(*map(_claims_of, compare))
        names = [path.name for path in compare] if compare[0].name != compare[1].name else list(map(str, compare))
        click.echo(side_by_side_markdown(table, names))
        sys.exit(int((table.agree == "no").any()))
    table = _claims_of(Path("results") / scale if scale else root)
    headline, ours = table[~is_ours(table)], table[is_ours(table)]
    for title, part in (("The paper and its theory", headline), (BEYOND, ours)):
        click.echo(f"{title}: {counted(part)}")
        for row in part.itertuples():
            effect = f"{row.effect:.3g} [{row.low:.3g}, {row.high:.3g}] {row.threshold}" if row.n_seeds else str(row.note)
            click.echo(f"{worded(row.kind, row.verdict):<18} {row.experiment}: {row.statement} ({effect})")
    sys.exit(int((headline.verdict == "CONTRADICTED").any()))


def _claims_of(root: Path):
    """The claims table of a run."""
    path = root / "claims.csv"
    if not path.exists():
        raise PudleError(f"{path}: no verdicts there yet; run `snakemake` first, or name another scale with --scale or --root")
    numbers = dict.fromkeys(("effect", "low", "high"), float) | {"n_seeds": int}
    columns = ["experiment", "claim", "kind", "verdict", "statement", "threshold", "note", *numbers]
    return files.read_csv(path, columns, dtype=numbers)


def described_claims() -> str:
    """Every claim with its formula, threshold, source and controls: what follows the introduction of ``docs/claims.md``."""
    from pudle.analysis.claim import KINDS
    from pudle.analysis.verdicts import BEYOND

    claims = [(experiment, claim) for experiment in experiments.EXPERIMENTS for claim in experiments.get(experiment).claims]
    sections = []
    for title, kinds in (("The paper and its theory", ("paper", "theory")), (BEYOND, ("ours",))):
        chosen = [(experiment, claim) for experiment, claim in claims if claim.kind in kinds]
        counts = ", ".join(f"{sum(claim.kind == kind for _, claim in chosen)} {KINDS[kind]}" for kind in kinds)
        sections += [
            f"## {title}",
            f"{len(chosen)} claims: {counts}." if len(kinds) > 1 else f"{len(chosen)} questions that we add.",
        ]
        for experiment in dict.fromkeys(experiment for experiment, _ in chosen):
            sections += [f"### {experiment}", *(_described(*each) for each in chosen if each[0] == experiment)]
    sections.append("## Negative controls")
    for experiment in filter(experiments.has_controls, experiments.EXPERIMENTS):
        told = [f"- {control.id}: {control.statement}" for control in experiments.controls(experiment)]
        sections += [f"### Controls of {experiment}", "\n".join(told)]
    return "\n\n".join(sections)


def _described(experiment: str, claim) -> str:
    from pudle.analysis.claim import KINDS

    return (
        f"#### {claim.id}\n\n{claim.statement}\n\n"
        f"- {KINDS[claim.kind]}: {claim.place}\n"
        f"- holds if: {claim.effect} {claim.side} ({claim.why}){'; mean on the log scale' if claim.ratio else ''}\n"
        f"- from: {claim.rows}; at least {claim.min_seeds} seeds\n"
        f"- figure: `figures/{experiment}/{claim.figure}`; negative control: {experiments.controls_of(experiment, claim, 'id')}"
    )


@main.command()
def keys():
    """Print every key of the configuration with its meaning, as a Markdown table."""
    click.echo(keys_table())


def keys_table() -> str:
    """The table that ``config/README.md`` shows, made from the models of the settings."""
    rows = []

    def walk(schema: dict, definitions: dict, prefix: str) -> None:
        for key, entry in schema["properties"].items():
            inside = definitions.get(entry.get("$ref", "").rpartition("/")[2])
            if inside and any("description" in part for part in inside["properties"].values()):
                walk(inside, definitions, f"{prefix}{key}.")
            elif "description" in entry:
                rows.append(f"| `{prefix}{key}` | {_kind(entry)} | {entry['description']} |")

    for prefix, model in (
        ("", Configuration),
        *((f"experiments.{name}.", experiments.get(name).settings) for name in experiments.EXPERIMENTS),
    ):
        schema = model.model_json_schema()
        walk(schema, schema.get("$defs", {}), prefix)
    return "\n".join(["| key | type or values | meaning |", "| --- | --- | --- |", *rows])


def _kind(entry: dict) -> str:
    """The type of a setting, or its values, from its JSON schema."""
    values = entry.get("enum") or entry.get("items", {}).get("enum") or ([entry["const"]] if "const" in entry else None)
    if "$ref" in entry:
        return "object"
    if values:
        return ", ".join(f"`{value}`" for value in values)
    return entry["type"] if "type" in entry else " or ".join(map(_kind, entry["anyOf"]))


@main.command()
@click.argument("root", type=click.Path(path_type=Path, file_okay=False))
@click.argument("name", metavar="EXPERIMENT/ID")
@click.option("--seed", type=int, help="Compute this seed alone, and keep it for the run of the cell that puts seeds together.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of this process, in place of those in the configuration.")
@click.option("--device", type=click.Choice(["cpu", "cuda", "auto"]), help="Where to compute, in place of the configuration's.")
@click.option(
    "--plugin", "plugins", multiple=True, metavar="FILE", help="A file of methods, in place of those in the configuration."
)
@click.option("--no-plugins", is_flag=True, help="Load no file of methods.")
@click.option("--fingerprint", default="", help="Fingerprint of the code, kept in cell.json.")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), help="Folder to write, in place of the cell's own.")
@click.option("--failed", help="Do not compute: record the cell as failed, for this reason.")
def cell(root, name, seed, threads, device, plugins, no_plugins, fingerprint, output, failed):
    """Compute the cell EXPERIMENT/ID, as planned by ROOT/config.json, and write its folder. Seeds that are finished are not computed again."""
    import torch

    from pudle.data import catalogue

    run = _planned(root, [] if no_plugins else list(plugins) or None)
    planned = {name_of(cell): cell for cell in run.cells}
    chosen = planned[one_of(name, planned, f"cell of {root / 'config.json'}")]
    _limit_threads(threads or run.config.get("threads", 1))
    torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms(True) would load the compiler
    torch.utils.deterministic.fill_uninitialized_memory = False  # filling what is written next anyway takes as long as the work
    compute = experiments.get(chosen.experiment).run.load()
    if failed:

        def compute(settings, seeds, record):
            record.fail(seeds, failed)

    folder, device = output or chosen.folder(root), device or run.config.get("device", "cpu")
    if seed is None:
        status = cells.run(
            chosen,
            folder,
            compute,
            fingerprint=fingerprint,
            code=experiments.code(chosen),
            data=catalogue.roots(experiments.data_sets(chosen)),
            device=device,
            computing=lambda: _computing_on(device),
        )
    else:
        one_of(str(seed), map(str, chosen.seeds), f"seed of {name}")
        with _computing_on(device):
            computed = cells.compute(chosen, seed, folder, compute, fingerprint, catalogue.roots(experiments.data_sets(chosen)))
        cells.keep(chosen, folder, seed, computed, fingerprint, device)
        status = f"seed {seed} computed"
    click.echo(f"{name}: {status}", err=True)


@main.command()
@click.argument("experiment")
@ROOT
def tables(experiment: str, root: Path):
    """Summarise the rows of EXPERIMENT: ROOT/tables/EXPERIMENT.csv."""
    table = _results(experiment, root).summarise()
    files.replace(root / "tables" / f"{experiment}.csv", lambda path: table.to_csv(path, index=False))


@main.command()
@click.argument("content")
@ROOT
def configuration(content: str, root: Path):
    """Keep the merged configuration of a run, JSON text CONTENT: ROOT/config.json."""
    files.write(root / "config.json", content)


@main.command()
@ROOT
def coverage(root: Path):
    """List every planned cell with its status and settings: ROOT/cells.csv."""
    from pudle.analysis.tables import coverage

    table = coverage(_plan(root)[1], root)
    files.replace(root / "cells.csv", lambda path: table.to_csv(path, index=False))


@main.command()
@click.argument("experiment")
@ROOT
def figures(experiment: str, root: Path):
    """Draw the figures of EXPERIMENT as PDF, PNG and SVG, each with the CSV of what is plotted: ROOT/figures/EXPERIMENT/."""
    from pudle.analysis import style

    results, scale = _results(experiment, root), _plan(root)[0]["scale"]
    n_seeds = len(results.cells[0].seeds)
    folder = root / "figures" / experiment
    drawn = experiments.get(experiment).figures
    for figure in drawn:
        image, plotted = style.draw(figure, results)
        style.save(image, plotted, folder / figure.name, f"{scale} scale, n = {n_seeds} seed{'s' * (n_seeds > 1)}")
    files.write(folder / "captions.md", style.captions(drawn, scale, n_seeds))


@main.command()
@ROOT
def verdicts(root: Path):
    """Judge every claim on the rows: ROOT/claims.csv and ROOT/claims.md."""
    from pudle.analysis.tables import Results
    from pudle.analysis.verdicts import judge_all, markdown

    merged, planned = _plan(root)
    claims = [(experiment, claim) for experiment in experiments.EXPERIMENTS for claim in experiments.get(experiment).claims]
    found = {experiment: Results(experiment, planned, root) for experiment in experiments.EXPERIMENTS}
    table = judge_all((experiment, claim, found[experiment]) for experiment, claim in claims)
    table["controls"] = [experiments.controls_of(*claim) for claim in claims]
    files.replace(root / "claims.csv", lambda path: table.to_csv(path, index=False))
    files.write(root / "claims.md", markdown(table, merged["scale"]))


@main.command()
@click.argument("experiment")
@ROOT
def controls(experiment: str, root: Path):
    """Run the negative controls of EXPERIMENT: ROOT/controls/EXPERIMENT.csv. Exit with status 2 if one lets its claim stand."""
    import pandas as pd

    from pudle.analysis.negative_controls import refuse_blind, verdicts

    _limit_threads(1)
    controlled = list(filter(experiments.has_controls, experiments.EXPERIMENTS))
    spoiled = experiments.controls(one_of(experiment, controlled, "experiment with negative controls"))
    judged = experiments.get(experiment).claims
    table = pd.DataFrame([row for control in spoiled for row in verdicts(control, judged)])
    click.echo(table.to_markdown(index=False, floatfmt=".3g"), err=True)
    refuse_blind(experiment, table)
    files.replace(root / "controls" / f"{experiment}.csv", lambda path: table.to_csv(path, index=False))


@main.command()
@ROOT
def published(root: Path):
    """Set published values and curves beside ours: ROOT/published.csv, ROOT/published_curves.csv, and both as .md."""
    from pudle.analysis.published import compare, compare_curves, curves, curves_markdown, markdown, values
    from pudle.analysis.tables import Results

    merged, planned = _plan(root)
    asked = {*values().experiment, *curves().experiment}
    found = {experiment: Results(experiment, planned, root) for experiment in sorted(asked)}
    rows, whole = ({experiment: getattr(found[experiment], part) for experiment in found} for part in ("rows", "whole"))
    table = compare(rows, merged["scale"], whole)
    files.replace(root / "published.csv", lambda path: table.to_csv(path, index=False))
    files.write(root / "published.md", markdown(table, merged["scale"]))
    along = compare_curves(whole)
    files.replace(root / "published_curves.csv", lambda path: along.to_csv(path, index=False))
    files.write(root / "published_curves.md", curves_markdown(along, merged["scale"]))


@main.command()
@ROOT
def report(root: Path):
    """Make one page of everything: ROOT/report/index.html, which opens without a network."""
    from pudle.analysis.report import page

    merged, planned = _plan(root)
    for name in ("claims", "published", "published_curves", "cells"):
        if not (root / f"{name}.csv").exists():
            raise PudleError(f"{root / name}.csv: not there yet; run `snakemake` first")
    figures = {experiment: experiments.get(experiment).figures for experiment in experiments.EXPERIMENTS}
    files.write(root / "report" / "index.html", page(root, merged["scale"], planned, figures))


def _limit_threads(threads: int) -> None:
    """Torch's threads, and those of every BLAS."""
    import scipy.linalg  # noqa: F401 (with numpy's, every BLAS is now loaded that can be limited)
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    threadpool_limits(threads)


def _computing_on(device: str) -> AbstractContextManager:
    """Torch's default device while a cell runs; on a GPU, too, in full precision and the same in every run.

    CUDA is started here and nowhere before: it does not survive a fork, and a job is one.
    """
    import torch

    if device == "cpu" or not torch.cuda.is_available():
        if device == "cuda":
            raise PudleError("--device cuda: torch finds no GPU that it can use here; give cpu, or auto")
        return nullcontext()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else products are not deterministic
    torch.backends.fp32_precision = "ieee"  # else convolutions are in TF32, with ten bits
    torch.backends.cudnn.conv.fp32_precision = torch.backends.cuda.matmul.fp32_precision = "ieee"  # torch 2.11 needs both
    return torch.device("cuda")


def _planned(root: Path, plugins: list[str] | None = None) -> Run:
    """The run that the configuration under ``root`` plans."""
    path = root / "config.json"
    if not path.exists():
        raise PudleError(f"{path}: not there; run `snakemake` first, or name another scale with --root")
    return Run(root, plugins)


def _plan(root: Path) -> tuple[dict, list[cells.Cell]]:
    """The configuration kept under ``root``, and its cells."""
    run = _planned(root)
    return run.config, run.cells


def _results(experiment: str, root: Path):
    from pudle.analysis.tables import Results

    return Results(one_of(experiment, experiments.EXPERIMENTS, "experiment"), _plan(root)[1], root)
