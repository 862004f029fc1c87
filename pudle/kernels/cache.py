"""numba's cache of compiled loops on disk: what is out of date is removed."""

import hashlib
from pathlib import Path


def forget_stale_code(loops, *modules):
    """Remove the compiled loops of ``modules`` where they are older than the source of any of these; ``loops`` is one of them.

    numba compiles a function anew when its own file changes, but not when that of a function which it calls does.
    """
    folder = Path(loops.stats.cache_path)
    sources = [Path(module.__file__) for module in modules]
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    stamp = folder / f"{sources[-1].stem}.sha256"
    if not stamp.exists() or stamp.read_text() != digest:
        for source in sources:
            for compiled in folder.glob(f"{source.stem}.*.nb[ci]"):
                compiled.unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        stamp.write_text(digest)
