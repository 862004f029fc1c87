"""A cell for each network with its training."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from pudle.data import catalogue
from pudle.harness.settings import Sources, refuse

VARIES = ("network",)


def plan(settings: Mapping) -> Iterator[dict]:
    shared = {key: value for key, value in settings.items() if key != "networks"}
    for name, network in settings["networks"].items():
        if network is not None:
            yield shared | {"network": name} | network


def data_sets(settings: Mapping) -> list[str]:
    """Those that a cell reads."""
    return [settings["train"], settings["test"]]


def check(settings: Mapping, sources: Sources, where: Sequence[str]) -> None:
    for which in ("train", "test"):
        catalogue.refuse_missing([settings[which]], sources.where([*where, which]), ".".join([*where, which]))
    if settings["train"] == settings["test"]:
        refuse(sources, where, "train", "test", settings, "the test images must not be those trained on")
    for cell in plan(settings):
        network = cell["network"]
        refuse_it = partial(refuse, sources, where, changes=settings["networks"][network], place=[*where, "networks", network])
        if cell["stride"] > cell["kernel"]:
            refuse_it("stride", "kernel", cell, "pixels between the filters would not be covered")
        if cell["crop"] < cell["kernel"] or (cell["crop"] - cell["kernel"]) % cell["stride"]:
            refuse_it("crop", "stride", cell, f"crop must be kernel = {cell['kernel']} plus a multiple of stride")
        if 2 * cell.get("margin", 0) >= cell["crop"]:
            refuse_it("margin", "crop", cell, "the loss would be left with nothing of the crops")
