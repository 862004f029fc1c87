"""A cell for each variant and each method."""

from collections.abc import Iterator, Mapping, Sequence

from pudle import methods
from pudle.experiments._shared import plugin_grid
from pudle.harness.settings import Sources, refuse

VARIES = ("variant", "method_name")


def plan(settings: Mapping) -> Iterator[dict]:
    problem = {key: value for key, value in settings.items() if key not in ("methods", "variants")}
    for variant, changes in settings["variants"].items():
        changed = {key: value for key, value in changes.items() if key != "method_settings"}
        for label, chosen in _methods(settings, changes).items():
            yield problem | {"variant": variant} | changed | plugin_grid.cell(methods.REGISTRY, label, chosen)


def check(settings: Mapping, sources: Sources, where: Sequence[str]) -> None:
    plugin_grid.check(methods.REGISTRY, settings["methods"], sources, [*where, "methods"])
    for variant, changes in settings["variants"].items():
        place, problem = [*where, "variants", variant], dict(settings) | changes
        if problem["sparsity"] > problem["n_atoms"]:
            reason = "a code cannot have more non-zeros than atoms"
            refuse(sources, where, "sparsity", "n_atoms", problem, reason, changes, place)
        if problem["batch"] != "full" and problem["batch"] > problem["n_samples"]:
            reason = "there are not enough samples for one batch"
            refuse(sources, where, "batch", "n_samples", problem, reason, changes, place)
        if "method_settings" in changes:
            shared = [*place, "method_settings"]
            plugin_grid.check(methods.REGISTRY, _methods(settings, changes), sources, shared, changes["method_settings"])


def _methods(settings: Mapping, changes: Mapping) -> dict[str, dict]:
    changed = changes.get("method_settings", {})
    return {label: chosen | changed for label, chosen in plugin_grid.chosen(settings["methods"]).items()}
