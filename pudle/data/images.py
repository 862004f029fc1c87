"""Grey photographs in [0, 1]: reading, checking, cropping."""

from pathlib import Path

import numpy as np
import skimage
from imageio.v3 import imread
from skimage.color import rgb2gray, rgba2rgb
from skimage.util import img_as_float32

from pudle.data.catalogue import BUNDLED, FOLDERS, find_folder
from pudle.errors import PudleError


def load_images(data_set: str, root: Path) -> dict[str, np.ndarray]:
    """Every image of ``data_set`` as float32 (h, w) in [0, 1], by file name in alphabetical order; colour is read as grey.

    Raises :class:`PudleError` naming the folder or file that is missing, empty or unreadable.
    """
    if data_set in BUNDLED:
        folder = Path(skimage.__file__).parent / "data"
        return {Path(name).stem: read_grey(folder / name) for name in BUNDLED[data_set]}
    folder = find_folder(data_set, root)
    listed = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    for path in listed:
        if not path.exists():
            raise PudleError(f"{path}: a symbolic link that leads nowhere; mend or remove it")
    files = [path for path in listed if path.is_file()]
    if not files:
        raise PudleError(f"{folder}: no images in the folder of the data set {data_set!r} ({FOLDERS[data_set]})")
    return {path.stem: read_grey(path) for path in files}


def read_grey(path: Path) -> np.ndarray:
    """One image file as float32 (h, w) in [0, 1]."""
    try:
        image = imread(path.read_bytes(), extension=path.suffix)
    except Exception as error:  # each of the readers behind imread has exceptions of its own
        raise PudleError(f"{path}: cannot be read as an image ({' '.join(str(error).split())[:200]})") from None
    if image.ndim == 3 and image.shape[2] == 4:
        image = rgba2rgb(image)
    if image.ndim == 3 and image.shape[2] == 3:
        image = rgb2gray(image)
    if image.ndim != 2 or not image.size or not np.isfinite(image).all():
        raise PudleError(f"{path}: not a grey, RGB or RGBA image with finite values (its array has shape {image.shape})")
    return img_as_float32(image)


def random_crops(images: dict[str, np.ndarray], size: int, count: int, draw: np.random.Generator) -> np.ndarray:
    """``count`` random square crops (count, 1, size, size) with random flips, images drawn uniformly."""
    names = list(images)
    crops = np.empty((count, 1, size, size), np.float32)
    for crop in crops:
        image = images[names[draw.integers(len(names))]]
        top, left = (draw.integers(length - size + 1) for length in image.shape)
        crop[0] = image[top : top + size, left : left + size][:: draw.choice([1, -1]), :: draw.choice([1, -1])]
    return crops


def check_sizes(images: dict[str, np.ndarray], size: int, data_set: str) -> None:
    """Raise :class:`PudleError` naming the first image smaller than ``size`` x ``size``."""
    for name, image in images.items():
        if min(image.shape) < size:
            height, width = image.shape
            raise PudleError(
                f"image {name!r} of data set {data_set!r} has {height} x {width} pixels: smaller than the crop of {size} x {size}"
            )
