"""numba's cache of compiled loops on disk: whether there is one, and what is out of date in it."""

import hashlib
import warnings
from pathlib import Path

from numba.core.caching import FunctionCache


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
        warnings.warn(f"pudle: compiled loops cannot be kept in {folder} ({error.strerror})", stacklevel=2)
