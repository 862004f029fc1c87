"""The command ``pudle`` with the commands for users. The stages that the workflow calls are in :mod:`pudle.cli.stages`."""

import sys
import textwrap
from pathlib import Path

import click

from pudle import __version__, experiments
from pudle.cli import audit_commands, data_commands, plugin_commands, reference_commands
from pudle.cli import doctor as _doctor
from pudle.cli import stages as _stages
from pudle.cli.paths import PathType
from pudle.cli.stages import ROOT
from pudle.errors import PudleError
from pudle.experiments._shared.configuration import Configuration
from pudle.harness import files
from pudle.harness.settings import Model

SECTIONS = {
    "Results": ("claims", "audit", "trace", "diff", "export", "reference"),
    "Methods, denoisers and data": ("methods", "new-method", "check-method", "denoisers", "check-denoiser", "data"),
    "Set-up": ("doctor", "keys", "completion"),
    "Others": (),
    "Stages, which the workflow calls": (*(str(command.name) for command in _stages.COMMANDS), "manifest"),
}


class People(click.Group):
    """A group that lists its commands in sections.

    A :class:`PudleError` or an error of the operating system, such as a full disk, is shown as one paragraph and ends with status 2.
    """

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        named = {name for names in SECTIONS.values() for name in names}
        width = max(map(len, self.commands))
        for title, names in SECTIONS.items():
            listed = [*names, *(name for name in self.commands if title == "Others" and name not in named)]
            rows = [(name.ljust(width), self.commands[name].get_short_help_str(formatter.width - width - 6)) for name in listed]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def invoke(self, context: click.Context):
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")  # do not fail in a locale without λ
        try:
            return super().invoke(context)
        except PudleError as error:
            message = str(error)
        except OSError as error:
            if error.errno is None:
                raise
            message = f"{error.filename or 'a file'}: {error.strerror}"
        try:
            click.echo(f"Error: {message}", err=True)
        except OSError:  # standard error goes to a file on the same full disk
            click.echo(f"Error: {message}")
        sys.exit(2)


@click.group(cls=People, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__)
def main():
    """Unrolled dictionary learning, replicated, checked and extended.

    `snakemake` regenerates all results. The commands below show, check and extend them.
    """


for command in (
    *plugin_commands.COMMANDS,
    data_commands.data,
    *audit_commands.COMMANDS,
    _doctor.doctor,
    reference_commands.reference,
    *_stages.COMMANDS,
):
    main.add_command(command)


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str):
    """Print the script with which SHELL completes commands, options and values of pudle: `source <(pudle completion bash)`."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(main, {}, "pudle", "_PUDLE_COMPLETE").source())


@main.command()
@ROOT
@click.option("--scale", help="Name of the scale; replaces --root by results/SCALE.")
@click.option(
    "--describe", is_flag=True, help="Print each claim and how it is judged, as in docs/claims.md, instead of the verdicts."
)
@click.option(
    "--compare",
    nargs=2,
    type=PathType(file_okay=False),
    metavar="ROOT ROOT",
    help="Print the verdicts of two runs beside each other; exit with status 1 if any verdict differs.",
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
        raise PudleError(f"{path} does not exist yet; run `snakemake` first, or name another scale with --scale or --root")
    numbers = dict.fromkeys(("effect", "low", "high"), float) | {"n_seeds": int}
    columns = ["experiment", "claim", "kind", "verdict", "statement", "threshold", "note", *numbers]
    return files.read_csv(path, columns, dtype=numbers)


def described_claims() -> str:
    """Every claim with its formula, threshold, source and controls, as in ``docs/claims.md`` after the introduction."""
    from pudle.analysis.claim import KINDS
    from pudle.analysis.verdicts import BEYOND

    claims = [(experiment, claim) for experiment in experiments.EXPERIMENTS for claim in experiments.get(experiment).claims]
    sections = []
    for title, kinds in (("The paper and its theory", ("paper", "theory")), (BEYOND, ("ours",))):
        chosen = [(experiment, claim) for experiment, claim in claims if claim.kind in kinds]
        counts = ", ".join(f"{sum(claim.kind == kind for _, claim in chosen)} {KINDS[kind]}" for kind in kinds)
        sections += [
            f"## {title}",
            f"{len(chosen)} claims: {counts}." if len(kinds) > 1 else f"{len(chosen)} claims that we add.",
        ]
        for experiment in dict.fromkeys(experiment for experiment, _ in chosen):
            sections += [f"### {experiment}", *(_described(*each) for each in chosen if each[0] == experiment)]
    sections.append("## Negative controls")
    for experiment in filter(experiments.has_controls, experiments.EXPERIMENTS):
        lines = [f"- {control.id}: {control.statement}" for control in experiments.controls(experiment)]
        sections += [f"### Controls of {experiment}", "\n".join(lines)]
    return "\n".join(map(_filled, "\n\n".join(sections).split("\n")))


def _filled(line: str) -> str:
    """A line of Markdown, wrapped at 119 characters."""
    indent = "  " if line.startswith("- ") else ""
    return textwrap.fill(line, 119, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _described(experiment: str, claim) -> str:
    from pudle.analysis.claim import KINDS

    sizes = f"; at the paper's sizes only: {claim.at_paper_sizes}" if claim.at_paper_sizes else ""
    return (
        f"#### {claim.id}\n\n{claim.statement}\n\n"
        f"- {KINDS[claim.kind]}: {claim.place}\n"
        f"- holds if: {claim.effect} {claim.side} ({claim.why}){'; mean on the log scale' if claim.ratio else ''}\n"
        f"- from: {claim.rows}; at least {claim.min_seeds} seeds{sizes}\n"
        f"- figure: `figures/{experiment}/{claim.figure}`; negative control: {experiments.controls_of(experiment, claim, 'id')}"
    )


@main.command()
def keys():
    """Print every key of the configuration with its meaning, as a Markdown table."""
    click.echo(keys_table())


def keys_table() -> str:
    """The table of ``config/README.md``, generated from the models of the settings."""
    rows = []

    def walk(schema: dict, definitions: dict, prefix: str) -> None:
        for key, entry in schema["properties"].items():
            inside = definitions.get(entry.get("$ref", "").rpartition("/")[2])
            if inside and any("description" in part for part in inside["properties"].values()):
                walk(inside, definitions, f"{prefix}{key}.")
            elif "description" in entry:
                rows.append(f"| `{prefix}{key}` | {_kind(entry)} | {entry['description']} |")

    models: dict[str, type[Model]] = {"": Configuration}
    models |= {f"experiments.{name}.": experiments.get(name).settings for name in experiments.EXPERIMENTS}
    for prefix, model in models.items():
        schema = model.model_json_schema()
        walk(schema, schema.get("$defs", {}), prefix)
    return "\n".join(["| key | type or values | meaning |", "| --- | --- | --- |", *rows])


def _kind(entry: dict) -> str:
    """The type or the allowed values of a setting, from its JSON schema."""
    values = entry.get("enum") or entry.get("items", {}).get("enum") or ([entry["const"]] if "const" in entry else None)
    if "$ref" in entry:
        return "object"
    if values:
        return ", ".join(f"`{value}`" for value in values)
    return entry["type"] if "type" in entry else " or ".join(map(_kind, entry["anyOf"]))
