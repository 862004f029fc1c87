"""A cell for each sparsity and each method."""

from collections.abc import Iterator, Mapping, Sequence

from pudle import methods
from pudle.errors import PudleError, one_of
from pudle.experiments._shared import plugin_grid
from pudle.harness.settings import Sources, refuse

VARIES = ("sparsity", "method_name")


def plan(settings: Mapping) -> Iterator[dict]:
    problem = {key: value for key, value in settings.items() if key not in ("methods", "sparsity", "at_sparsity")}
    for sparsity in settings["sparsity"]:
        for name, chosen in plugin_grid.chosen(_methods(settings, sparsity)).items():
            yield problem | {"sparsity": sparsity} | plugin_grid.cell(methods.REGISTRY, name, chosen)


def check(settings: Mapping, sources: Sources, where: Sequence[str]) -> None:
    if max(settings["sparsity"]) > settings["n_atoms"]:
        refuse(sources, where, "sparsity", "n_atoms", settings, "a code cannot have more non-zeros than atoms")
    if settings["batch"] > settings["n_samples"]:
        refuse(sources, where, "batch", "n_samples", settings, "there are not enough samples for one batch")
    plugin_grid.check(methods.REGISTRY, settings["methods"], sources, [*where, "methods"])
    for sparsity, others in settings.get(
        "at_sparsity", {}
    ).items():  # a sparsity that does not run may be there: an overlay runs some
        place = [*where, "at_sparsity", sparsity]
        for name in others:
            try:
                one_of(name, settings["methods"], "method of this experiment")
            except PudleError as error:
                raise PudleError(f"{sources.where([*place, name])}: {'.'.join([*place, name])!r}: {error}") from None
        merged = _methods(settings, int(sparsity))
        plugin_grid.check(methods.REGISTRY, {name: merged[name] for name in others}, sources, place)


def _methods(settings: Mapping, sparsity: int) -> dict:
    """Methods and their settings at one sparsity."""
    found = dict(settings["methods"])
    for name, others in settings.get("at_sparsity", {}).get(str(sparsity), {}).items():
        found[name] = None if others is None or found[name] is None else {**found[name], **others}
    return found
