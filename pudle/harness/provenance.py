"""Which code, which data, which versions, which machine: what a cell depends on and what made it."""

import ast
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

from pudle.harness import files


def fingerprint(*names: str) -> str:
    """Sixteen hexadecimal digits over the source of the modules ``names`` and of what they import, at any depth (:func:`modules`).

    Layout and comments do not count. Passed as a ``params:`` value, it makes Snakemake re-run exactly what a change of code touches.
    """
    digest = hashlib.sha256()
    for module in sorted(set().union(*map(modules, names))):
        digest.update(f"{module}\n{_read(module)[0]}\n".encode())
    return digest.hexdigest()[:16]


def code(*names: str) -> dict[str, str]:
    """SHA-256 of the source of the modules that :func:`fingerprint` is over, by their names."""
    return {module: files.sha256(_source(module)) for module in sorted(set().union(*map(modules, names)))}


def modules(name: str) -> set[str]:
    """The module ``name`` and all modules of its package and of this one that it imports, at any depth."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting += _read(module)[1]
    return seen


def _read(module: str) -> tuple[str, frozenset[str]]:
    """The source of ``module`` without layout and comments, and which modules of its package and of this one it imports."""
    path = _source(module)
    state = os.stat(path)
    return _parse(module, path, state.st_mtime_ns, state.st_size)


def _source(module: str) -> str | None:
    """The file of a module; nothing is imported to find it, as planning must not wait for torch."""
    package, _, name = module.rpartition(".")
    if not package:
        spec = importlib.util.find_spec(name)
        return spec.origin if spec else None
    home = _source(package)
    return _within(home, name) if home else None


@cache
def _within(home: str, name: str) -> str | None:
    """The file of the module ``name`` in the package of ``home``."""
    folder, file = os.path.split(home)
    if file != "__init__.py":
        return None
    return next(filter(os.path.isfile, (os.path.join(folder, name, file), os.path.join(folder, f"{name}.py"))), None)


@cache
def _parse(module: str, path: str, modified: int, size: int) -> tuple[str, frozenset[str]]:
    """What :func:`_read` says of a file in the state that ``modified`` and ``size`` tell: planning asks for it thousands of times."""
    tree = ast.parse(Path(path).read_text())
    packages = {module.split(".")[0], __name__.split(".")[0]}
    found = {name for name in _imports(tree) if "." in name and name.split(".")[0] in packages and _source(name)}
    return ast.unparse(tree), frozenset(found)


def _imports(statement: ast.AST) -> Iterator[str]:
    """What is imported in ``statement`` or anywhere below it (all imports are absolute: the linter sees to it)."""
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
    elif isinstance(statement, ast.ImportFrom) and statement.module:
        yield from (statement.module, *(f"{statement.module}.{alias.name}" for alias in statement.names))
    for part in ("body", "orelse", "finalbody", "handlers", "cases"):
        for inner in getattr(statement, part, ()):
            yield from _imports(inner)


_READ: ContextVar[set[str] | None] = ContextVar("read", default=None)


@contextmanager
def reading(roots: Mapping[str, Path]) -> Iterator[dict[str, str]]:
    """What Python code inside reads from the folders ``roots``: when it ends, ``name of the root/path`` → SHA-256 is in the dictionary.

    It holds what was opened, not what was said to be used, so no loader of data has to tell. Modules are no data.
    """
    _listen()
    opened, found = set(), {}
    token = _READ.set(opened)
    try:
        yield found
    finally:
        _READ.reset(token)
        for name, root in roots.items():
            inside = [Path(path) for path in opened if Path(path).is_relative_to(Path(root).absolute())]
            found |= {
                f"{name}/{path.relative_to(Path(root).absolute()).as_posix()}": files.sha256(path)
                for path in sorted(inside)
                if path.is_file() and path.suffix not in (".py", ".pyc")
            }


@cache
def _listen() -> None:
    """Once in a process, as a hook cannot be taken away."""

    def hear(event: str, arguments: tuple) -> None:
        opened = _READ.get() if event == "open" else None
        if opened is not None and isinstance(arguments[0], str | os.PathLike):
            opened.add(os.path.abspath(os.fsdecode(arguments[0])))

    sys.addaudithook(hear)


def describe() -> dict:
    """Versions, git commit, device, threads, BLAS, determinism and processor of this process, for ``cell.json``. Names no host, user or
    path."""
    torch = sys.modules.get("torch")
    return {
        "python": platform.python_version(),
        "packages": packages(),
        "git": _git(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads() if torch else None,
        "blas": _blas(),
        "device": device(),
        "dtype": str(torch.get_default_dtype()) if torch else None,
        "deterministic": bool(torch and torch.get_deterministic_debug_mode()),
    }


def device() -> str:
    """What is computed on, torch's default device: "cpu", or the name of the GPU."""
    torch = sys.modules.get("torch")
    used = torch and torch.get_default_device()
    if used and used.type == "cuda":
        return torch.cuda.get_device_name(used)
    return used.type if used else "cpu"


@cache
def packages() -> dict[str, str]:
    """Version of every installed package."""
    found = {(package.name or "").lower(): package.version for package in importlib.metadata.distributions()}
    return {name: found[name] for name in sorted(filter(None, found))}


def _blas() -> list[str]:
    """The libraries that do linear algebra or start threads, each with its version, kernels and number of threads."""
    from threadpoolctl import threadpool_info

    told = (("internal_api", ""), ("version", ""), ("architecture", ""), ("num_threads", " threads"))
    return sorted(" ".join(f"{one[key]}{unit}" for key, unit in told if one.get(key)) for one in threadpool_info())


def _git() -> dict | None:
    """Commit and cleanliness of the checkout that holds this package; None outside of one, as in an archive, or in a repository of others."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", folder, *words], capture_output=True, env=environment, check=True)
        return os.fsdecode(done.stdout).strip()

    folder = str(Path(__file__).parent)
    top = Path(importlib.util.find_spec(__name__.split(".")[0]).origin).parents[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # as hooks set them
    try:
        if not os.path.samefile(git("rev-parse", "--show-toplevel"), top):
            return None
        git("ls-files", "--error-unmatch", __file__)
        return {"commit": git("rev-parse", "HEAD"), "clean": not git("status", "--porcelain", "--untracked-files=no")}
    except (OSError, subprocess.CalledProcessError):
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
