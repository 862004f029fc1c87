"""From rows to tables: the rows of an experiment's cells joined with their settings, and their means with intervals over seeds."""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from pudle.analysis import comparison
from pudle.analysis.statistics import bootstrap_band
from pudle.harness import cells, files, reference
from pudle.harness.record import ENDINGS, KEYS, belong, completed

_BLOCK = 500  # points whose resamples fit the cache


class Results:
    """The results of an experiment's cells. The settings of the grid, ``varies``, become columns, which are empty where a cell lacks one."""

    def __init__(self, experiment: str, planned: Iterable[cells.Cell], root: Path):
        self.experiment = experiment
        self.cells = [cell for cell in planned if cell.experiment == experiment]
        self.root = Path(root)

    @cached_property
    def rows(self) -> pd.DataFrame:
        """Tidy rows of all finished cells: varying settings, labels, seed, step, quantity, value."""
        return self._gather("rows.csv")

    @cached_property
    def off_protocol(self) -> str:
        """The reason why claims of the paper cannot be judged from these cells; empty if they follow its protocol."""
        return comparison.not_as_published(self.experiment, [cell.settings for cell in self.cells])

    @cached_property
    def off_sizes(self) -> str:
        """The reason why claims that need the paper's sizes cannot be judged from these cells; empty if they have them."""
        return comparison.not_as_published(self.experiment, [cell.settings for cell in self.cells], sizes=True)

    @cached_property
    def completed(self) -> pd.DataFrame:
        """The rows without those of runs that ended early."""
        return self._gather("rows.csv", completed) if self.rows.quantity.isin(ENDINGS).any() else self.rows

    @cached_property
    def timings(self) -> pd.DataFrame:
        """Rows of the seconds that updates took, if the experiment records them."""
        return self._gather("timings.csv")

    @cached_property
    def summary(self) -> pd.DataFrame:
        """The experiment's table, ``tables/<experiment>.csv``, as :meth:`summarise` made it."""
        path, columns = self.root / "tables" / f"{self.experiment}.csv", ["quantity", "step", "mean", "low", "high", "n_ended"]
        numbers = dict.fromkeys(("mean", "low", "high"), float)
        table = files.read_csv(path, columns, keep_default_na=False, na_values={"low": "", "high": ""}, dtype=numbers)
        return table.drop(columns="origin", errors="ignore")

    def summarise(self) -> pd.DataFrame:
        """Mean, 95 % bootstrap band, number of seeds, and number of seeds that ended early, for each point and quantity.

        If any cell was taken from reference results, a column ``origin`` is "here" or lists the commits that computed the point.
        """
        rows = self.rows[~self.rows.quantity.isin(ENDINGS)]
        labels = [column for column in rows.columns if column not in KEYS]
        points = rows.pivot_table(index=[*labels, "quantity", "step"], columns="seed", values="value")
        patterns, of_point = np.unique(points.notna().to_numpy(), axis=0, return_inverse=True)
        frames = []
        for i, present in enumerate(patterns):
            alike = points.loc[of_point == i, present]
            for start in range(0, len(alike), _BLOCK):
                block = alike.iloc[start : start + _BLOCK]
                mean, low, high = bootstrap_band(block.to_numpy().T)
                bands = {"mean": mean, "low": low, "high": high, "n_seeds": present.sum()}
                frames.append(pd.DataFrame(bands, index=block.index).reset_index())
        if not frames:
            return pd.DataFrame(columns=[*labels, "quantity", "step", "mean", "low", "high", "n_seeds", "n_ended"])
        table = pd.concat(frames, ignore_index=True)
        table["n_ended"] = self._n_ended(table)
        if self.commits:
            table["origin"] = origins(table, [(cell, self.record(cell)) for cell in self.finished()])
        return table.sort_values([*labels, "quantity", "step"], ignore_index=True)

    def _n_ended(self, points: pd.DataFrame) -> pd.Series:
        """The number of seeds that ended early in the run that each of ``points`` comes from."""
        varies = {key for cell in self.cells for key in cell.varies}
        ended: dict = {}
        for ending in self.rows[self.rows.quantity.isin(ENDINGS)].to_dict("records"):
            ended[ending["seed"]] = ended.get(ending["seed"], False) | belong(points, ending, varies)
        return sum(seeds.astype(int) for seeds in ended.values()) if ended else 0

    def _gather(self, name: str, of_cell: Callable = lambda frame: frame) -> pd.DataFrame:
        frames = []
        for cell in self.finished():
            path = cell.folder(self.root) / name
            if path.exists():
                frame = of_cell(files.read_csv(path, KEYS, keep_default_na=False))
                for position, key in enumerate(cell.varies):
                    frame.insert(position, key, cell.settings.get(key, ""))
                frames.append(frame)
        if not frames:
            return pd.DataFrame(columns=KEYS)
        frame = pd.concat(frames, ignore_index=True)
        labels = [column for column in frame.columns if column not in KEYS]
        frame[labels] = frame[labels].where(frame[labels].notna(), "")
        return frame[labels + KEYS]

    def finished(self) -> list[cells.Cell]:
        """The existing cells that were run."""
        return [cell for cell, record in self._records if reference.was_run(record)]

    @property
    def not_run(self) -> list[cells.Cell]:
        """The existing cells that are recorded as not run, since the reference results lack them."""
        return [cell for cell, record in self._records if not reference.was_run(record)]

    @property
    def commits(self) -> list[str]:
        """The commits that computed the cells taken from reference results."""
        runs = [run for _, record in self._records if reference.is_taken(record) for run in record["taken_from"]["runs"]]
        return sorted({reference.short(run["commit"]) for run in runs})

    @property
    def stamp(self) -> str:
        """The number of seeds, and the origin of results that were not computed here, as text for figures and captions."""
        counts = sorted({len(record["seeds"]) for _, record in self._records if reference.was_run(record)}) or [0]
        words = f"n = {counts[0]}{f' to {counts[-1]}' if len(counts) > 1 else ''} seed{'s' * (counts[-1] != 1)}"
        taken = sum(reference.is_taken(record) and reference.was_run(record) for _, record in self._records)
        if taken:
            words += f"; {taken} of {len(self.cells)} cells taken from reference results, commit {', '.join(self.commits)}"
        return words + (f"; {len(self.not_run)} not run" if self.not_run else "")

    @cached_property
    def _records(self) -> list[tuple[cells.Cell, dict]]:
        return [(cell, self.record(cell)) for cell in self.cells if (cell.folder(self.root) / "cell.json").exists()]

    def record(self, cell: cells.Cell) -> dict:
        """The ``cell.json`` of a finished cell."""
        return cells.read(cell.folder(self.root))

    def arrays(self, cell: cells.Cell) -> dict[str, np.ndarray]:
        """The arrays of one cell, by ``name/seed``, loaded without running pickled code."""
        with np.load(cell.folder(self.root) / "arrays.npz", allow_pickle=False) as archive:
            return dict(archive)


