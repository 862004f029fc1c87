"""A cell for each variant and each method."""

from collections.abc import Iterator, Mapping, Sequence

from pudle.experiments import recovery_grid as recovery
from pudle.harness.settings import Sources, refuse

VARIES = ("variant", "method_name")
fingerprint = recovery.fingerprint


def plan(settings: Mapping) -> Iterator[dict]:
    problem = {key: value for key, value in settings.items() if key not in ("methods", "variants")}
    for variant, changes in settings["variants"].items():
        changed = {key: value for key, value in changes.items() if key != "method_settings"}
        for label, chosen in _methods(settings, changes).items():
            yield problem | {"variant": variant} | changed | recovery.method(label, chosen)


def check(settings: Mapping, sources: Sources, where: Sequence[str]) -> None:
    recovery.check_methods(settings["methods"], sources, [*where, "methods"])
    for variant, changes in settings["variants"].items():
        place, problem = [*where, "variants", variant], dict(settings) | changes
        if problem["sparsity"] > problem["n_atoms"]:
            refuse(sources, place, "sparsity", "n_atoms", problem, "a code cannot have more non-zeros than atoms")
        if problem["batch"] > problem["n_samples"]:
            refuse(sources, place, "batch", "n_samples", problem, "there are not enough samples for one batch")
        recovery.check_methods(_methods(settings, changes), sources, [*place, "method_settings"])


def _methods(settings: Mapping, changes: Mapping) -> dict[str, dict]:
    changed = changes.get("method_settings", {})
    return {label: chosen | changed for label, chosen in recovery.chosen_methods(settings["methods"]).items()}
