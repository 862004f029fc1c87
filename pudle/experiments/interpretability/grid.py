"""A cell for each number of layers."""

from collections.abc import Iterator, Mapping, Sequence

from pudle.data import catalogue
from pudle.harness.cells import grid
from pudle.harness.settings import Sources, refuse

VARIES = ("n_layers",)


def plan(settings: Mapping) -> Iterator[dict]:
    yield from grid(settings, n_layers="n_layers")


def data_sets(settings: Mapping) -> list[str]:
    """Those that a cell reads."""
    return [settings["data_set"]]


def check(settings: Mapping, sources: Sources, where: Sequence[str]) -> None:
    place = [*where, "data_set"]
    catalogue.refuse_missing([settings["data_set"]], sources.where(place), ".".join(place), catalogue.find_digits)
    if not settings["weight_decay"] and settings["ridge"] is None:
        refuse(sources, where, "ridge", "weight_decay", settings, "without weight decay ω must be given")
    for epoch in settings["drop_epochs"]:
        if epoch >= settings["epochs"]:
            refuse(sources, where, "drop_epochs", "epochs", settings, f"training ends before epoch {epoch}")
