"""A cell for each gradient, and for ae-lasso one for each ℓ1 weighting."""

from collections.abc import Iterator, Mapping, Sequence

from pudle.data import catalogue
from pudle.harness.cells import grid
from pudle.harness.settings import Sources, choose, refuse

VARIES = ("estimator", "l1_weighting")


def plan(settings: Mapping) -> Iterator[dict]:
    for cell in grid(settings, estimator="estimators"):
        if cell["estimator"] == "ae-lasso":
            yield from grid(cell, l1_weighting="l1_weighting")
        else:
            yield {key: value for key, value in cell.items() if key != "l1_weighting"}


def check(settings: Mapping, sources: Sources, where: Sequence[str]) -> None:
    for which in ("train", "test"):
        choose(sources, where, which, settings, catalogue.DATA_SETS, "data set")
        if settings[which] in catalogue.FOLDERS:
            catalogue.find_folder(settings[which], catalogue.data_root())
    if settings["train"] == settings["test"]:
        refuse(sources, where, "train", "test", settings, "the test images must not be those trained on")
    if settings["crop"] < settings["kernel"]:
        refuse(sources, where, "crop", "kernel", settings, "the crops are smaller than the filters")
    if (settings["crop"] - settings["kernel"]) % settings["stride"]:
        refuse(
            sources, where, "crop", "stride", settings, f"crop must be kernel = {settings['kernel']} plus a multiple of stride"
        )
    if settings["stride"] > settings["kernel"]:
        refuse(sources, where, "stride", "kernel", settings, "pixels between the filters would not be covered")
