"""Images of handwritten digits with their labels, from scikit-learn, without download, or from MNIST's IDX files."""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from pudle.data.catalogue import find_digits
from pudle.errors import PudleError


def load_digits(data_set: str, classes: list[int], root: Path) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """(images, labels) for training and (images, labels) for testing, of the digits in ``classes``; images are float32 (n, h, w) in [0, 1].

    data_set : "digits", scikit-learn's 8 x 8 images, of which every fourth is a test image; or "mnist", 28 x 28, from ``root``/mnist
    Raises :class:`PudleError`, which names the folder or file, if one is missing or damaged.
    """
    if data_set == "digits":
        from sklearn.datasets import load_digits as load

        bunch = load()
        images, labels = (bunch.images / 16).astype(np.float32), bunch.target
        tests = np.arange(len(labels)) % 4 == 3
        parts = ((images[~tests], labels[~tests]), (images[tests], labels[tests]))
    else:
        files = find_digits(data_set, root)
        parts = (_mnist(*files[:2]), _mnist(*files[2:]))
    return tuple((images[chosen], labels[chosen]) for images, labels in parts for chosen in [np.isin(labels, classes)])


def _mnist(image_file: Path, label_file: Path) -> tuple[np.ndarray, np.ndarray]:
    images, labels = read_idx(image_file), read_idx(label_file)
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise PudleError(f"{image_file} and {label_file} do not fit: arrays of shape {images.shape} and {labels.shape}")
    return images.astype(np.float32) / 255, labels.astype(np.int64)


def read_idx(path: Path) -> np.ndarray:
    """The array of bytes in an IDX file, with or without gzip. Raises :class:`PudleError` if its magic number or length is wrong."""
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise PudleError(f"{path}: cannot be decompressed ({error})") from None
    if len(content) < 4 or content[:3] != b"\0\0\x08" or not 1 <= content[3] <= 4:
        raise PudleError(f"{path}: not an IDX file of bytes (it begins with {content[:4].hex(' ') or 'nothing'}, not 00 00 08)")
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise PudleError(f"{path}: cut off within its header of {start} bytes")
    shape = struct.unpack(f">{content[3]}I", content[4:start])
    expected = start + int(np.prod(shape, dtype=object))
    if len(content) != expected:
        raise PudleError(f"{path}: has {len(content)} bytes, where its header {shape} asks for {expected}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
