"""A run as one ZIP file, which can be audited on another machine."""

import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pudle.audit.run import CRATE, MANIFEST, Run
from pudle.errors import PudleError
from pudle.harness import files

DATE = (1980, 1, 1, 0, 0, 0)  # the same run makes the same archive


def export(run: Run, path: Path) -> int:
    """Write the run and its manifest as a ZIP file; returns the number of files.

    Raises :class:`PudleError` if a file is missing, or if ``path`` has another suffix than .zip or lies in the folder of the run.
    """
    path = Path(path)
    if path.suffix != ".zip":
        raise PudleError(f"{path}: choose a name that ends with .zip")
    if path.absolute().is_relative_to(run.root.absolute()):
        raise PudleError(f"{path}: lies in the folder of the run; choose a place outside of it")
    names = [*run.files, MANIFEST, CRATE]
    missing = [name for name in names if not (run.root / name).is_file()]
    if missing:
        raise PudleError(f"{run.root / missing[0]}: missing; run `snakemake` first")

    def save(temporary: Path) -> None:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in sorted(names):
                entry = zipfile.ZipInfo(name, DATE)
                entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                archive.writestr(entry, (run.root / name).read_bytes())

    files.replace(path, save)
    return len(names)


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """The folder of a run: ``path`` itself, or a temporary folder with the contents of the ZIP file ``path``.

    Raises :class:`PudleError` if ``path`` does not exist or is neither of both.
    """
    path = Path(path)
    if path.is_dir():
        yield path
    elif not path.is_file():
        raise PudleError(f"{path}: there is no such folder or file")
    else:
        with tempfile.TemporaryDirectory() as folder:
            try:
                with zipfile.ZipFile(path) as archive:
                    archive.extractall(folder)
            except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError) as error:
                raise PudleError(f"{path}: not a ZIP file, or damaged: {error}") from None
            yield Path(folder)
