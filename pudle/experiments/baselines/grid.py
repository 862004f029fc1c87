"""One cell for each sparsity and method."""

from collections.abc import Iterator, Mapping

from pudle import methods
from pudle.experiments._shared import plugin_grid

VARIES = ("sparsity", "method_name")


def plan(settings: Mapping) -> Iterator[dict]:
    problem = {key: value for key, value in settings.items() if key not in ("methods", "sparsity", "at_sparsity")}
    for sparsity in settings["sparsity"]:
        for name, chosen in plugin_grid.chosen(methods_at(settings, sparsity)).items():
            yield problem | {"sparsity": sparsity} | plugin_grid.cell(methods.REGISTRY, name, chosen)


def methods_at(settings: Mapping, sparsity: int | str) -> dict:
    """The methods and their settings at one sparsity."""
    found = dict(settings["methods"])
    for name, others in settings["at_sparsity"].get(str(sparsity), {}).items():
        found[name] = None if others is None or found[name] is None else {**found[name], **others}
    return found
