"""The findings of an audit."""

from typing import NamedTuple


class Finding(NamedTuple):
    """A failed check: the file, the name of the check, and a description."""

    file: str
    check: str
    found: str
