"""What an audit finds."""

from typing import NamedTuple


class Finding(NamedTuple):
    """Something that is not as it should be: in which file, what was checked, and what was found."""

    file: str
    check: str
    found: str
