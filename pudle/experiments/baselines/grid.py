"""A cell for each sparsity and each method."""

from collections.abc import Iterator, Mapping

from pudle import methods
from pudle.experiments._shared import plugin_grid

VARIES = ("sparsity", "method_name")


def plan(settings: Mapping) -> Iterator[dict]:
    problem = {key: value for key, value in settings.items() if key not in ("methods", "sparsity")}
    for sparsity in settings["sparsity"]:
        for name, chosen in plugin_grid.chosen(settings["methods"]).items():
            yield problem | {"sparsity": sparsity} | plugin_grid.cell(methods.REGISTRY, name, chosen)
