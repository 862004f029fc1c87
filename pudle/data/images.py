"""Reading, checking and cropping of grey images with values in [0, 1]."""

import hashlib
import io
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import skimage
import tifffile
from imageio.v3 import improps, imread
from PIL import Image
from skimage.color import rgb2gray, rgba2rgb
from skimage.util import img_as_float32

from pudle.data.catalogue import BUNDLED, find_folder, is_image
from pudle.errors import PudleError
from pudle.harness.files import FORMULAS

MAX_PIXELS = 40_000_000  # 64 filters at a stride of 4 need 16 bytes of codes per pixel, and several copies of them
_PNG_BITS, _PNG_COLOURS = 24, 25  # offsets of the bytes of a PNG that hold the bits per sample and the type of colour
_PNG_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # of the types of colour that may have sixteen bits
_JPEG, _TIFF = (".jpeg", ".jpg"), (".tif", ".tiff")
_LOG = logging.getLogger(__name__)


def load_images(data_set: str, root: Path) -> dict[str, np.ndarray]:
    """All images of ``data_set`` as float32 (h, w) in [0, 1], by file name in alphabetical order. Colour images are converted to grey.

    Raises :class:`PudleError`, which names the folder or file, if one is missing, empty, unreadable or duplicate. Other files are logged.
    """
    return {path.stem: read_grey(path) for path in image_files(data_set, root)}


def image_files(data_set: str, root: Path) -> list[Path]:
    """The image files of ``data_set`` in alphabetical order. Files without the suffix of an image are omitted and logged.

    Raises :class:`PudleError` if there are no images, or if the names of two images differ only in their suffixes.
    """
    folder = find_folder(data_set, root)
    if folder is None:
        return [Path(skimage.__file__).parent / "data" / name for name in BUNDLED[data_set]]
    there = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    for path in there:
        if not path.exists():
            raise PudleError(f"{path}: a symbolic link to a file that does not exist; correct or remove it")
    images = [path for path in there if is_image(path)]
    others = [path.name for path in there if path not in images]
    if others:
        shown = ", ".join(others)
        _LOG.warning(
            "%s: %d images; %d other entries are left out, since they do not have the suffix of an image: %s",
            folder,
            len(images),
            len(others),
            shown,
        )
    for path in images:
        if path.name.startswith(FORMULAS):
            raise PudleError(f"{path}: a name that begins with {path.name[0]!r} would be a formula in a table: rename it")
    by_stem: dict[str, Path] = {}
    for path in images:
        if by_stem.setdefault(path.stem, path) != path:
            raise PudleError(
                f"{folder}: {by_stem[path.stem].name} and {path.name} have the same name but for the suffix: rename one"
            )
    return images


def read_grey(path: Path) -> np.ndarray:
    """One image file as float32 (h, w) in [0, 1]. Files have 1, 8 or 16 bits, or floating-point values in [0, 1]."""
    content = path.read_bytes()
    try:
        size = improps(content, extension=path.suffix).shape
        image = _decoded(content, path) if np.prod(size[:2]) <= MAX_PIXELS else None
    except PudleError:
        raise
    except Exception as error:  # each reader that imread calls has its own exceptions
        raise PudleError(f"{path}: cannot be read as an image ({' '.join(str(error).split())[:200]})") from None
    if image is None:
        raise PudleError(
            f"{path}: {size[0]} x {size[1]} pixels are more than the {MAX_PIXELS:,} that fit into memory as codes; cut it"
        )
    if path.suffix.lower() == ".pgm" and image.dtype == np.int32:  # sixteen bits as read by Pillow
        image = image.astype(np.uint16)
    if image.dtype not in (np.bool_, np.uint8, np.uint16):
        _check_values(image, path)
    if image.ndim == 3 and image.shape[2] == 2:  # grey with alpha
        image = np.dstack([image[..., :1]] * 3 + [image[..., 1:]])
    if image.ndim == 3 and image.shape[2] == 4 and path.suffix.lower() not in _JPEG:  # a JPEG with four channels is CMYK
        image = rgba2rgb(image)
    if image.ndim == 3 and image.shape[2] == 3:
        image = rgb2gray(image)
    if image.ndim != 2 or not image.size:
        raise PudleError(f"{path}: not a grey, RGB or RGBA image (its array has shape {image.shape})")
    return img_as_float32(image)


def _decoded(content: bytes, path: Path) -> np.ndarray:
    """The array of an image file. Tags of a TIFF say what its values mean, and not all of their meanings are grey or RGB."""
    if path.suffix.lower() == ".png" and (image := _with_all_bits(content)) is not None:
        return image
    if path.suffix.lower() not in _TIFF:
        return imread(content, extension=path.suffix)
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        page = file.pages[0]
        colours, samples, extra = page.photometric.name, page.samplesperpixel, [kind.name for kind in page.extrasamples]
    if colours == "PALETTE" and extra:  # imread would give the numbers of the colours
        with Image.open(io.BytesIO(content)) as image:
            return np.asarray(image.convert("RGBA"))
    if colours in ("PALETTE", "MINISWHITE"):
        return imread(content, extension=path.suffix, plugin="pillow")
    if colours not in ("MINISBLACK", "RGB"):
        raise PudleError(f"{path}: its colours are {'CMYK' if colours == 'SEPARATED' else colours}; save it as grey or RGB")
    image = imread(content, extension=path.suffix)
    if image.ndim > 2 and (image.ndim > 3 or image.shape[2] != samples):
        raise PudleError(f"{path}: not a grey, RGB or RGBA image (its array has shape {image.shape})")
    return _on_white(image) if extra == ["ASSOCALPHA"] and image.dtype.kind == "u" else image


