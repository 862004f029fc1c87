"""One cell: full and truncated Jacobians of the same samples."""

from collections.abc import Iterator, Mapping, Sequence

from pudle.harness.settings import Sources, refuse

VARIES = ()


def plan(settings: Mapping) -> Iterator[dict]:
    yield dict(settings)


def check(settings: Mapping, sources: Sources, where: Sequence[str]) -> None:
    if settings["truncations"] and max(settings["truncations"]) > settings["n_layers"]:
        refuse(sources, where, "truncations", "n_layers", settings, "there are not that many layers to go back through")
