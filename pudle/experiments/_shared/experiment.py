"""What an experiment consists of: the folder of each exports one :class:`Experiment`, by the name ``EXPERIMENT``."""

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
    """An object whose module is imported when it is needed: planning imports every experiment, and does not wait for torch.

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
    """A cell of synthetic data reads no data set."""
    return []


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """An experiment: from a section of the configuration to cells, from cells to rows, from rows to figures and verdicts.

    settings : the model of its section: types, ranges, what fits together, and descriptions
    plan : section, without its seeds → the settings of each cell
    varies : settings that differ between cells; they are columns of the tables
    run : where ``run(settings, seeds, record)`` is, which computes one cell
    figures : what is drawn from the rows
    claims : what the rows are held against
    controls : where the negative controls of the claims are, a tuple of them; None if there are none
    plugins : the registry of the plug-ins that its cells run; None if they run none
    data_sets : settings of a cell → names of the data sets that it reads
    small_arrays : a cell's arrays → what reference results keep of them; None: all
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
        """The name of the plug-in that a cell with these settings runs, if it runs one."""
        return settings.get(self.plugins.kind) if self.plugins else None
