"""A cell for each number of layers, and for each at which dec is trained, too."""

from collections.abc import Iterator, Mapping, Sequence

from pudle.data import catalogue
from pudle.harness.cells import grid
from pudle.harness.settings import Sources, refuse

VARIES = ("estimator", "n_layers")


def plan(settings: Mapping) -> Iterator[dict]:
    fixed = {key: value for key, value in settings.items() if key != "dec_layers"}
    yield from grid(fixed, n_layers="n_layers")
    yield from grid(fixed | {"estimator": "dec", "n_layers": settings["dec_layers"]}, n_layers="n_layers")


def data_sets(settings: Mapping) -> list[str]:
    """Those that a cell reads."""
    return [settings["data_set"]]


def check(settings: Mapping, sources: Sources, where: Sequence[str]) -> None:
    if settings["estimator"] == "dec" and set(settings["dec_layers"]) & set(settings["n_layers"]):
        refuse(sources, where, "dec_layers", "n_layers", settings, "'estimator' is dec, and these are trained already")
    place = [*where, "data_set"]
    catalogue.refuse_missing([settings["data_set"]], sources.where(place), ".".join(place), catalogue.find_digits)
    if not settings["weight_decay"] and settings["ridge"] is None:
        refuse(sources, where, "ridge", "weight_decay", settings, "without weight decay ω must be given")
    for epoch in settings["drop_epochs"]:
        if epoch >= settings["epochs"]:
            refuse(sources, where, "drop_epochs", "epochs", settings, f"training ends before epoch {epoch}")
