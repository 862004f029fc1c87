"""Downloads of image data sets from their original sources, with pooch.

Files that are present are kept, interrupted downloads continue, and every file must have the SHA-256 sum of the list
(:mod:`pudle.data.inventory`).
"""

import hashlib
import re
import shutil
import tarfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pooch
import requests

from pudle.data.catalogue import BUNDLED, DATA_SETS
from pudle.data.inventory import listed
from pudle.errors import PudleError, one_of
from pudle.harness import files

_DNCNN = "https://github.com/cszn/DnCNN/raw/master/testsets"  # the files with which Zhang et al. (2017) test
_BSDS500 = "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/BSR/BSR_bsds500.tgz"
SOURCES = {"bsd68": f"{_DNCNN}/BSD68/", "set12": f"{_DNCNN}/Set12/", "cbsd432": _BSDS500}  # a folder of files, or an archive
TIMEOUT = 30  # seconds without an answer


def fetch(data_set: str, root: Path, source: str | None = None, say: Callable[[str], None] = print) -> Path:
    """Download the missing files of ``data_set`` to ``root``/``data_set``, and return this folder.

    source : address of a folder with the files (ends in "/") or of a tar archive with them; None means the original source
    Raises :class:`PudleError` if the data set has no source, an address does not respond, or a file differs from the list.
    """
    if data_set in BUNDLED:
        raise PudleError(f"data set {data_set!r} is part of scikit-image and needs no download")
    one_of(data_set, [name for name in DATA_SETS if name in SOURCES], "data set to fetch")
    source, sums, folder = SOURCES[data_set] if source is None else source, listed(data_set).sha256, Path(root, data_set)
    if not re.match(r"https?://.+/", source):
        raise PudleError(f"--source {source!r}: must be an address such as {SOURCES[data_set]}")
    missing = [name for name in sums.index if not (folder / name).exists() or files.sha256(folder / name) != sums[name]]
    say(f"{data_set}: {len(sums) - len(missing)} of {len(sums)} files are present")
    new = [path for path in (folder, Path(root)) if not path.exists()]
    try:
        _fetch(source, dict(sums[missing]), folder, say)
    finally:
        for path in new:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
    return folder


def _fetch(source: str, sums: Mapping[str, str], folder: Path, say: Callable[[str], None]) -> None:
    """Download the files named in ``sums`` to ``folder``, from a folder or an archive."""
    if source.endswith("/"):
        for name in sums:
            _retrieve(f"{source}{name}", sums[name], folder / name)
            say(name)
    elif sums:
        archive = _retrieve(source, None, folder.with_name(source.rsplit("/", 1)[1]))
        try:
            _unpack(archive, set(sums), sums, folder)
        finally:
            archive.unlink()


def _retrieve(address: str, known_hash: str | None, path: Path) -> Path:
    try:
        pooch.retrieve(address, known_hash and f"sha256:{known_hash}", path.name, path.parent, downloader=_go_on(path))
    except requests.RequestException as error:
        raise PudleError(
            f"{address}: {type(error).__name__}: {' '.join(str(error).split())[:200]}; the received part is kept, try again"
        ) from None
    except ValueError:  # raised by pooch for a wrong sum
        raise PudleError(f"{address}: the file differs from the list, whose SHA-256 is {known_hash}; it was deleted") from None
    return path


def _go_on(path: Path) -> Callable[[str, str, object], None]:
    """A downloader for pooch that keeps the received part beside ``path`` if it is interrupted, and continues from there the next time."""
    part = path.with_name(f".{path.name}.part")

    def download(url: str, output_file: str, _) -> None:
        begun = part.stat().st_size if part.exists() else 0
        with requests.get(url, headers={"Range": f"bytes={begun}-"} if begun else {}, stream=True, timeout=TIMEOUT) as response:
            if (
                response.status_code == requests.codes.requested_range_not_satisfiable
            ):  # the part is complete or of another file; start again
                part.unlink()
                return download(url, output_file, _)
            response.raise_for_status()
            with open(part, "ab" if response.status_code == requests.codes.partial_content else "wb") as file:
                for chunk in response.iter_content(2**12):  # an interrupted chunk is lost
                    file.write(chunk)
        shutil.move(part, output_file)

    return download


def _unpack(archive: Path, wanted: set[str], sums: Mapping[str, str], folder: Path) -> None:
    """Write the members of a tar archive whose names, without folders, are ``wanted``; each must have its sum."""
    try:
        with tarfile.open(archive) as tar:
            members = {
                name: tar.extractfile(member).read() for member in tar for name in [Path(member.name).name] if name in wanted
            }
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise PudleError(f"{archive.name} is damaged or not a tar archive ({error}); it was deleted") from None
    for name, content in members.items():
        if hashlib.sha256(content).hexdigest() != sums[name]:
            raise PudleError(f"{archive.name}: {name} differs from the list, whose SHA-256 is {sums[name]}; it was not written")
        files.write(folder / name, content)
    lacking = sorted(wanted - set(members))
    if lacking:
        raise PudleError(f"{archive.name} lacks {len(lacking)} of the files: {', '.join(lacking[:5])}")
