"""The provenance of a cell: the code and data that it depends on, and the versions and machine that computed it."""

import ast
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

from pudle.harness import files

CHANGED = "changed while it was read"  # in the place of a digest
PLUGIN = "pudle_plugin_"  # prefix of the module names of plug-ins; modules from a plug-in's folder are named as its submodules


def fingerprint(*names: str) -> str:
    """Sixteen hexadecimal digits of a hash over the code of the modules ``names`` and of all modules that they import (:func:`modules`).

    The fingerprint ignores comments, layout and docstrings, and is the same on every version of Python (:func:`canonical`).
    Passed as a ``params:`` value, it makes Snakemake re-run exactly the jobs that a change of code affects.
    """
    digest = hashlib.sha256()
    for code in sorted(_read(module)[0] for module in set().union(*map(modules, names))):
        digest.update(f"{code}\n".encode())
    return digest.hexdigest()[:16]


def code(*names: str) -> dict[str, str]:
    """SHA-256 of the source of each module that :func:`fingerprint` covers, by module name."""
    return {module: files.sha256(Path(_source(module) or "")) for module in sorted(set().union(*map(modules, names)))}


def modules(name: str) -> set[str]:
    """The module ``name`` and all modules of its package and of pudle that it imports, at any depth.

    Modules that the file of a plug-in imports from its own folder belong to the plug-in: ``helper`` becomes
    ``pudle_plugin_mine.helper``.
    """
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting += _read(module)[1]
    return seen


def _read(module: str) -> tuple[str, frozenset[str]]:
    """SHA-256 of the canonical code of ``module``, and the modules that it imports from its package and from pudle."""
    path = _source(module)
    if not path:
        raise ModuleNotFoundError(f"there is no module {module!r}", name=module)
    state = os.stat(path)
    return _parse(module, path, state.st_mtime_ns, state.st_size)


def _source(module: str) -> str | None:
    """The file of a module, found without importing it, since planning must not wait for torch."""
    package, _, name = module.rpartition(".")
    if not package:
        spec = importlib.util.find_spec(name)
        return spec.origin if spec else None
    home = _source(package)
    if not home:
        return None
    folder, file = os.path.split(home)
    if package.startswith(PLUGIN) and "." not in package:
        return _beside(folder, name)
    return _within(folder, name) if file == "__init__.py" else None


@cache
def _within(folder: str, name: str) -> str | None:
    """The file of the module ``name`` in ``folder``."""
    return next(filter(os.path.isfile, (os.path.join(folder, name, "__init__.py"), os.path.join(folder, f"{name}.py"))), None)


def _beside(folder: str, name: str) -> str | None:
    """The file of the module ``name`` if a plug-in in ``folder`` imports it from there, or from a folder below."""
    if name not in sys.modules:
        return _within(folder, name)
    file = getattr(sys.modules[name], "__file__", None)
    return file if file and Path(file).is_relative_to(folder) and not _installed(file) else None


def _installed(file: str) -> bool:
    places = (sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib"))
    return any(map(Path(file).is_relative_to, places))


def hidden(plugin: str) -> str | None:
    """A file that ``plugin`` would import from its own folder if another plug-in had not loaded a module of the same name."""
    home = _source(plugin) or ""
    tree = ast.parse(Path(home).read_text(encoding="utf-8"))
    for name in {name.split(".")[0] for name in _imports(tree, "")} - {__name__.split(".")[0]}:
        beside, loaded = _within(os.path.dirname(home), name), getattr(sys.modules.get(name), "__file__", None)
        if beside and loaded and beside != loaded and not _installed(loaded):
            return beside
    return None


@cache
def _parse(module: str, path: str, modified: int, size: int) -> tuple[str, frozenset[str]]:
    """:func:`_read` of a file, cached by its time and size, since planning calls it thousands of times."""
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    own, package = module.split(".")[0], module if path.endswith("__init__.py") else module.rpartition(".")[0]
    names = {*_imports(tree, package), *_imported_by_name(tree)}
    if own.startswith(PLUGIN):
        names |= {f"{own}.{name}" for name in names}
    packages = {own, __name__.split(".")[0]}
    found = {name for name in names if "." in name and name.split(".")[0] in packages and _source(name)}
    return hashlib.sha256(canonical(tree).encode()).hexdigest(), frozenset(found)


def canonical(node: object) -> str:
    """A syntax tree as text, without comments, layout, positions and docstrings; the same from Python 3.11 to 3.14.

    The outputs of ``ast.unparse`` and ``ast.dump`` change between versions of Python. Here empty fields are left out, since newer
    versions add some, and the literal parts of an f-string are joined, since versions divide them differently.
    """
    if isinstance(node, list):
        return f"[{','.join(map(canonical, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = {name: getattr(node, name, None) for name in node._fields if name not in _NO_MEANING}
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
        node, clean=False
    ):
        fields["body"] = node.body[1:]
    if isinstance(node, ast.JoinedStr):
        fields["values"] = _joined(node.values)
    kept = (f"{name}={canonical(value)}" for name, value in fields.items() if value is not None and value != [])
    return f"{type(node).__name__}({','.join(kept)})"


