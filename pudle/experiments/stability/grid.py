"""One cell for each kind of thresholding and acceleration."""

from collections.abc import Iterator, Mapping

from pudle.harness.cells import grid

VARIES = ("thresholding", "accelerations")


def plan(settings: Mapping) -> Iterator[dict]:
    yield from grid(settings, thresholding="thresholding", accelerations="accelerations")
