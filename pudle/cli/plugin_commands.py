"""The commands about plug-ins: ``pudle methods``, ``new-method``, ``check-method``, ``denoisers`` and ``check-denoiser``."""

import sys
from collections.abc import Iterable
from pathlib import Path

import click

from pudle import denoisers, methods
from pudle.cli.paths import PathType
from pudle.harness import plugins
from pudle.harness.plugin_checks import PromiseCheck

PLUGINS = click.option(
    "--plugin", "files", multiple=True, metavar="FILE", help="A Python file with your own plug-ins. May be given several times."
)


@click.command("methods")
@PLUGINS
def list_methods(files):
    """List all methods with name, description and source."""
    _list(methods.REGISTRY, files)


@click.command("denoisers")
@PLUGINS
def list_denoisers(files):
    """List all denoisers with name, description and source."""
    _list(denoisers.REGISTRY, files)


def _list(registry: plugins.Registry, files: Iterable[str]) -> None:
    from tabulate import tabulate

    plugins.load(files)
    classes = [registry.get(name) for name in registry.names()]
    rows = [(cls.name, " ".join(filter(None, [cls.description, cls.note])), cls.source) for cls in classes]
    click.echo(tabulate(rows, [registry.kind, "description", "source"], maxcolwidths=[None, 64, 44]))


@click.command("new-method")
@click.argument("name")
@click.option("--folder", type=PathType(), default=Path("."), show_default=True, help="Where to write the two files.")
def new_method(name, folder):
    """Write a template of a method NAME, which works, and its test."""
    from pudle.methods.template import write

    file, test = write(name, folder)
    click.echo(f"{file}: the method; edit it, then: pudle check-method {name} --plugin {file}")
    click.echo(f"{test}: its test; run it with: pytest {test}")


@click.command("check-method")
@click.argument("name")
@PLUGINS
def check_method(name, files):
    """Check that method NAME fulfils the contract of methods; exit with status 1 if it does not."""
    from pudle.methods.check_method import findings

    plugins.load(files)
    _print_findings(findings(name))


@click.command("check-denoiser")
@click.argument("name")
@PLUGINS
def check_denoiser(name, files):
    """Check that denoiser NAME fulfils the contract of denoisers; exit with status 1 if it does not."""
    from pudle.denoisers.check_denoiser import findings

    plugins.load(files)
    _print_findings(findings(name))


def _print_findings(findings: Iterable[PromiseCheck]) -> None:
    broken = 0
    for promise, kept, measured in findings:
        click.echo(f"{'pass' if kept else 'FAIL'}  {promise}: {measured}")
        broken += not kept
    sys.exit(int(broken > 0))


COMMANDS = (list_methods, new_method, check_method, list_denoisers, check_denoiser)
