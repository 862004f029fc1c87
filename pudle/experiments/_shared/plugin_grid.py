"""Plug-ins in a configuration: ``name: {…settings}``, or ``label: {method: registered name, …settings}`` for a variant of a method (a
denoiser likewise); null leaves one out, as an overlay may want to.

In the settings of a cell they are ``method_name`` (the label), ``method`` and ``method_settings``, or the same with ``denoiser``.
"""

from collections.abc import Mapping, Sequence

from pudle.errors import PudleError
from pudle.harness.plugins import Registry
from pudle.harness.settings import Misfit


def chosen(plugins: Mapping[str, Mapping | None]) -> dict[str, dict]:
    """Those that are not null."""
    return {label: dict(settings) for label, settings in plugins.items() if settings is not None}


def cell(registry: Registry, label: str, settings: Mapping) -> dict:
    """The part of a cell's settings that says which plug-in runs and how, with all defaults filled in."""
    name, settings = _split(registry, label, settings)
    kind = registry.kind
    return {f"{kind}_name": label, kind: name, f"{kind}_settings": registry.validate(name, settings)}


def check(registry: Registry, plugins: Mapping, place: Sequence[str], shared: Mapping | None = None) -> None:
    """Raise :class:`Misfit` with the place of the first plug-in or setting that does not exist.

    ``place`` leads to ``plugins``, or, if they were checked before, to the settings ``shared`` that were then given to all of them.
    """
    for label, settings in chosen(plugins).items():
        name, settings = _split(registry, label, settings)
        try:
            registry.validate(name, settings)
        except PudleError as error:
            key = getattr(error, "key", None)
            above, given = ([*place, label], settings) if shared is None else (place, shared)
            raise Misfit(str(error), [*above, key] if key in given else above, complete=True) from None


def _split(registry: Registry, label: str, chosen: Mapping) -> tuple[str, dict]:
    settings = dict(chosen)
    return settings.pop(registry.kind, label), settings
