"""The commands about methods: ``pudle methods``, ``pudle new-method`` and ``pudle check-method``."""

import sys
from pathlib import Path

import click

from pudle.methods import get, load_plugins, names

PLUGINS = click.option(
    "--plugin", "plugins", multiple=True, metavar="FILE", help="A Python file of methods of yours; may be given several times."
)


@click.command("methods")
@PLUGINS
def list_methods(plugins):
    """List all methods: name, what it does, who published it."""
    from tabulate import tabulate

    load_plugins(plugins)
    rows = [(name, " ".join(filter(None, [cls.description, cls.note])), cls.source) for name in names() for cls in [get(name)]]
    click.echo(tabulate(rows, ["method", "description", "source"], maxcolwidths=[None, 64, 44]))


@click.command("new-method")
@click.argument("name")
@click.option(
    "--folder", type=click.Path(path_type=Path), default=Path("."), show_default=True, help="Where to write the two files."
)
def new_method(name, folder):
    """Write a working method NAME and its test, to start from."""
    from pudle.methods.template import write

    file, test = write(name, folder)
    click.echo(f"{file}: the method; edit it, then: pudle check-method {name} --plugin {file}")
    click.echo(f"{test}: its test; run it with: pytest {test}")


@click.command("check-method")
@click.argument("name")
@PLUGINS
def check_method(name, plugins):
    """Check that method NAME keeps the contract; exit with status 1 if it does not."""
    from pudle.methods.contract import findings

    load_plugins(plugins)
    broken = 0
    for promise, kept, measured in findings(name):
        click.echo(f"{'pass' if kept else 'FAIL'}  {promise}: {measured}")
        broken += not kept
    sys.exit(int(broken > 0))


COMMANDS = (list_methods, new_method, check_method)
