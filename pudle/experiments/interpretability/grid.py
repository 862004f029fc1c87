"""One cell for each number of layers, and one for each number of layers at which dec is trained as well."""

from collections.abc import Iterator, Mapping

from pudle.harness.cells import grid

VARIES = ("data_set", "estimator", "n_layers")


def plan(settings: Mapping) -> Iterator[dict]:
    fixed = {key: value for key, value in settings.items() if key not in ("dec_layers", "dec")}
    yield from grid(fixed, n_layers="n_layers")
    yield from grid(fixed | settings["dec"] | {"estimator": "dec", "n_layers": settings["dec_layers"]}, n_layers="n_layers")


def data_sets(settings: Mapping) -> list[str]:
    """The names of the data sets that a cell reads."""
    return [settings["data_set"]]
