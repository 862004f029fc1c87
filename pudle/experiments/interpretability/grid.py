"""A cell for each number of layers, and for each at which dec is trained, too."""

from collections.abc import Iterator, Mapping, Sequence

from pudle.data import catalogue
from pudle.harness.cells import grid
from pudle.harness.settings import Sources, refuse

VARIES = ("data_set", "estimator", "n_layers")


def plan(settings: Mapping) -> Iterator[dict]:
    fixed = {key: value for key, value in settings.items() if key not in ("dec_layers", "dec")}
    yield from grid(fixed, n_layers="n_layers")
    yield from grid(fixed | settings["dec"] | {"estimator": "dec", "n_layers": settings["dec_layers"]}, n_layers="n_layers")


def data_sets(settings: Mapping) -> list[str]:
    """Those that a cell reads."""
    return [settings["data_set"]]


def check(settings: Mapping, sources: Sources, where: Sequence[str]) -> None:
    if settings["estimator"] == "dec" and set(settings["dec_layers"]) & set(settings["n_layers"]):
        refuse(sources, where, "dec_layers", "n_layers", settings, "'estimator' is dec, and these are trained already")
    _check(settings, sources, where, {})
    if settings["dec_layers"]:
        _check({**settings, **settings["dec"]}, sources, where, settings["dec"])


def _check(settings: Mapping, sources: Sources, where: Sequence[str], changes: Mapping) -> None:
    """``changes`` are those of ``settings`` that stand under ``dec``."""
    of_dec = [*where, "dec"]
    place = [*(of_dec if "data_set" in changes else where), "data_set"]
    catalogue.refuse_missing([settings["data_set"]], sources.where(place), ".".join(place), catalogue.find_digits)
    if not settings["weight_decay"] and settings["ridge"] is None:
        reason = "without weight decay ω must be given"
        refuse(sources, where, "ridge", "weight_decay", settings, reason, changes, of_dec)
    for epoch in settings["drop_epochs"]:
        if epoch >= settings["epochs"]:
            reason = f"training ends before epoch {epoch}"
            refuse(sources, where, "drop_epochs", "epochs", settings, reason, changes, of_dec)
