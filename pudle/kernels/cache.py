"""numba's cache of compiled loops on disk: where it is, when its code is out of date, and what happens if it fails."""

import contextlib
import functools
import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path

from numba import config, njit
from numba.core.caching import FunctionCache


def compiled(*, cache: bool, **options) -> Callable:
    """``numba.njit`` with ``options`` as a decorator, for loops that Python calls; with ``cache`` the code is kept on disk if possible.

    Functions are compiled even if NUMBA_DISABLE_JIT is set, since Python cannot run vector instructions.
    """

    def compile_later(function):
        loops = _compile_later(function, options)
        if cache:
            loops._cache = _Kept(function)
        return loops

    return compile_later


def inner(*, cache: bool, **options) -> Callable:
    """:func:`compiled` for loops that other loops call, whose code contains them."""
    return lambda function: Inner(function, cache, options)


class Inner:
    """A loop that is compiled without an entrance from Python and without a file on disk, which saves a third of the time.

    If Python calls it, as tests do, it is compiled once more, with both (:attr:`from_python`).
    """

    def __init__(self, function: Callable, cache: bool, options: dict):
        functools.update_wrapper(self, function)  # its name and docstring
        self.py_func = function
        self._loops = _compile_later(function, options | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True})
        self._compiled = functools.partial(compiled(cache=cache, **options), function)

    @property
    def _numba_type_(self):
        """The type by which numba recognises this loop where another one calls it."""
        return self._loops._numba_type_

    @functools.cached_property
    def from_python(self):
        """The same loop as :func:`compiled` makes it."""
        return self._compiled()

    def __call__(self, *arguments):
        return self.from_python(*arguments)


def _compile_later(function: Callable, options: dict):
    disabled, config.DISABLE_JIT = config.DISABLE_JIT, 0
    try:
        return njit(**options)(function)
    finally:
        config.DISABLE_JIT = disabled


class _Kept(FunctionCache):
    """The cache of one function. If a file cannot be read or written, for example on a full disk, a warning is given and the run continues."""

    def load_overload(self, sig, target_context):
        """The code that was kept; None if it is missing or its file is damaged."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # any kind: the index or the code may be truncated
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
    """Warn once per folder instead of once per file."""
    warnings.warn(f"pudle: compiled loops cannot be kept in {folder} ({reason})", stacklevel=3)


def keeps_code() -> bool:
    """Whether numba finds a folder for compiled loops. Otherwise a warning is given, and each process compiles its own loops."""
    try:
        FunctionCache(keeps_code)
    except RuntimeError:
        warnings.warn(
            "pudle: no folder for compiled loops is writable, so each process compiles them again: set NUMBA_CACHE_DIR to a writable folder",
            stacklevel=2,
        )
        return False
    return True


def forget_stale_code(loops, *modules):
    """Remove the compiled loops of ``modules`` if the source of any of them has changed; ``loops`` is one of these loops.

    numba compiles a function again if its own file changes, but not if the file of a function that it calls changes. A folder that is not
    writable is left unchanged, with a warning.
    """
    if loops.stats.cache_path is None:
        return
    folder = Path(loops.stats.cache_path)
    sources = [Path(module.__file__) for module in modules]
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    stamp = folder / f"{sources[-1].stem}.sha256"
    try:
        if not stamp.exists() or stamp.read_bytes() != digest.encode():
            for source in sources:
                for compiled in folder.glob(f"{source.stem}.*.nb[ci]"):
                    compiled.unlink(missing_ok=True)
            folder.mkdir(parents=True, exist_ok=True)
            stamp.write_bytes(digest.encode())
    except OSError as error:
        _warn_not_kept(str(folder), error.strerror)