# fields that follow from the rest of the tree, or are comments
_NO_MEANING = ("ctx", "kind", "type_comment", "type_ignores", "str")


def _joined(values: list[ast.expr]) -> list[ast.expr]:
    """The parts of an f-string, with neighbouring literals joined and empty ones left out."""
    parts: list[ast.expr] = []
    for value in values:
        if isinstance(value, ast.Constant) and parts and isinstance(parts[-1], ast.Constant):
            parts[-1] = ast.Constant(parts[-1].value + value.value)  # type: ignore[operator]  # both are text
        elif not (isinstance(value, ast.Constant) and value.value == ""):
            parts.append(value)
    return parts


def _imports(statement: ast.AST, package: str) -> Iterator[str]:
    """The names that ``statement``, or any statement below it, imports in a module of ``package``."""
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
    elif isinstance(statement, ast.ImportFrom):
        above = package.split(".")[: len(package.split(".")) - statement.level + 1] if statement.level else []
        home = ".".join(filter(None, [*above, statement.module]))
        yield from (home, *(f"{home}.{alias.name}" for alias in statement.names))
    for part in ("body", "orelse", "finalbody", "handlers", "cases"):
        for inner in getattr(statement, part, ()):
            yield from _imports(inner, package)


def _imported_by_name(tree: ast.AST) -> Iterator[str]:
    """The names in calls such as ``importlib.import_module("helper")``."""
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and call.args and isinstance(call.args[0], ast.Constant):
            function, name = getattr(call.func, "attr", getattr(call.func, "id", "")), call.args[0].value
            if function in ("import_module", "__import__") and isinstance(name, str):
                yield name


_READ: ContextVar[dict[str, tuple | None] | None] = ContextVar("read", default=None)


@contextmanager
def reading(roots: Mapping[str, Path]) -> Iterator[dict[str, str]]:
    """Record the files that Python code inside opens in the folders ``roots``.

    At the end of the block the dictionary maps ``name of the root/path`` to SHA-256, or for a file that has changed since it was opened to
    :data:`CHANGED`, which is the digest of no file. Loaders of data need not report their files. Python modules do not count as data.
    """
    _install_hook()
    opened: dict = {}
    found: dict = {}
    token = _READ.set(opened)
    try:
        yield found
    finally:
        _READ.reset(token)
        for name, root in roots.items():
            home = os.path.abspath(root)
            inside = sorted(path for path in map(Path, opened) if path.is_relative_to(home))
            found |= {
                f"{name}/{path.relative_to(home).as_posix()}": files.sha256(path)
                if opened[str(path)] in (None, _state(path))
                else CHANGED
                for path in inside
                if path.is_file() and path.suffix not in (".py", ".pyc")
            }


def _state(path: str | Path) -> tuple[int, int] | None:
    """The time and size of a file; None if there is none."""
    try:
        state = os.stat(path)
    except (OSError, ValueError):
        return None
    return state.st_mtime_ns, state.st_size


@cache
def _install_hook() -> None:
    """Install the audit hook, once per process, since a hook cannot be removed."""

    def note_opening(event: str, arguments: tuple) -> None:
        opened = _READ.get() if event == "open" else None
        if opened is not None and isinstance(arguments[0], str | os.PathLike):
            path = os.path.abspath(os.fsdecode(arguments[0]))
            if path not in opened:
                opened[path] = _state(path)

    sys.addaudithook(note_opening)


def describe() -> dict:
    """Versions, git commit, device, threads, BLAS, determinism and processor of this process, for ``cell.json``.

    The result contains no names of hosts, users or paths.
    """
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
    """Torch's default device, on which cells compute: "cpu", or the name of the GPU."""
    torch = sys.modules.get("torch")
    used = torch and torch.get_default_device()
    if torch and used and used.type == "cuda":
        return torch.cuda.get_device_name(used)
    return used.type if used else "cpu"


@cache
def packages() -> dict[str, str]:
    """Version of every installed package. Of several versions the one that is imported counts, which is the first on the path."""
    installed = reversed(list(importlib.metadata.distributions()))
    found = {(package.name or "").lower(): package.version for package in installed}
    return {name: found[name] for name in sorted(filter(None, found))}


def _blas() -> list[str]:
    """The libraries for linear algebra and threads, each with its version, kernels and number of threads."""
    from threadpoolctl import threadpool_info

    fields = (("internal_api", ""), ("version", ""), ("architecture", ""), ("num_threads", " threads"))
    return sorted(" ".join(f"{one[key]}{unit}" for key, unit in fields if one.get(key)) for one in threadpool_info())


def _git() -> dict | None:
    """The commit of the checkout that contains this package, and whether it has no changes.

    None outside of a checkout, for example in an archive or in the repository of another project.
    """

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", folder, *words], capture_output=True, env=environment, check=True)
        return os.fsdecode(done.stdout).strip()

    folder = str(Path(__file__).parent)
    top = Path(sys.modules[__name__.split(".")[0]].__file__ or "").parents[1]
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
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
