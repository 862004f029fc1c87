"""One cell for each kind of true dictionary."""

from collections.abc import Iterator, Mapping

from pudle.harness.cells import grid

VARIES = ("dictionaries",)


def plan(settings: Mapping) -> Iterator[dict]:
    yield from grid(settings, dictionaries="dictionaries")
