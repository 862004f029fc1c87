"""One cell for each start and kind of signs. Sparsities and values of δ are labels of rows within a cell."""

from collections.abc import Iterator, Mapping

VARIES = ("start", "signs")

_ONLY = {"init_noise": "perturbed", "max_pairs": "arora"}  # settings that only one start has


def plan(settings: Mapping) -> Iterator[dict]:
    for start, kinds in settings["starts"].items():
        fixed = {key: value for key, value in settings.items() if key != "starts" and _ONLY.get(key, start) == start}
        for signs in kinds:
            yield fixed | {"start": start, "signs": signs}
