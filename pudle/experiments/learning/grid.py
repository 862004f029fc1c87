"""A cell for each number of layers and each gradient."""

from collections.abc import Iterator, Mapping, Sequence

from pudle.harness.cells import grid
from pudle.harness.settings import Sources, refuse

VARIES = ("n_layers", "estimator")


def plan(settings: Mapping) -> Iterator[dict]:
    return grid(settings, n_layers="n_layers", estimator="estimators")


def check(settings: Mapping, sources: Sources, where: Sequence[str]) -> None:
    if settings["sparsity"] > settings["n_atoms"]:
        refuse(sources, where, "sparsity", "n_atoms", settings, "a code cannot have more non-zeros than atoms")
