"""One cell for each number of layers and gradient."""

from collections.abc import Iterator, Mapping

from pudle.harness.cells import grid

VARIES = ("n_layers", "estimator")


def plan(settings: Mapping) -> Iterator[dict]:
    return grid(settings, n_layers="n_layers", estimator="estimators")
