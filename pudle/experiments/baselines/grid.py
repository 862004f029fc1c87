"""A cell for each sparsity and each method."""

from collections.abc import Iterator, Mapping, Sequence

from pudle.experiments import recovery_grid as recovery
from pudle.harness.settings import Sources, refuse

VARIES = ("sparsity", "method_name")
fingerprint = recovery.fingerprint


def plan(settings: Mapping) -> Iterator[dict]:
    problem = {key: value for key, value in settings.items() if key not in ("methods", "sparsity")}
    for sparsity in settings["sparsity"]:
        for name, chosen in recovery.chosen_methods(settings["methods"]).items():
            yield problem | {"sparsity": sparsity} | recovery.method(name, chosen)


def check(settings: Mapping, sources: Sources, where: Sequence[str]) -> None:
    if max(settings["sparsity"]) > settings["n_atoms"]:
        refuse(sources, where, "sparsity", "n_atoms", settings, "a code cannot have more non-zeros than atoms")
    if settings["batch"] > settings["n_samples"]:
        refuse(sources, where, "batch", "n_samples", settings, "there are not enough samples for one batch")
    recovery.check_methods(settings["methods"], sources, [*where, "methods"])
