"""Methods of dictionary learning as plug-ins.

A method is a class in a file of this folder, in a file of yours (``load_plugins``) or in an installed package (entry points of
the group ``pudle.methods``)::

    @register("my-method")
    class MyMethod(Method):
        '''The one line that `pudle methods` shows.'''

        source = "who published it, where"

        class Settings(Settings):
            rate: float = Field(0.1, gt=0, description="What it is.")

        def update(self, batch): ...

Planning a workflow imports every method, so that names and settings can be checked, and must not wait for torch: a method imports
what is heavy inside the functions that need it.
"""

from __future__ import annotations

import inspect
import pkgutil
import re
import sys
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pudle.errors import PudleError, nearest, one_of, shown
from pudle.harness import provenance
from pudle.harness.settings import yaml_hint

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

__all__ = [
    "Field",
    "Method",
    "Settings",
    "SettingsError",
    "create",
    "fingerprint",
    "get",
    "load_plugins",
    "names",
    "register",
    "source_file",
    "validate",
]

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_METHODS: dict[str, type[Method]] = {}


class Settings(BaseModel):
    """What a method's ``Settings`` are made from: typed fields with a description; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class SettingsError(PudleError):
    """A method's settings are wrong; ``key`` is the one to blame, None for all of them together."""

    def __init__(self, message: str, key: str | None):
        super().__init__(message)
        self.key = key


class Method(ABC):
    """A dictionary that is learned from batches of samples. It never sees the truth.

    dictionary : the current dictionary (m, p), of the type and on the device of the one it started from. Copy it to keep it
    encode : optional; ``encode(x)`` gives the codes (n, p) of samples (n, m) in the current dictionary
    """

    Settings: ClassVar[type[Settings]] = Settings
    name: ClassVar[str]  # set by `register`
    description: ClassVar[str]  # set by `register`: the first line of the docstring
    source: ClassVar[str]  # who published it, where
    note: ClassVar[str] = ""  # what a user must know before a large run
    unit_norm: ClassVar[bool] = True  # a promise: after every update all atoms have norm 1

    def __init__(self, dictionary: Tensor, settings: Settings, generator: np.random.Generator):
        """``dictionary`` (m, p) is where to start, and is copied; all randomness comes from ``generator``."""
        self.dictionary = dictionary.clone()
        self.settings = settings
        self.generator = generator

    @abstractmethod
    def update(self, batch: Tensor) -> None:
        """Learn from ``batch`` (b, m), b ≥ 1. Called once for each batch, in order."""

    def move_to(self, dictionary: Tensor) -> None:
        """Make ``dictionary`` (m, p) the current one, with its atoms rescaled to norm 1."""
        self.dictionary = dictionary / dictionary.norm(dim=0, keepdim=True)


def register(name: str) -> Callable[[type[Method]], type[Method]]:
    """Class decorator: makes a :class:`Method` known by ``name`` (lower-case words with hyphens between them)."""

    def add(cls: type[Method]) -> type[Method]:
        place = _place(cls)
        if not NAME.fullmatch(name):
            raise PudleError(f"{place}: {name!r} is no name for a method: lower-case words with hyphens between them are")
        if name in _METHODS:
            raise PudleError(f"{place}: there is already a method {name!r}, in {_place(_METHODS[name])}: choose another name")
        if not issubclass(cls, Method):
            raise PudleError(f"{place}: method {name!r} must be a subclass of pudle.methods.Method")
        if not cls.__dict__.get("__doc__"):
            raise PudleError(f"{place}: method {name!r} lacks a docstring; its first line is what `pudle methods` shows")
        if not getattr(cls, "source", None):
            raise PudleError(f'{place}: method {name!r} lacks `source = "who published it, where"`')
        for field, info in cls.Settings.model_fields.items():
            if not info.description:
                raise PudleError(f"{place}: setting {field!r} of method {name!r} lacks a description")
        cls.name, cls.description = name, inspect.cleandoc(cls.__doc__).splitlines()[0]
        _METHODS[name] = cls
        return cls

    return add


def names() -> tuple[str, ...]:
    """The names of all methods known here, sorted."""
    _discover()
    return tuple(sorted(_METHODS))


def get(name: str) -> type[Method]:
    """The class registered as ``name``; an unknown one is a :class:`PudleError` with the nearest."""
    return _METHODS[one_of(name, names(), "method")]


