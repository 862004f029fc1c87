"""The available data sets of images and digits, and their locations. The import is fast enough for planning a workflow.

Data sets are not redistributed here. If a folder is missing, the error names the source of the data set. ``folder:PATH``, relative to the
working directory, is a data set of the user.
"""

import os
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from pudle.errors import PudleError, one_of
from pudle.harness.files import sha256

# The ordinary photographs in scikit-image, in alphabetical order. Every third one is a test image, so that the outcome selects no image.
_BUNDLED = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "moon.png",
    "motorcycle_left.png",
    "rocket.jpg",
)
BUNDLED = {
    "skimage-train": tuple(name for i, name in enumerate(_BUNDLED) if i % 3 != 2),
    "skimage-test": _BUNDLED[2::3],
}
FOLDERS = {
    "bsd68": "68 grey test images of the Berkeley segmentation data set (Martin et al., 2001), as used by Roth & Black's Fields of Experts",
    "cbsd432": "432 colour images of the Berkeley segmentation data set (Martin et al., 2001), disjoint from bsd68",
    "set12": "12 grey images, widely used with DnCNN (Zhang et al., 2017)",
}
DATA_SETS = (*BUNDLED, *FOLDERS)
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")  # of images
DIGITS = {
    "digits": "inside scikit-learn: 1797 handwritten digits of 8 x 8 pixels",
    "mnist": "MNIST's four files (LeCun et al., 1998), such as train-images-idx3-ubyte, with or without .gz",
}
MNIST_FILES = tuple(f"{part}-{what}-ubyte" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1"))
OWN = "folder:"  # prefix of the names of data sets that are folders of the user


def data_root() -> Path:
    """The folder that contains the folders of data sets: the environment variable PUDLE_DATA, or ``data`` in the working directory.

    The workflow sets the variable from ``data.root`` of the config unless the user has set it.
    """
    return Path(os.environ.get("PUDLE_DATA", "data")).expanduser()


def roots(data_sets: Iterable[str] = ()) -> dict[str, Path]:
    """The folders that data are read from, by name: folders of the user among ``data_sets``, :func:`data_root`, and those of packages with
    data sets."""
    own = {name: _place(name, data_root()) for name in data_sets if name.startswith(OWN)}
    packages = {"skimage": "data", "sklearn": "datasets/data"}
    inside = {name: Path(find_spec(name).origin).parent / folder for name, folder in packages.items()}
    return own | {"data": data_root()} | inside


def locate(name: str, root: Path) -> Path | None:
    """The path of a data file that ``cell.json`` lists as ``name``, ``name of its root/path``; None if the root is unknown."""
    if name.startswith(OWN):
        return _place(name, root)
    folder, _, inside = name.partition("/")
    home = (roots() | {"data": root}).get(folder)
    return home and home / inside


def check_name(data_set: str) -> None:
    """Raise :class:`PudleError`, which gives the nearest name, unless ``data_set`` is a known name or ``folder:PATH``."""
    if data_set == OWN:
        raise PudleError(f"data set {data_set!r}: a path must follow")
    if not data_set.startswith(OWN):
        one_of(data_set, (*DATA_SETS, f"{OWN}PATH"), "data set")


def find_folder(data_set: str, root: Path) -> Path | None:
    """The folder of ``data_set``, which is under ``root`` unless it is ``folder:PATH``; None for data sets in scikit-image.

    Raises :class:`PudleError` if the name is unknown, or if the folder is missing or has no images; the error then says what it should hold.
    """
    check_name(data_set)
    if data_set in BUNDLED:
        return None
    folder = _place(data_set, root)
    if not folder.is_dir() and data_set.startswith(OWN):
        where = "" if folder.is_absolute() else f" in {Path.cwd()}"
        raise PudleError(f"data set {data_set!r}: there is no such folder{where}")
    if not folder.is_dir():
        raise PudleError(f"{folder}: the folder of the data set {data_set!r} is missing. {_advice(data_set)}")
    if not any(is_image(path) for path in folder.iterdir()):
        advice = "" if data_set.startswith(OWN) else f". {_advice(data_set)}"
        raise PudleError(
            f"{folder}: no images in the folder of the data set {data_set!r}; their names end in {', '.join(SUFFIXES)}{advice}"
        )
    return folder


def find_digits(data_set: str, root: Path) -> list[Path]:
    """The four files of "mnist" under ``root``, in the order of ``MNIST_FILES``; an empty list for "digits", which are in scikit-learn.

    Raises :class:`PudleError` if the name is unknown, or if the folder or a file is missing; the error then says what the folder should hold.
    """
    if one_of(data_set, DIGITS, "data set of digits") == "digits":
        return []
    folder = _place(data_set, root)
    if not folder.is_dir():
        raise PudleError(f"{folder}: the folder of the data set {data_set!r} is missing. {_advice(data_set)}")
    found = []
    for name in MNIST_FILES:
        there = [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]
        if not there:
            raise PudleError(f"{folder / name}: missing, with or without .gz. The folder holds {DIGITS['mnist']}")
        found.append(there[0])
    return found


def is_there(data_set: str, root: Path) -> bool:
    """Whether the files of ``data_set`` (images or digits) are present under ``root``."""
    try:
        (find_digits if data_set in DIGITS else find_folder)(data_set, root)
    except PudleError:
        return False
    return True


def is_image(path: Path) -> bool:
    """Whether ``path`` is a file or a broken link with the name of an image."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and not path.is_dir()


def _advice(data_set: str) -> str:
    fetch = f" (`pudle data fetch {data_set}` may do so)" if data_set in FOLDERS else ""
    return (
        f"It holds {(FOLDERS | DIGITS)[data_set]}. Put it there{fetch}, or name the folder that holds it with data.root in the config "
        "or the environment variable PUDLE_DATA"
    )


def _place(data_set: str, root: Path) -> Path:
    """The path of the folder of ``data_set``, which may be missing."""
    return Path(data_set.removeprefix(OWN)).expanduser() if data_set.startswith(OWN) else Path(root, data_set)


def contents(data_set: str, root: Path) -> dict[str, str]:
    """SHA-256 of the files of ``data_set`` that are read, by their names in ``cell.json``.

    The result is empty if the data set is part of a package or if its folder is missing.
    """
    folder = _place(data_set, root)
    if data_set in BUNDLED or data_set == "digits" or not folder.is_dir():
        return {}
    if data_set in DIGITS:
        either = ([folder / name, folder / f"{name}.gz"] for name in MNIST_FILES)
        found = [path for paths in either for path in list(filter(Path.is_file, paths))[:1]]
    else:
        found = [path for path in sorted(folder.iterdir()) if is_image(path) and path.is_file()]
    home = data_set if data_set.startswith(OWN) else f"data/{data_set}"
    return {f"{home}/{path.name}": _digest_now(path) for path in sorted(found)}


def differing(inputs: Mapping[str, str], data_sets: Iterable[str], root: Path) -> list[str]:
    """Names of the files that differ from ``inputs`` of a cell: they were changed, removed, or added to one of its ``data_sets``.

    Files in a missing folder count as unchanged, since results may be on a machine without the data.
    """
    changed = [name for name, known in inputs.items() if _digest_now(locate(name, root)) not in (None, known)]
    return changed + [name for data_set in data_sets for name in contents(data_set, root) if name not in inputs]


def _digest_now(path: Path | None) -> str | None:
    """SHA-256 of a file; "" if it is missing, None if its folder is missing."""
    if path is None or not path.parent.is_dir():
        return None
    if not path.is_file():
        return ""
    state = path.stat()
    return _digest_at(path, state.st_mtime_ns, state.st_size)


@cache
def _digest_at(path: Path, modified: int, size: int) -> str:
    """SHA-256 of a file, cached by its time and size, since many cells read the same files."""
    return sha256(path)