def _on_white(image: np.ndarray) -> np.ndarray:
    """On white, and without its last channel: an ``image`` (h, w, channels) whose colours are multiplied by this channel, alpha."""
    colours, alpha = image[..., :-1], image[..., -1:]
    return (np.minimum(colours, alpha) + (np.iinfo(image.dtype).max - alpha)).squeeze()


def _with_all_bits(content: bytes) -> np.ndarray | None:
    """A PNG with sixteen bits, a transparent colour or transparent palette entries, as an array; None for other files.

    Transparent colours become an alpha channel.
    """
    with Image.open(io.BytesIO(content)) as file:
        clear, deep = file.info.get("transparency"), file.format == "PNG" and content[_PNG_BITS] == 16
        if clear is None and not deep:
            return None
        if not deep:
            if file.mode == "L":  # Pillow scales the pixels to eight bits, but not this
                file.info["transparency"] = clear * 255 // (2 ** content[_PNG_BITS] - 1)
            return np.asarray(file.convert("RGBA"))
    image = _sixteen_bits(content)
    if clear is not None:
        opaque = np.any(image != np.asarray(clear), axis=2)
        image = np.dstack([image, np.where(opaque, 65535, 0).astype(np.uint16)])
    return image if image.shape[2] > 1 else image[..., 0]


def _sixteen_bits(content: bytes) -> np.ndarray:
    """The pixels (h, w, channels) of a PNG with sixteen bits. Pillow gives the upper bytes of all but grey ones, so the bytes are read here."""

    def read(layout: str | None = None) -> np.ndarray:
        with Image.open(io.BytesIO(content)) as file:
            file.tile = [tile._replace(args=layout or tile.args) for tile in file.tile]
            return np.atleast_3d(np.asarray(file)).astype(np.uint16)

    channels = _PNG_CHANNELS[content[_PNG_COLOURS]]
    if channels == 1:
        return read()
    if channels == 2:  # four bytes, as of one pixel with eight bits
        pairs = read("RGBA")
        return 256 * pairs[..., ::2] + pairs[..., 1::2]
    lower = read("RGB;16L" if channels == 3 else "RGBA;16L")  # the upper bytes of the other order
    return 256 * read() + lower


def _check_values(image: np.ndarray, path: Path) -> None:
    if image.dtype.kind != "f":
        raise PudleError(f"{path}: the value of white is not known for type {image.dtype}; save it with 8 or 16 bits")
    wrong = ~np.isfinite(image)
    if wrong.any():
        raise PudleError(f"{path}: {wrong.sum()} values are not finite")
    if image.min() < -1e-6 or image.max() > 1 + 1e-6:
        raise PudleError(f"{path}: floating-point values must be in [0, 1], not from {image.min():.4g} to {image.max():.4g}")


def content_hash(image: np.ndarray) -> str:
    """SHA-256 of the size and the pixels, in 8 bits, of an image in [0, 1]. It does not depend on lossless format, depth and kind of grey."""
    return hashlib.sha256(
        f"{image.shape}".encode() + np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8).tobytes()
    ).hexdigest()


def refuse_overlap(train: Mapping[str, np.ndarray], test: Mapping[str, np.ndarray], train_set: str, test_set: str) -> None:
    """Raise :class:`PudleError`, which gives both names, if a test image equals a training image."""
    trained = {content_hash(image): name for name, image in train.items()}
    for name, image in test.items():
        twin = trained.get(content_hash(image))
        if twin is not None:
            raise PudleError(
                f"image {name!r} of the test set {test_set!r} is image {twin!r} of the training set {train_set!r}, pixel by pixel: "
                "no image may be in both"
            )


def random_crops(images: Mapping[str, np.ndarray], size: int, count: int, draw: np.random.Generator) -> np.ndarray:
    """``count`` random square crops (count, 1, size, size) with random flips, from images drawn uniformly."""
    names = list(images)
    crops = np.empty((count, 1, size, size), np.float32)
    for crop in crops:
        name = names[draw.integers(len(names))]
        image = images[name]
        if min(image.shape) < size:
            raise PudleError(
                f"image {name!r} has {image.shape[0]} x {image.shape[1]} pixels: smaller than crops of {size} x {size}"
            )
        top, left = (draw.integers(length - size + 1) for length in image.shape)
        crop[0] = image[top : top + size, left : left + size][:: draw.choice([1, -1]), :: draw.choice([1, -1])]
    return crops


def check_sizes(images: Mapping[str, np.ndarray], size: int, data_set: str, what: str = "crop") -> None:
    """Raise :class:`PudleError`, which names the image, if one is smaller than ``size`` x ``size``, the size of ``what``."""
    for name, image in images.items():
        if min(image.shape) < size:
            height, width = image.shape
            raise PudleError(
                f"image {name!r} of data set {data_set!r} has {height} x {width} pixels: smaller than the {what} of {size} x {size}"
            )


def check_scores(images: Mapping[str, np.ndarray], data_set: str) -> None:
    """Raise :class:`PudleError`, which names the image, if one is black, so that published PSNR is undefined, or too small for SSIM."""
    check_sizes(images, 7, data_set, "window of SSIM")
    for name, image in images.items():
        if not image.max() > 0:
            raise PudleError(f"image {name!r} of data set {data_set!r} is black: PSNR as published has no peak there")
