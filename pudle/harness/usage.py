"""The peak memory of a process that may be a fork of another process."""

import sys
from contextlib import suppress
from pathlib import Path

_PROCESS = Path("/proc/self")


def reset_peak_memory() -> None:
    """Let :func:`peak_memory_mb` count from now on, if the system supports this (Linux)."""
    with suppress(OSError):
        (_PROCESS / "clear_refs").write_text("5", encoding="ascii")


def peak_memory_mb() -> int | None:
    """The largest resident memory of this process in MiB since :func:`reset_peak_memory` or, if unknown, since its start.

    None if the system does not report it, for example on Windows.

    With getrusage(2) a fork starts with the peak of its parent. The VmHWM of Linux, once reset, is the peak of the fork itself.
    """
    with suppress(OSError, ValueError, StopIteration):
        lines = (_PROCESS / "status").read_text(encoding="ascii", errors="replace").splitlines()
        return round(int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 1024)
    try:
        import resource
    except ImportError:
        return None
    units = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, kB elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * units / 2**20)
