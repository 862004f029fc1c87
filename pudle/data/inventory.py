"""What belongs to each image set, and whether it is there: names, sizes and SHA-256 sums of the files, in ``lists/<data set>.csv``."""

from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from pudle.data.catalogue import DATA_SETS
from pudle.data.images import content_hash, image_files, read_grey
from pudle.harness.files import sha256


class Checked(NamedTuple):
    """What :func:`check` found: how many images, their sizes, and a line for each one that is not as listed."""

    count: int
    sizes: dict[str, int]
    wrong: list[str]
    listed: bool


def listed(data_set: str) -> pd.DataFrame | None:
    """The list of ``data_set``: file, height, width, sha256; None for a folder of the user's."""
    if data_set not in DATA_SETS:
        return None
    with resources.files("pudle.data").joinpath("lists", f"{data_set}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, dtype={"file": str}).set_index("file")


def describe(data_set: str, root: Path) -> pd.DataFrame:
    """The same for the files that are there, with the hash of their ``content`` (:func:`pudle.data.images.content_hash`)."""
    rows = []
    for path in image_files(data_set, root):
        image = read_grey(path)
        height, width = image.shape
        rows.append(
            {"file": path.name, "height": height, "width": width, "sha256": sha256(path), "content": content_hash(image)}
        )
    return pd.DataFrame(rows).set_index("file")


def check(data_set: str, root: Path) -> Checked:
    """Compare what is there with the list. Raises :class:`PudleError` for files that cannot be read as images."""
    there, wanted = describe(data_set, root), listed(data_set)
    sizes = (there.height.astype(str) + " x " + there.width.astype(str)).value_counts().to_dict()
    wrong = [] if wanted is None else list(_differences(there, wanted))
    twins = there[there.content.duplicated(keep=False)].groupby("content").groups.values()
    wrong += [f"{' and '.join(names)} are the same picture" for names in twins]
    return Checked(len(there), sizes, wrong, wanted is not None)


def _differences(there: pd.DataFrame, wanted: pd.DataFrame) -> Iterator[str]:
    for name in wanted.index.difference(there.index):
        yield f"{name} is missing"
    for name in there.index.difference(wanted.index):
        yield f"{name} does not belong there"
    for name in wanted.index.intersection(there.index):
        if there.sha256[name] != wanted.sha256[name]:
            height, width = there.height[name], there.width[name]
            yield f"{name} is another file: {height} x {width} pixels, SHA-256 {there.sha256[name]}"
