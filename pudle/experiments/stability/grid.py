"""A cell for each kind of thresholding and of acceleration."""

from collections.abc import Iterator, Mapping, Sequence

from pudle.harness.cells import grid
from pudle.harness.settings import Sources, refuse

VARIES = ("thresholding", "accelerations")


def plan(settings: Mapping) -> Iterator[dict]:
    yield from grid(settings, thresholding="thresholding", accelerations="accelerations")


def check(settings: Mapping, sources: Sources, where: Sequence[str]) -> None:
    if settings["sparsity"] > settings["n_atoms"]:
        refuse(sources, where, "sparsity", "n_atoms", settings, "a code cannot have more non-zeros than atoms")
