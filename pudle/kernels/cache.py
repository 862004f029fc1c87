"""numba's cache of compiled loops on disk: whether there is one, what is out of date in it, and what happens where it fails."""

import contextlib
import functools
import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path

from numba import config, njit
from numba.core.caching import FunctionCache


def compiled(*, cache: bool, **options) -> Callable:
    """``numba.njit`` with ``options`` as a decorator; with ``cache`` the code is kept on disk as far as that is possible.

    It compiles where NUMBA_DISABLE_JIT is set, too: Python cannot run vector instructions.
    """

    def compile_later(function):
        disabled, config.DISABLE_JIT = config.DISABLE_JIT, 0
        try:
            loops = njit(**options)(function)
        finally:
            config.DISABLE_JIT = disabled
        if cache:
            loops._cache = _Kept(function)
        return loops

    return compile_later


class _Kept(FunctionCache):
    """The cache of one function. A file that cannot be read or written, as on a full disk, costs time and a warning, not the run."""

    def load_overload(self, sig, target_context):
        """The code that was kept, or None; files that are damaged are as good as none."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # of whatever kind: an index or code that was cut off
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig, data):
        """Keep the code if possible."""
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _warn_not_kept(self.cache_path, error.strerror)


@functools.cache
def _warn_not_kept(folder: str, reason: str) -> None:
    """Once for a folder, and not for each of its files."""
    warnings.warn(f"pudle: compiled loops cannot be kept in {folder} ({reason})", stacklevel=3)


def keeps_code() -> bool:
    """Whether numba finds a folder for compiled loops. Where it finds none, a warning says so, and each process compiles its own."""
    try:
        FunctionCache(keeps_code)
    except RuntimeError:
        warnings.warn(
            "pudle: no folder for compiled loops can be written to, so each process compiles its own: set NUMBA_CACHE_DIR to one",
            stacklevel=2,
        )
        return False
    return True


def forget_stale_code(loops, *modules):
    """Remove the compiled loops of ``modules`` where they are older than the source of any of these; ``loops`` is one of them.

    numba compiles a function again when its own file changes, but not when that of a function which it calls does. Where nothing is
    kept, nothing is removed; a folder that cannot be written to is left as it is, with a warning.
    """
    if loops.stats.cache_path is None:
        return
    folder = Path(loops.stats.cache_path)
    sources = [Path(module.__file__) for module in modules]
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    stamp = folder / f"{sources[-1].stem}.sha256"
    try:
        if not stamp.exists() or stamp.read_text(encoding="utf-8") != digest:
            for source in sources:
                for compiled in folder.glob(f"{source.stem}.*.nb[ci]"):
                    compiled.unlink(missing_ok=True)
            folder.mkdir(parents=True, exist_ok=True)
            stamp.write_text(digest, encoding="utf-8")
    except OSError as error:
        _warn_not_kept(str(folder), error.strerror)