def origins(table: pd.DataFrame, records: Iterable[tuple[cells.Cell, dict]]) -> pd.Series:
    """The origin of each row of ``table``, from the cells that it can come from."""
    found = pd.Series("here", table.index, dtype=object)
    for cell, record in records:
        of_cell = pd.Series(True, table.index)
        for key in cell.varies:
            if key in table:
                of_cell &= table[key].astype(str) == str(cell.settings.get(key, ""))
        found[of_cell] = reference.origin(record)
    return found


def coverage(planned: Sequence[cells.Cell], root: Path) -> pd.DataFrame:
    """A row for each planned cell, with its status (done, diverged, stalled, failed, not run or missing), origin and settings.

    The origin is "here", or the commits of the reference results that computed the cell.
    """
    table = []
    for cell in planned:
        folder = cell.folder(root)
        ran: dict = cells.read(folder) if (folder / "cell.json").exists() else {"status": "missing", "endings": []}
        endings = [f"seed {ending['seed']}: {ending['reason']}" for ending in ran["endings"]]
        table.append(
            {
                "experiment": cell.experiment,
                "cell": cell.id,
                "status": ran["status"],
                "origin": "" if ran["status"] == "missing" else reference.origin(ran),
                "seeds": " ".join(map(str, cell.seeds)),
                "endings": "; ".join(filter(None, [*endings, reference.remark(ran)])),
                "settings": files.canonical_json(dict(cell.settings)),
            }
        )
    return pd.DataFrame(table)
