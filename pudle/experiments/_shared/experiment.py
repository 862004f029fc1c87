"""The parts of an experiment. The folder of each experiment exports one :class:`Experiment` under the name ``EXPERIMENT``."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from pudle.analysis.claim import Claim
from pudle.analysis.figure import Figure
from pudle.experiments._shared.section import Section
from pudle.harness.plugins import Registry


@dataclass(frozen=True)
class Later:
    """An object whose module is imported when it is needed, since planning imports every experiment and must not wait for torch.

    reference : ``package.module:NAME``, as in the entry points of packages
    """

    reference: str

    @property
    def module(self) -> str:
        """The name of the module."""
        return self.reference.partition(":")[0]

    def load(self) -> object:
        """Import the module and return the object."""
        return pkgutil.resolve_name(self.reference)


def no_data(settings: Mapping) -> list[str]:
    """An empty list, for cells of synthetic data, which read no data set."""
    return []


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """An experiment. Its section of the configuration gives cells, its cells give rows, and its rows give figures and verdicts.

    settings : the model of its section, with types, ranges, conditions on several keys, and descriptions
    plan : maps the section, without its seeds and with the defaults of ``settings``, to the settings of each cell
    varies : settings that differ between cells; they are columns of the tables
    run : location of ``run(settings, seeds, record)``, which computes one cell
    figures : figures drawn from the rows
    claims : claims tested on the rows
    controls : location of the tuple of negative controls of the claims; None if there are none
    plugins : the registry of the plug-ins that its cells run; None if they run none
    data_sets : maps the settings of a cell to the names of the data sets that it reads
    small_arrays : maps the arrays of a cell to those that reference results keep; None keeps all of them
    """

    settings: type[Section]
    plan: Callable[[Mapping], Iterable[dict]]
    varies: tuple[str, ...]
    run: Later
    figures: tuple[Figure, ...]
    claims: tuple[Claim, ...]
    controls: Later | None = None
    plugins: Registry | None = None
    data_sets: Callable[[Mapping], list[str]] = no_data
    small_arrays: Callable[[Mapping], dict] | None = None

    def plugin(self, settings: Mapping) -> str | None:
        """The name of the plug-in that a cell with these settings runs; None if it runs none."""
        return settings.get(self.plugins.kind) if self.plugins else None
