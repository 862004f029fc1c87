"""Plug-ins in a configuration.

An entry is ``name: {…settings}``, or ``label: {method: registered name, …settings}`` for a variant of a method (or denoiser). null omits an
entry, so that an overlay can remove it. The settings of a cell have ``method_name`` (the label), ``method`` and ``method_settings``, or the
same keys with ``denoiser``.
"""

from collections.abc import Mapping, Sequence

from pudle.errors import PudleError
from pudle.harness.plugins import Registry
from pudle.harness.settings import Misfit


def chosen(plugins: Mapping[str, Mapping | None]) -> dict[str, dict]:
    """The entries that are not null."""
    return {label: dict(settings) for label, settings in plugins.items() if settings is not None}


def cell(registry: Registry, label: str, settings: Mapping) -> dict:
    """The part of a cell's settings that names the plug-in and its settings, with all defaults filled in."""
    name, settings = _split(registry, label, settings)
    kind = registry.kind
    return {f"{kind}_name": label, kind: name, f"{kind}_settings": registry.validate(name, settings)}


def check(registry: Registry, plugins: Mapping, place: Sequence[str], shared: Mapping | None = None) -> None:
    """Raise :class:`Misfit` with the place of the first plug-in or setting that does not exist.

    ``place`` is the path of ``plugins`` in the section. If ``shared`` is given, the plug-ins without it have been checked before, and
    ``place`` is the path of these settings, which all of them share.
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
