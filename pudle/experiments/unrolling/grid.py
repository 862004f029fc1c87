"""One cell: all gradients are measured on the same draws, layer by layer."""

from collections.abc import Iterator, Mapping, Sequence

from pudle.harness.settings import Sources, refuse

VARIES = ()


def plan(settings: Mapping) -> Iterator[dict]:
    yield dict(settings)


def check(settings: Mapping, sources: Sources, where: Sequence[str]) -> None:
    if settings["sparsity"] > settings["n_atoms"]:
        refuse(sources, where, "sparsity", "n_atoms", settings, "a code cannot have more non-zeros than atoms")
