"""Checks of the requirements ("promises") on plug-ins, one after the other; each kind of plug-in has its own."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from pudle.errors import PudleError
from pudle.harness.plugins import Registry, describe_error


class PromiseCheck(NamedTuple):
    """One promise, whether the plug-in keeps it, and the measured value."""

    promise: str
    kept: bool
    measured: str


class BrokenPromise(PudleError, AssertionError):
    """A plug-in breaks its contract."""


class Broken(Exception):
    """A promise is broken; the message is the measured value."""


def examine(registry: Registry, name: str, trial: Any, promises: Mapping[str, Callable[[Any], str]]) -> Iterator[PromiseCheck]:
    """The findings on plug-in ``name``. Each promise is a function of ``trial`` that returns its measurement, or raises :class:`Broken`."""
    for promise, measure in promises.items():
        try:
            yield PromiseCheck(promise, True, measure(trial))
        except Broken as reason:
            yield PromiseCheck(promise, False, str(reason))
        except PudleError:  # not the plug-in's fault: a wrong setting, a missing package
            raise
        except Exception as error:
            file = registry.source_file(name)
            yield PromiseCheck(promise, False, f"it raised an error; {file.name}, {describe_error(error, file)}")


def demand(kind: str, name: str, findings: Iterable[PromiseCheck]) -> list[PromiseCheck]:
    """The findings as a list; raises :class:`BrokenPromise`, which lists all broken promises, if there are any."""
    found = list(findings)
    broken = [f"{finding.promise}: {finding.measured}" for finding in found if not finding.kept]
    if broken:
        raise BrokenPromise(f"{kind} {name!r} breaks its contract. {'; '.join(broken)}")
    return found
