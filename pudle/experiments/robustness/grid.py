"""One cell for each variant and method."""

from collections.abc import Iterator, Mapping

from pudle import methods
from pudle.experiments._shared import plugin_grid

VARIES = ("variant", "method_name")


def plan(settings: Mapping) -> Iterator[dict]:
    problem = {key: value for key, value in settings.items() if key not in ("methods", "variants")}
    for variant, changes in settings["variants"].items():
        changed = {key: value for key, value in changes.items() if key != "method_settings"}
        for label, chosen in _methods(settings, changes).items():
            yield problem | {"variant": variant} | changed | plugin_grid.cell(methods.REGISTRY, label, chosen)


def _methods(settings: Mapping, changes: Mapping) -> dict[str, dict]:
    changed = changes.get("method_settings", {})
    return {label: chosen | changed for label, chosen in plugin_grid.chosen(settings["methods"]).items()}
