"""Methods in a configuration: ``name: {…settings}``, or ``label: {method: registered name, …settings}`` for a variant of one; null
leaves one out, as an overlay may want to."""

from collections.abc import Mapping, Sequence

from pudle import methods
from pudle.errors import PudleError
from pudle.harness.settings import Sources


def chosen_methods(chosen: Mapping[str, Mapping | None]) -> dict[str, dict]:
    """Those that are not null."""
    return {label: dict(settings) for label, settings in chosen.items() if settings is not None}


def method(label: str, chosen: Mapping) -> dict:
    """The part of a cell's settings that says which method runs and how, with all defaults filled in."""
    name, settings = _split(label, chosen)
    return {"method_name": label, "method": name, "method_settings": methods.validate(name, settings)}


def check_methods(chosen: Mapping, sources: Sources, where: Sequence[str]) -> None:
    """Raise :class:`PudleError` with the place of the first method or setting that does not exist."""
    for label, settings in chosen_methods(chosen).items():
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


def _split(label: str, chosen: Mapping) -> tuple[str, dict]:
    settings = dict(chosen)
    return settings.pop("method", label), settings
