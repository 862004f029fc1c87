"""The type of all options and arguments that are paths."""

import os
from pathlib import Path

import click


class PathType(click.Path):
    """A path as a :class:`pathlib.Path`. A leading ``~`` is the home folder, in ``--root=~/runs`` too, which shells do not expand."""

    def __init__(self, **options):
        super().__init__(path_type=Path, **options)

    def convert(self, value, param, ctx):
        return super().convert(os.path.expanduser(value), param, ctx)
