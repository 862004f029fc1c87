"""The commands about image data: ``pudle data list``, ``pudle data check`` and ``pudle data fetch``."""

import sys
from pathlib import Path

import click

from pudle.data import catalogue

ROOT = click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder with one sub-folder per data set; PUDLE_DATA, or data, unless given.",
)


@click.group("data")
def data():
    """Image data sets: what there is, whether it is complete, and where it comes from."""


@data.command("list")
@ROOT
def list_sets(root):
    """List all data sets, and whether they are there."""
    root = root or catalogue.data_root()
    for name in catalogue.BUNDLED:
        click.echo(f"{name:<14} there    inside scikit-image: {len(catalogue.BUNDLED[name])} photographs")
    for name, what in (catalogue.FOLDERS | catalogue.DIGITS).items():
        click.echo(f"{name:<14} {'there  ' if catalogue.is_there(name, root) else 'missing'}  {what}")
    click.echo(f"{catalogue.OWN + 'PATH':<14}          any folder of images of yours")


@data.command()
@click.argument("name")
@ROOT
def check(name, root):
    """Count, measure and hash the images of data set NAME, against its list; exit with status 1 if they are not those."""
    from pudle.data.inventory import check

    found = check(name, root or catalogue.data_root())
    sizes = ", ".join(f"{count} of {size}" for size, count in list(found.sizes.items())[:10])
    more = f" and {len(found.sizes) - 10} other sizes" if len(found.sizes) > 10 else ""
    click.echo(f"{name}: {found.count} images; pixels: {sizes}{more}")
    for line in found.wrong:
        click.echo(line)
    if found.listed:
        click.echo("not as listed" if found.wrong else "every file is as listed (names and SHA-256 sums)")
    else:
        click.echo("there is no list to hold them against: the folder is yours")
    sys.exit(int(bool(found.wrong)))


@data.command()
@click.argument("name")
@ROOT
@click.option(
    "--source", help="Address of a folder of the files (ends in /) or of a tar archive, in place of the original one."
)
def fetch(name, root, source):
    """Download data set NAME from its original source; goes on where it was cut off."""
    from pudle.data.fetch import fetch

    folder = fetch(name, root or catalogue.data_root(), source, say=click.echo)
    click.echo(f"{folder}: complete")
