"""Lists of the files of each image data set, with sizes and SHA-256 sums (``lists/<data set>.csv``), and comparison with present files."""

from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from pudle.data.catalogue import DATA_SETS
from pudle.data.images import content_hash, image_files, read_grey
from pudle.harness.files import sha256


class Checked(NamedTuple):
    """The result of :func:`check`: the number of images, the counts of their sizes, and a line for each difference from the list."""

    count: int
    sizes: dict[str, int]
    wrong: list[str]
    listed: bool


def listed(data_set: str) -> pd.DataFrame | None:
    """The list of ``data_set`` with the columns file, height, width and sha256; None for a folder of the user."""
    if data_set not in DATA_SETS:
        return None
    with resources.files("pudle.data").joinpath("lists", f"{data_set}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, dtype={"file": str}).set_index("file")


def describe(data_set: str, root: Path) -> pd.DataFrame:
    """The columns of :func:`listed` for the present files, and the hash of their ``content`` (:func:`pudle.data.images.content_hash`)."""
    rows = []
    for path in image_files(data_set, root):
        image = read_grey(path)
        height, width = image.shape
        rows.append(
            {"file": path.name, "height": height, "width": width, "sha256": sha256(path), "content": content_hash(image)}
        )
    return pd.DataFrame(rows).set_index("file")


def check(data_set: str, root: Path) -> Checked:
    """Compare the present files with the list. Raises :class:`PudleError` if a file cannot be read as an image."""
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
            yield f"{name} differs from the list: it has {height} x {width} pixels and the SHA-256 {there.sha256[name]}"
