"""Plug-ins by name: the code that methods and denoisers share. A plug-in is a class in a file of its kind's folder, in a file of the
user (:func:`load`), or in an installed package (an entry point whose group is the name of the kind's package).

Planning a workflow imports every plug-in to check names and settings, and must not wait for torch. A plug-in therefore imports large
packages inside the functions that need them.
"""

from __future__ import annotations

import inspect
import pkgutil
import re
import sys
import traceback
from abc import ABC
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import ClassVar

from pydantic import ValidationError

from pudle.errors import PudleError, nearest, one_of
from pudle.harness import provenance
from pudle.harness.settings import Model, UnknownKey, first_complaint

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_REGISTRIES: list[Registry] = []


class Settings(Model):
    """Base class of the ``Settings`` of a plug-in: typed fields, each with a description. Unknown keys are an error."""


class SettingsError(PudleError):
    """The settings of a plug-in are invalid; ``key`` is the invalid one, or None if they contradict each other."""

    def __init__(self, message: str, key: str | None):
        super().__init__(message)
        self.key = key


class Plugin(ABC):
    """Base class of all plug-ins, with the attributes that describe them."""

    Settings: ClassVar[type[Settings]] = Settings
    name: ClassVar[str]  # set by `register`
    description: ClassVar[str]  # set by `register`: the first line of the docstring
    source: ClassVar[str]  # who published it, where
    note: ClassVar[str] = ""  # a warning that users need before a large run


class Registry:
    """All plug-ins of one kind.

    kind : the word for one plug-in, such as "method"; `pudle <kind>s` lists them
    base : the subclass of :class:`Plugin` that they derive from
    package : the package whose modules contain the built-in plug-ins
    """

    def __init__(self, kind: str, base: type[Plugin], package: str):
        self.kind, self.base, self.package = kind, base, package
        self.classes: dict[str, type[Plugin]] = {}
        self.discover = cache(self._discover)
        _REGISTRIES.append(self)

    def register(self, name: str) -> Callable[[type], type]:
        """Class decorator that registers a plug-in under ``name`` (lower-case words joined by hyphens).

        Raises :class:`PudleError` if the name is invalid or taken, or if the class has a wrong base class or lacks its docstring,
        its source or the description of a setting.
        """

        def add(cls: type) -> type:
            place, kind = _place(cls), self.kind
            if not NAME.fullmatch(name):
                raise PudleError(
                    f"{place}: invalid {kind} name {name!r}: use lower-case words joined by hyphens, for example 'my-{kind}'"
                )
            if name in self.classes:
                raise PudleError(
                    f"{place}: there is already a {kind} {name!r}, in {_place(self.classes[name])}: choose another name"
                )
            if not issubclass(cls, self.base):
                raise PudleError(f"{place}: {kind} {name!r} must be a subclass of {self.package}.{self.base.__name__}")
            if not cls.__dict__.get("__doc__") and sys.flags.optimize < 2:  # which takes all docstrings away
                raise PudleError(f"{place}: {kind} {name!r} lacks a docstring; its first line is what `pudle {kind}s` shows")
            if not getattr(cls, "source", None):
                raise PudleError(f'{place}: {kind} {name!r} lacks `source = "who published it, where"`')
            for field, info in cls.Settings.model_fields.items():
                if not info.description:
                    raise PudleError(f"{place}: setting {field!r} of {kind} {name!r} lacks a description")
            cls.name, cls.description = name, inspect.cleandoc(cls.__doc__ or name).splitlines()[0]
            self.classes[name] = cls
            return cls

        return add

    def names(self) -> tuple[str, ...]:
        """The sorted names of all known plug-ins."""
        self.discover()
        return tuple(sorted(self.classes))

    def get(self, name: str) -> type[Plugin]:
        """The class registered as ``name``; raises :class:`PudleError`, with the nearest name, if there is none."""
        return self.classes[one_of(name, self.names(), self.kind)]

    def settings(self, name: str, settings: Mapping) -> Settings:
        """The ``settings`` of plug-in ``name``, checked and with all defaults filled in; raises :class:`SettingsError` if they are invalid."""
        cls = self.get(name)
        try:
            return cls.Settings.model_validate(dict(settings))
        except ValidationError as failure:
            path, complaint, raised = first_complaint(failure, settings)
            missing = [
                str(error["loc"][0]) for error in failure.errors() if error["type"] == "missing" and len(error["loc"]) == 1
            ]
        what, key = f"{self.kind} {name!r}", str(path[0]) if path else None
        if isinstance(raised, UnknownKey) and not path:
            raise SettingsError(f"{what}: unknown setting {raised.key!r}{nearest(raised.key, raised.allowed)}", raised.key)
        if missing and not path:
            raise SettingsError(
                f"{what} needs the setting {missing[0]!r}: {cls.Settings.model_fields[missing[0]].description}", missing[0]
            )
        if not path:
            raise SettingsError(f"{what}: {raised}" if raised else f"{what}{complaint}", None)
        raise SettingsError(f"{what}: {'.'.join(map(str, path))!r}{complaint}", key)

    def validate(self, name: str, settings: Mapping) -> dict:
        """The checked settings of plug-in ``name`` as plain JSON values; raises :class:`SettingsError` if they are invalid."""
        return self.settings(name, settings).model_dump(mode="json")

    def source_file(self, name: str) -> Path:
        """The file that defines plug-in ``name``."""
        return Path(inspect.getfile(self.get(name)))

    def fingerprint(self, name: str) -> str:
        """The fingerprint of plug-in ``name``: of its code and of the modules that it imports from pudle or from its own package."""
        return provenance.fingerprint(self.get(name).__module__)

    def _discover(self) -> None:
        for module in pkgutil.iter_modules(sys.modules[self.package].__path__):
            import_module(f"{self.package}.{module.name}")
        for point in entry_points(group=self.package):
            try:
                point.load()
            except PudleError:
                raise
            except (Exception, SystemExit) as error:
                package = point.dist.name if point.dist else "an installed package"
                raise PudleError(
                    f"the {self.kind}s of {package} (entry point {point.name} = {point.value}) fail on import: "
                    f"{type(error).__name__}: {' '.join(str(error).split())}; correct or uninstall it"
                ) from None


