"""The experiments of the paper, one folder each.

A folder exports ``EXPERIMENT``, an :class:`_shared.experiment.Experiment` with its settings, plan, run, figures, claims and controls. Each
new folder is a new experiment; experiments are listed nowhere else. ``_shared`` holds code that several experiments use.
"""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from pudle.errors import PudleError, one_of
from pudle.experiments._shared.configuration import configuration_of
from pudle.experiments._shared.data_sets import MISSING_ALLOWED
from pudle.experiments._shared.experiment import Experiment
from pudle.harness import plugins, provenance, reference, settings
from pudle.harness.cells import Cell

if TYPE_CHECKING:
    from pudle.analysis.claim import Claim
    from pudle.analysis.negative_controls import Control

HOME = Path(__file__).resolve().parents[2]  # the checkout
EXPERIMENTS = tuple(
    sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg and not module.name.startswith("_"))
)


@cache
def get(experiment: str) -> Experiment:
    """The experiment of this name. Raises :class:`PudleError`, which gives the nearest name, if there is none."""
    return import_module(f"pudle.experiments.{one_of(experiment, EXPERIMENTS, 'experiment')}").EXPERIMENT


def has_controls(experiment: str) -> bool:
    """Whether the experiment has negative controls."""
    return get(experiment).controls is not None


def controls(experiment: str) -> tuple[Control, ...]:
    """The negative controls of an experiment's claims; an empty tuple if it has none."""
    found = get(experiment).controls
    return found.load() if found else ()


def controls_of(experiment: str, claim: Claim, show: str = "statement") -> str:
    """The statements or ids (``show``: "statement" or "id") of a claim's negative controls; else "none" and the reason."""
    found = [getattr(control, show) for control in controls(experiment) if claim.id in control.claims]
    return (", " if show == "id" else " ").join(found) or ": ".join(filter(None, ("none", claim.uncontrolled)))


def validate(config: Mapping, files: Iterable[Path] = (), options: Mapping = MappingProxyType({})) -> None:
    """Raise :class:`PudleError` if the configuration is invalid, or if data that it names are missing and it has no ``reference``.

    Error messages name the place in ``files`` or in ``options`` of the command line, from which the configuration was merged.
    """
    sources = settings.Sources(files, options)
    settings.validate(configuration_of(EXPERIMENTS), config, sources)
    try:
        reference.find(config.get("reference"), HOME)
    except PudleError as error:
        raise PudleError(f"{sources.where(['reference'])}: {error}") from None
    plugins.load(config.get("plugins", ()))
    sections = {experiment: section for experiment, section in config["experiments"].items() if section is not None}
    if not sections:
        raise PudleError(f"{sources.where(['experiments'])}: 'experiments' holds no experiment to run")
    context = {} if config.get("reference") is None else MISSING_ALLOWED
    for experiment, section in sections.items():
        settings.validate(get(experiment).settings, section, sources, ("experiments", experiment), context)


def plan(config: Mapping) -> list[Cell]:
    """The cells of all experiments of a valid configuration. An experiment with the section null is switched off.

    Keys that a section leaves out have the defaults of the experiment's model.
    """
    plugins.load(config.get("plugins", ()))
    planned = []
    for experiment, section in config["experiments"].items():
        if section is not None:
            chosen = get(experiment)
            fixed = {key: value for key, value in (chosen.settings.defaults() | section).items() if key != "seeds"}
            seeds = _seeds(section.get("seeds", config["seeds"]))
            planned += [Cell(experiment, cell, seeds, chosen.varies) for cell in chosen.plan(fixed)]
    return planned


def fingerprint(cell: Cell) -> str:
    """The fingerprint of the code that ``cell`` depends on, which is that of its experiment's run and of its plug-in."""
    experiment = get(cell.experiment)
    plugin = experiment.plugin(cell.settings)
    return "-".join([_fingerprint(experiment.run.module), *([experiment.plugins.fingerprint(plugin)] if plugin else [])])


_fingerprint = cache(provenance.fingerprint)


def source_file(cell: Cell) -> Path | None:
    """The file of the plug-in that ``cell`` runs; None if it runs none."""
    experiment = get(cell.experiment)
    plugin = experiment.plugin(cell.settings)
    return experiment.plugins.source_file(plugin) if plugin else None


def data_sets(cell: Cell) -> list[str]:
    """The names of the data sets that ``cell`` reads."""
    return get(cell.experiment).data_sets(cell.settings)


def code(cell: Cell) -> dict[str, str]:
    """SHA-256 of the source of each module that ``cell`` depends on, including its plug-in."""
    experiment = get(cell.experiment)
    plugin = experiment.plugin(cell.settings)
    return provenance.code(experiment.run.module, *([experiment.plugins.get(plugin).__module__] if plugin else []))


def require_gpu(config: Mapping, files: Iterable[Path] = (), options: Mapping = MappingProxyType({})) -> None:
    """Raise :class:`PudleError` if a valid configuration computes on a GPU and this machine has none; arguments as in :func:`validate`.

    Call this on the machine that computes cells, which may differ from the one that plans them. The GPU is tested in another process, since
    planning does not import torch.
    """
    if config["device"] != "cuda":
        return
    tried = subprocess.run(
        [sys.executable, "-P", "-c", "import torch; torch.zeros(1, device='cuda')"],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    if tried.returncode:
        reason = (tried.stderr.strip().splitlines() or ["no reason given"])[-1]
        place = settings.Sources(files, options).where(["device"])
        raise PudleError(f"{place}: 'device' is 'cuda', but torch cannot use a GPU here ({reason}); write cpu, or auto")


def _seeds(seeds: int | list[int]) -> tuple[int, ...]:
    return tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
