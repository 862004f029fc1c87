"""Methods in a configuration: ``name: {…settings}``, or ``label: {method: registered name, …settings}`` for a variant of one."""

from collections.abc import Mapping, Sequence

from pudle import methods
from pudle.errors import PudleError
from pudle.harness.settings import Sources


def method(label: str, chosen: Mapping | None) -> dict:
    """The part of a cell's settings that says which method runs and how, with all defaults filled in."""
    name, settings = _split(label, chosen)
    return {"method_name": label, "method": name, "method_settings": methods.validate(name, settings)}


def check_methods(chosen: Mapping, sources: Sources, where: Sequence[str]) -> None:
    """Raise :class:`PudleError` with the place of the first method or setting that does not exist."""
    for label, settings in chosen.items():
        name, settings = _split(label, settings)
        try:
            methods.validate(name, settings)
        except PudleError as error:
            key = getattr(error, "key", None)
            keys = [*where, label, key] if key in settings else [*where, label]
            raise PudleError(f"{sources.where(keys)}: {'.'.join(keys)!r}: {error}") from None


def fingerprint(settings: Mapping) -> str:
    """Changes with the code of the cell's method."""
    return methods.fingerprint(settings["method"])


def _split(label: str, chosen: Mapping | None) -> tuple[str, dict]:
    settings = dict(chosen or {})
    return settings.pop("method", label), settings
