"""A cell for each kind of true dictionary."""

from collections.abc import Iterator, Mapping, Sequence

from pudle.harness.cells import grid
from pudle.harness.settings import Sources, refuse

VARIES = ("dictionaries",)


def plan(settings: Mapping) -> Iterator[dict]:
    yield from grid(settings, dictionaries="dictionaries")


def check(settings: Mapping, sources: Sources, where: Sequence[str]) -> None:
    if settings["n_features"] & (settings["n_features"] - 1) and "two-bases" in settings["dictionaries"]:
        refuse(sources, where, "n_features", "dictionaries", settings, "Hadamard's basis needs a power of 2")
    if settings["low"] > settings["high"]:
        refuse(sources, where, "low", "high", settings, "the smallest size cannot be above the largest")
    if max(settings["sparsity"]) > 2 * settings["n_features"]:
        refuse(sources, where, "sparsity", "n_features", settings, "a code cannot have more non-zeros than atoms")