def load(paths: Iterable[str | Path]) -> None:
    """Import files with plug-ins of any kind; files that are already loaded are skipped.

    Relative paths start from the working directory. Raises :class:`PudleError` if a file is missing, fails on import, registers
    nothing, or registers a name that is already taken.
    """
    for registry in _REGISTRIES:
        registry.discover()
    for path in paths:
        _load(Path(path))


def _load(path: Path) -> None:
    file = path.expanduser().resolve()
    module = f"{provenance.PLUGIN}{re.sub(r'[^A-Za-z0-9_]', '_', file.stem)}"  # without the folder: fingerprints hold wherever it lies
    if module in sys.modules:
        if Path(sys.modules[module].__file__ or "") != file:
            raise PudleError(f"plugin {path}: {sys.modules[module].__file__} is a plugin of the same name: rename one")
        return
    if not file.is_file() or file.suffix != ".py":
        where = "" if path.is_absolute() else f" in {Path.cwd()}"
        raise PudleError(f"plugin {path}: {'not a Python file' if file.exists() else f'there is no such file{where}'}")
    before = _registered()
    spec = spec_from_file_location(module, file)
    assert spec and spec.loader  # the name ends in .py
    sys.modules[module] = module_from_spec(spec)
    try:
        spec.loader.exec_module(sys.modules[module])
        if _registered() == before:
            raise PudleError(f'plugin {path} registers nothing: decorate its class with @register("a-name")')
        if other := provenance.hidden(module):
            raise PudleError(f"plugin {path}: a module with the name of {other} is loaded from another folder; rename one")
    except BaseException as error:
        del sys.modules[module]
        for registry, name in _registered() - before:
            del registry.classes[name]
        if isinstance(error, PudleError) or not isinstance(error, Exception | SystemExit):
            raise
        raise PudleError(f"plugin {path} fails on import: {describe_error(error, file)}") from None


def describe_error(error: BaseException, file: Path) -> str:
    """A one-line description of ``error``: the line of ``file`` that it comes from, its type and its message."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == file]
    if isinstance(error, SyntaxError) and error.filename == str(file):
        lines.append(error.lineno)
    where = f"line {lines[-1]}: " if lines else ""
    return f"{where}{type(error).__name__}: {' '.join(str(error).split())}"


def _registered() -> set[tuple[Registry, str]]:
    return {(registry, name) for registry in _REGISTRIES for name in registry.classes}


def _place(cls: type) -> str:
    return f"{inspect.getfile(cls)}, line {inspect.getsourcelines(cls)[1]}"
