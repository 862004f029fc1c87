"""One cell for each network and its training."""

from collections.abc import Iterator, Mapping

VARIES = ("network",)


def plan(settings: Mapping) -> Iterator[dict]:
    shared = {key: value for key, value in settings.items() if key != "networks"}
    for name, network in settings["networks"].items():
        if network is not None:
            yield shared | {"network": name} | network


def data_sets(settings: Mapping) -> list[str]:
    """The names of the data sets that a cell reads."""
    return [settings["train"], settings["test"]]
