"""The parts of a finished run: its configuration, its cells, and the steps that made its files from one another."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pudle import experiments, methods
from pudle.errors import PudleError, one_of
from pudle.harness import plan, reference
from pudle.harness.cells import Cell
from pudle.harness.files import read_json

MANIFEST = "manifest.json"
CRATE = "ro-crate-metadata.json"  # the same bytes under the name that other tools look for
APART = ("logs", ".snakemake")  # folders that no result depends on
PLANNED = ("config.json", plan.PLAN)  # the configuration and the plan that follows from it
PICTURES = ("pdf", "png", "svg")
_SHAPE: dict[str, type] = dict.fromkeys(("started", "ended", "status", "fingerprint"), str)
_SHAPE |= dict.fromkeys(("seeds", "endings"), list)
_SHAPE |= dict.fromkeys(("settings", "provenance", "code", "inputs", "outputs"), dict)


@dataclass(frozen=True)
class Step:
    """One command of the workflow: its ``inputs`` and ``outputs`` are paths under the run's folder."""

    name: str
    command: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Run:
    """The run in the folder ``root``, with its own copies of the configuration and of the plan.

    plugins : the user's files of methods; those of the configuration unless given

    Raises :class:`PudleError` if the folder has no configuration, or if it cannot be used.
    """

    def __init__(self, root: Path, plugins: Iterable[str] | None = None):
        self.root = Path(root)
        self.config = read_json(self.root / "config.json")
        try:
            self.plugins = list(self.config.get("plugins", ()) if plugins is None else plugins)
            self.scale = str(self.config["scale"])
            self.data = os.path.expanduser(os.environ.get("PUDLE_DATA", str(self.config["data"]["root"])))
            methods.load_plugins(self.plugins)
        except Exception as error:  # an edited configuration can cause any error
            raise PudleError(f"{self.root / 'config.json'}: cannot be used: {error_text(error)}") from None

    @cached_property
    def cells(self) -> list[Cell]:
        """The cells of ``plan.json``. Raises :class:`PudleError` if they cannot be read, or if one belongs to no experiment."""
        planned = plan.read(self.root)
        try:
            for experiment in dict.fromkeys(cell.experiment for cell in planned):
                one_of(experiment, experiments.EXPERIMENTS, "experiment")
        except PudleError as error:
            raise PudleError(f"{self.root / plan.PLAN}: {error}") from None
        return planned

    @cached_property
    def experiments(self) -> list[str]:
        return sorted({cell.experiment for cell in self.cells})

    @cached_property
    def records(self) -> dict[str, dict]:
        """The contents of each ``cell.json``, by experiment/id. Cells whose file is missing or damaged are left out."""
        found = {}
        for cell in self.cells:
            with contextlib.suppress(PudleError):
                record = read_json(cell.folder(self.root) / "cell.json")
                shaped = all(isinstance(record.get(key), kind) for key, kind in _SHAPE.items())
                if shaped and all(Path(name).name == name for name in record["outputs"]):
                    found[name_of(cell)] = record
        return found

    @cached_property
    def reference_results(self) -> reference.Reference | None:
        """The reference results that the configuration names; None if there are none, or if their folder is missing."""
        try:
            return reference.find(self.config.get("reference"), experiments.HOME)
        except PudleError:
            return None

    def of(self, experiment: str) -> list[Cell]:
        return [cell for cell in self.cells if cell.experiment == experiment]

    def path(self, cell: Cell, name: str) -> str:
        return f"cells/{name_of(cell)}/{name}"

    def outputs(self, cell: Cell) -> list[str]:
        """The files of a cell, ``cell.json`` last."""
        record = self.records.get(name_of(cell), {"outputs": {"rows.csv": ""}})
        return [self.path(cell, name) for name in (*sorted(record["outputs"]), "cell.json")]

    @cached_property
    def steps(self) -> list[Step]:
        return list(self._steps())

    @property
    def files(self) -> list[str]:
        """All files that the run must have, without the manifest."""
        return sorted({*PLANNED, *(name for step in self.steps for name in step.outputs), *self.kept_code})

    @property
    def kept_code(self) -> list[str]:
        """Copies of the workflow's files and of the user's methods."""
        return sorted(path.relative_to(self.root).as_posix() for path in (self.root / "code").rglob("*") if path.is_file())

    def _steps(self) -> Iterator[Step]:
        made = {
            experiment: [name for cell in self.of(experiment) for name in self.outputs(cell)] for experiment in self.experiments
        }
        yield Step("configuration", "pudle configuration", (), PLANNED)
        everything = tuple(name for names in made.values() for name in names)
        for cell in self.cells:
            command = "pudle reference take" if reference.is_taken(self.records.get(name_of(cell), {})) else "pudle cell"
            yield Step(f"cell/{name_of(cell)}", command, PLANNED, tuple(self.outputs(cell)))
        for experiment in self.experiments:
            yield Step(f"tables/{experiment}", "pudle tables", (plan.PLAN, *made[experiment]), (f"tables/{experiment}.csv",))
            drawn = [f"figures/{experiment}/{figure.name}" for figure in experiments.get(experiment).figures]
            yield Step(
                f"figures/{experiment}",
                "pudle figures",
                (*PLANNED, f"tables/{experiment}.csv", *made[experiment]),
                (*(f"{name}.{kind}" for name in drawn for kind in ("csv", *PICTURES)), f"figures/{experiment}/captions.md"),
            )
            if experiments.has_controls(experiment):
                yield Step(f"controls/{experiment}", "pudle controls", (), (f"controls/{experiment}.csv",))
        yield Step("coverage", "pudle coverage", (plan.PLAN, *everything), ("cells.csv",))
        yield Step("verdicts", "pudle verdicts", (*PLANNED, *everything), ("claims.csv", "claims.md"))
        yield Step(
            "published",
            "pudle published",
            (*PLANNED, *everything),
            tuple(f"published{part}.{kind}" for part in ("", "_curves") for kind in ("csv", "md")),
        )
        shown = [name for experiment in self.experiments for name in self._shown(experiment)]
        page = (*shown, "cells.csv", "claims.csv", "published.csv", "published_curves.csv", *PLANNED, *everything)
        yield Step("report", "pudle report", page, ("report/index.html",))

    def _shown(self, experiment: str) -> Iterator[str]:
        for figure in experiments.get(experiment).figures:
            yield from (f"figures/{experiment}/{figure.name}.{kind}" for kind in ("csv", "svg"))
        yield f"figures/{experiment}/captions.md"

    def unrepeatable(self, name: str) -> bool:
        """Whether a file contains seconds, memory or times of day, which another run cannot repeat."""
        parts = name.split("/")
        if parts[-1] in ("timings.csv", "cell.json", "index.html", MANIFEST, CRATE):
            return True
        if parts[0] != "figures":
            return False
        return Path(name).stem in [figure.name for figure in experiments.get(parts[1]).figures if figure.timed]


def error_text(error: Exception) -> str:
    """Why a configuration cannot be used, in one line."""
    if isinstance(error, PudleError):
        return str(error)
    return f"it lacks the key {error}" if isinstance(error, KeyError) else f"{type(error).__name__}: {error}"


def name_of(cell: Cell) -> str:
    """The name of a cell, ``experiment/id``."""
    return f"{cell.experiment}/{cell.id}"


def on_disk(root: Path) -> Iterator[Path]:
    """All files and links under ``root``, without logs and the lock."""
    for path in sorted(Path(root).rglob("*")):
        inside = path.relative_to(root)
        if (path.is_file() or path.is_symlink()) and inside.parts[0] not in APART and str(inside) != ".lock":
            yield path
