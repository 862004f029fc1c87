"""A cell for each sparsity and each method."""

from collections.abc import Iterator, Mapping, Sequence

from pudle import methods
from pudle.experiments._shared import plugin_grid
from pudle.harness.settings import Sources, refuse

VARIES = ("sparsity", "method_name")


def plan(settings: Mapping) -> Iterator[dict]:
    problem = {key: value for key, value in settings.items() if key not in ("methods", "sparsity")}
    for sparsity in settings["sparsity"]:
        for name, chosen in plugin_grid.chosen(settings["methods"]).items():
            yield problem | {"sparsity": sparsity} | plugin_grid.cell(methods.REGISTRY, name, chosen)


def check(settings: Mapping, sources: Sources, where: Sequence[str]) -> None:
    if max(settings["sparsity"]) > settings["n_atoms"]:
        refuse(sources, where, "sparsity", "n_atoms", settings, "a code cannot have more non-zeros than atoms")
    if settings["batch"] > settings["n_samples"]:
        refuse(sources, where, "batch", "n_samples", settings, "there are not enough samples for one batch")
    plugin_grid.check(methods.REGISTRY, settings["methods"], sources, [*where, "methods"])
