"""A cell for each start and each kind of signs; sparsities and distances are labels inside."""

from collections.abc import Iterator, Mapping, Sequence

from pudle.errors import PudleError
from pudle.harness.settings import Sources

VARIES = ("start", "signs")

_ONLY = {"init_noise": "perturbed", "max_pairs": "arora"}  # settings that one start alone has


def plan(settings: Mapping) -> Iterator[dict]:
    for start, kinds in settings["starts"].items():
        fixed = {key: value for key, value in settings.items() if key != "starts" and _ONLY.get(key, start) == start}
        for signs in kinds:
            yield fixed | {"start": start, "signs": signs}


def check(settings: Mapping, sources: Sources, where: Sequence[str]) -> None:
    def refuse(key: str, reason: str) -> None:
        raise PudleError(f"{sources.where([*where, key])}: {'.'.join([*where, key])!r} is {settings[key]}: {reason}")

    if not any(settings["starts"].values()):
        refuse("starts", "no start is left; null under experiments switches the experiment off")
    if max(settings["sparsity"]) > settings["n_atoms"]:
        refuse("sparsity", f"a code cannot have more non-zeros than atoms, n_atoms = {settings['n_atoms']}")
    if settings["starts"].get("samples") and settings["n_atoms"] > settings["n_samples"]:
        refuse("n_atoms", f"the start 'samples' needs as many samples, and n_samples = {settings['n_samples']}")
