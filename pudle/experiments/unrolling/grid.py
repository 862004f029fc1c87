"""One cell: all gradients are measured on the same draws, layer by layer."""

from collections.abc import Iterator, Mapping

VARIES = ()


def plan(settings: Mapping) -> Iterator[dict]:
    yield dict(settings)