def validate(name: str, settings: Mapping) -> dict:
    """``settings`` of method ``name`` with all defaults filled in, as plain JSON values. Raises :class:`SettingsError`."""
    return _checked(name, settings).model_dump(mode="json")


def create(name: str, dictionary: Tensor, settings: Mapping, generator: np.random.Generator) -> Method:
    """Method ``name``, about to start from ``dictionary`` (m, p)."""
    return get(name)(dictionary, _checked(name, settings), generator)


def source_file(name: str) -> Path:
    """The file that defines method ``name``."""
    return Path(inspect.getfile(get(name)))


def fingerprint(name: str) -> str:
    """Changes with the code of method ``name`` and of everything of pudle, or of its own package, that it imports."""
    return provenance.fingerprint(get(name).__module__)


def load_plugins(paths: Iterable[str | Path]) -> None:
    """Import files of methods; a file that is already loaded is left as it is.

    Relative paths start from the working directory. Raises :class:`PudleError` for a file that is missing, fails on import,
    registers nothing, or takes a name that is taken.
    """
    _discover()
    for path in paths:
        _load(Path(path))


def _load(path: Path) -> None:
    file = path.expanduser().resolve()
    module = (
        f"pudle_plugin_{re.sub(r'[^A-Za-z0-9_]', '_', file.stem)}"  # without the folder: fingerprints hold wherever it lies
    )
    if module in sys.modules:
        if Path(sys.modules[module].__file__) != file:
            raise PudleError(f"plugin {path}: {sys.modules[module].__file__} is a plugin of the same name: rename one")
        return
    if not file.is_file() or file.suffix != ".py":
        where = "" if path.is_absolute() else f" in {Path.cwd()}"
        raise PudleError(f"plugin {path}: {'not a Python file' if file.exists() else f'there is no such file{where}'}")
    before = set(_METHODS)
    spec = spec_from_file_location(module, file)
    sys.modules[module] = module_from_spec(spec)
    try:
        spec.loader.exec_module(sys.modules[module])
        if set(_METHODS) == before:
            raise PudleError(f'plugin {path} registers no method: decorate its class with @register("a-name")')
    except BaseException as error:
        del sys.modules[module]
        for name in set(_METHODS) - before:
            del _METHODS[name]
        if isinstance(error, PudleError) or not isinstance(error, Exception | SystemExit):
            raise
        raise PudleError(f"plugin {path} fails on import: {told(error, file)}") from None


def told(error: BaseException, file: Path) -> str:
    """One line for people about ``error``: the line of ``file`` it came from, its type and message."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == file]
    if isinstance(error, SyntaxError) and error.filename == str(file):
        lines.append(error.lineno)
    where = f"line {lines[-1]}: " if lines else ""
    return f"{where}{type(error).__name__}: {' '.join(str(error).split())}"


@cache
def _discover() -> None:
    for module in pkgutil.iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    for point in entry_points(group="pudle.methods"):
        try:
            point.load()
        except PudleError:
            raise
        except (Exception, SystemExit) as error:
            package = point.dist.name if point.dist else "an installed package"
            raise PudleError(
                f"the methods of {package} (entry point {point.name} = {point.value}) fail on import: "
                f"{type(error).__name__}: {' '.join(str(error).split())}; mend or uninstall it"
            ) from None


def _checked(name: str, settings: Mapping) -> Settings:
    cls = get(name)
    try:
        return cls.Settings.model_validate(dict(settings))
    except ValidationError as failure:
        error = failure.errors()[0]
    key = str(error["loc"][0]) if error["loc"] else None
    message = error["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if error["type"] == "extra_forbidden":
        raise SettingsError(f"method {name!r}: unknown setting {key!r}{nearest(key, cls.Settings.model_fields)}", key)
    if error["type"] == "missing":
        raise SettingsError(f"method {name!r} needs the setting {key!r}: {cls.Settings.model_fields[key].description}", key)
    if key is None:
        raise SettingsError(f"method {name!r}: {message}", key)
    raise SettingsError(f"method {name!r}: {key!r} is {shown(error['input'])}: {message}{yaml_hint(error['input'])}", key)


def _place(cls: type) -> str:
    return f"{inspect.getfile(cls)}, line {inspect.getsourcelines(cls)[1]}"
