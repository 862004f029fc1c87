"""The commands about image data: ``pudle data list``, ``pudle data check`` and ``pudle data fetch``."""

import sys

import click

from pudle.cli.paths import PathType
from pudle.data import catalogue

ROOT = click.option(
    "--root",
    type=PathType(file_okay=False),
    help="Folder with one sub-folder per data set. Default: the environment variable PUDLE_DATA, or else data.",
)


@click.group("data")
def data():
    """List, check and download image data sets."""


@data.command("list")
@ROOT
def list_sets(root):
    """List all data sets and whether their files are present."""
    root = root or catalogue.data_root()
    for name in catalogue.BUNDLED:
        click.echo(f"{name:<14} present  {len(catalogue.BUNDLED[name])} photographs that scikit-image contains")
    for name, what in (catalogue.FOLDERS | catalogue.DIGITS).items():
        click.echo(f"{name:<14} {'present' if catalogue.is_there(name, root) else 'missing'}  {what}")
    click.echo(f"{catalogue.OWN + 'PATH':<14}          a folder with your own images")


@data.command()
@click.argument("name")
@ROOT
def check(name, root):
    """Compare number, sizes and hashes of the images of data set NAME with its list; exit with status 1 if they differ."""
    from pudle.data.inventory import check

    found = check(name, root or catalogue.data_root())
    sizes = ", ".join(f"{count} of {size}" for size, count in list(found.sizes.items())[:10])
    more = f" and {len(found.sizes) - 10} other sizes" if len(found.sizes) > 10 else ""
    click.echo(f"{name}: {found.count} images; pixels: {sizes}{more}")
    for line in found.wrong:
        click.echo(line)
    if found.listed:
        click.echo("files differ from the list" if found.wrong else "all files match the list (names and SHA-256 sums)")
    else:
        click.echo("this folder is your own; there is no list to compare it with")
    sys.exit(int(bool(found.wrong)))


@data.command()
@click.argument("name")
@ROOT
@click.option(
    "--source", help="Address of a folder with the files (ends in /) or of a tar archive; replaces the original source."
)
def fetch(name, root, source):
    """Download data set NAME from its original source; an interrupted download continues."""
    from pudle.data.fetch import fetch

    folder = fetch(name, root or catalogue.data_root(), source, say=click.echo)
    click.echo(f"{folder}: complete")
