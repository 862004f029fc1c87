"""Tables, figures' numbers, verdicts, published values and the page, computed again from the rows and compared with the files.

The computations are independent where possible: rows are gathered, averaged, resampled and judged here with pandas and scipy directly. The
numbers of figures, the effect of a claim per seed and the choice of rows for published values are definitions. The functions that define
them are called again, on the rows that were gathered here. Images are not drawn again; they and the page are checked by their hashes.
"""

import io
import multiprocessing
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy

from pudle import experiments
from pudle.analysis import comparison, style, tables, verdicts
from pudle.analysis.claim import Claim, NotRun
from pudle.analysis.statistics import LEVEL, RESAMPLES
from pudle.audit.finding import Finding
from pudle.audit.run import Run, name_of
from pudle.harness import record, reference
from pudle.harness.record import ENDINGS, KEYS

RTOL = 1e-9  # relative change that another order of summation may cause
ATOL = 1e-14  # the same for numbers that cancel, relative to the largest of their column
_BATCH = 200  # resamples that are drawn at a time


def findings(run: Run) -> Iterator[Finding]:
    """Findings on the files that do not follow from the rows. Figures, which take the longest, are computed on another core."""
    for experiment in run.experiments:
        experiments.get(experiment)  # imported once, before the fork
    with ExitStack() as stack:
        drawn = _drawing(run, stack)
        rows: dict[str, pd.DataFrame] = {}
        completed: dict[str, pd.DataFrame] = {}
        for experiment in run.experiments:
            yield from _guarded(
                f"cells/{experiment}", "rows", lambda experiment=experiment: _gather_both(run, experiment, rows, completed)
            )
            if experiment in rows:
                yield from _guarded(
                    f"tables/{experiment}.csv", "table", lambda experiment=experiment: _table(run, experiment, rows[experiment])
                )
            if experiments.has_controls(experiment):
                yield from _guarded(
                    f"controls/{experiment}.csv", "controls", lambda experiment=experiment: _controls(run, experiment)
                )
        yield from _guarded("cells.csv", "coverage", lambda: _coverage(run))
        yield from _guarded("claims.csv", "verdict", lambda: _claims(run, rows, completed))
        yield from _guarded("published.csv", "published", lambda: _published(run, rows, completed))
        yield from _guarded("report/index.html", "report", lambda: _page(run))
        # those at the end are drawn last, so that this process can take them over
        of_figures = {experiment: _result(run, experiment, drawn) for experiment in reversed(run.experiments)}
        for experiment in run.experiments:
            yield from of_figures[experiment]


def _drawing(run: Run, stack: ExitStack) -> dict[str, Future]:
    """The findings on each experiment's figures, from processes that end with ``stack``; none if the system cannot start processes."""
    try:
        pool = stack.enter_context(ProcessPoolExecutor(max(1, (os.cpu_count() or 1) - 1), multiprocessing.get_context("fork")))
        return {experiment: pool.submit(_drawn, run, experiment) for experiment in run.experiments}
    except (BrokenExecutor, ImportError, NotImplementedError, OSError, ValueError) as error:
        warnings.warn(f"pudle: the audit takes longer, since it can start no second process: {error}", stacklevel=2)
        return {}


def _result(run: Run, experiment: str, drawn: Mapping[str, Future]) -> list[Finding]:
    """The findings on an experiment's figures, computed here if no other process has begun with them, or if it was killed."""
    try:
        return _drawn(run, experiment) if drawn[experiment].cancel() else drawn[experiment].result()
    except (KeyError, BrokenExecutor):
        return _drawn(run, experiment)


def _drawn(run: Run, experiment: str) -> list[Finding]:
    return _guarded(f"figures/{experiment}", "figure", lambda: _figures(run, experiment))


def _guarded(name: str, check: str, compare: Callable) -> list[Finding]:
    """The findings of ``compare``. If it raises an exception, for example because of a damaged file, this is the finding."""
    try:
        return list(compare() or ())
    except Exception as error:
        return [Finding(name, check, f"cannot be computed again: {type(error).__name__}: {' '.join(str(error).split())[:200]}")]


def _gather_both(run: Run, experiment: str, rows: dict[str, pd.DataFrame], completed: dict[str, pd.DataFrame]) -> None:
    """All rows of an experiment, and those of runs that did not end early."""
    rows[experiment] = gather(run, experiment)
    ended = rows[experiment].quantity.isin(ENDINGS).any()
    completed[experiment] = gather(run, experiment, record.completed) if ended else rows[experiment]


def gather(run: Run, experiment: str, of_cell: Callable = lambda frame: frame) -> pd.DataFrame:
    """The rows of all cells of an experiment, with varying settings and labels as columns, which are empty where a cell has none."""
    frames = []
    ran = [cell for cell in run.of(experiment) if reference.was_run(run.records.get(name_of(cell), {}))]
    for cell in ran or run.of(experiment):
        frame = of_cell(read(run.root / run.path(cell, "rows.csv")))
        frames.append(frame.assign(**{key: cell.settings.get(key, "") for key in cell.varies}))
    rows = pd.concat(frames, ignore_index=True)
    varies = list(dict.fromkeys(key for cell in run.of(experiment) for key in cell.varies))
    labels = [*varies, *(column for column in rows if column not in (*varies, *KEYS))]
    rows[labels] = rows[labels].where(rows[labels].notna(), "")
    return rows[[*labels, *KEYS]]


def read(path: Path) -> pd.DataFrame:
    """A CSV file; empty fields become empty strings."""
    return pd.read_csv(path, keep_default_na=False)


def _table(run: Run, experiment: str, rows: pd.DataFrame) -> Iterator[Finding]:
    """Compare means over seeds, their bootstrap intervals, the number of seeds, and the number of seeds that ended early."""
    name = f"tables/{experiment}.csv"
    ended = rows.quantity.isin(ENDINGS)
    labels = [column for column in rows if column not in KEYS]
    keys = [*labels, "quantity", "step"]
    by_seed = rows[~ended].groupby([*keys, "seed"]).value.mean()
    groups = by_seed.groupby(keys)
    expected = groups.agg(["mean", "size"]).rename(columns={"size": "n_seeds"}).reset_index()
    expected[["low", "high"]] = np.nan
    for count in expected.n_seeds.unique():
        chosen = expected.n_seeds == count
        values = by_seed[groups.transform("size") == count].to_numpy().reshape(-1, count)
        expected.loc[chosen, ["low", "high"]] = _band(values)
    varies = {key for cell in run.of(experiment) for key in cell.varies}
    endings = [
        (row["seed"], {(key, row[key]) for key in labels if key in varies or row[key] != ""})
        for row in rows[ended].to_dict("records")
    ]

    @cache
    def n_ended(place: tuple) -> int:
        return len({seed for seed, of_it in endings if of_it <= set(zip(labels, place, strict=True))})

    expected["n_ended"] = [n_ended(tuple(place)) for place in expected[labels].itertuples(index=False, name=None)]
    records = [(cell, run.records[name_of(cell)]) for cell in run.of(experiment) if name_of(cell) in run.records]
    if any(reference.is_taken(record) and reference.was_run(record) for _, record in records):
        expected["origin"] = tables.origins(expected, records)
    yield from differences(name, "table", expected, read(run.root / name), keys)


def _band(values: np.ndarray) -> np.ndarray:
    """Percentile bootstrap interval (n, 2) of the means of ``values`` (n, seeds).

    The mean of a resample depends only on how often each seed occurs in it. Few such counts exist; each is computed once, with its weight.
    """
    seeds = values.shape[1]
    if seeds < 2:
        return np.full((len(values), 2), np.nan)
    counts, weights = _resamples(seeds)
    means = values @ counts.T / seeds
    order = np.argsort(means, axis=1)
    means = np.take_along_axis(means, order, axis=1)
    last = np.cumsum(weights[order], axis=1)  # rank after the last copy of each mean
    ends = []
    for share in ((1 - LEVEL) / 2, (1 + LEVEL) / 2):
        place = share * (RESAMPLES - 1)
        below, above = (np.take_along_axis(means, (last <= rank).sum(1, keepdims=True), axis=1)[:, 0]
                        for rank in (np.floor(place), np.ceil(place)))  # fmt: skip
        ends.append(below + (place - np.floor(place)) * (above - below))
    return np.stack(ends, axis=1)


@cache
def _resamples(seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """The counts of each seed in the n distinct resamples that are drawn (n, seeds), and how often each resample is drawn (n,)."""
    draw = np.random.default_rng(0)
    drawn = np.concatenate([draw.integers(0, seeds, (_BATCH, seeds)) for _ in range(RESAMPLES // _BATCH)])
    return np.unique((drawn[:, :, None] == np.arange(seeds)).sum(1), axis=0, return_counts=True)


def _figures(run: Run, experiment: str) -> Iterator[Finding]:
    """Compare the numbers of each figure, and the captions."""
    style.plain_matplotlib()
    from matplotlib import pyplot

    results = tables.Results(experiment, run.cells, run.root)
    drawn = experiments.get(experiment).figures
    for figure in drawn:
        name = f"figures/{experiment}/{figure.name}.csv"
        _, plotted = style.draw(figure, results)
        pyplot.close("all")
        made = plotted.to_csv(index=False)
        if made.encode() != (run.root / name).read_bytes():
            yield from differences(name, "figure", read_text(made), read(run.root / name))
    captions = style.captions(drawn, run.scale, results.stamp)
    yield from _same(run, f"figures/{experiment}/captions.md", "figure", captions)


def _controls(run: Run, experiment: str) -> Iterator[Finding]:
    """The file says that every control contradicts its claims. ``pudle controls`` runs the controls again."""
    name = f"controls/{experiment}.csv"
    table = read(run.root / name)
    claims = {claim.id: claim for claim in experiments.get(experiment).claims}
    planned = [(control.id, claim, claims[claim].side, control.statement)
               for control in experiments.controls(experiment) for claim in control.claims]  # fmt: skip
    if list(table[["control", "claim", "threshold", "corrupted"]].itertuples(index=False, name=None)) != planned:
        yield Finding(name, "controls", "does not list the controls of this experiment's claims")
    for row in table.itertuples():
        side, threshold = row.threshold.split()
        wrong = row.effect > float(threshold) if side == "<" else row.effect < float(threshold)
        if row.verdict != "CONTRADICTED" or str(row.works) != "True" or not wrong:
            yield Finding(
                name, "controls", f"{row.claim} with {row.control}: {row.verdict}, effect {row.effect} {row.threshold}"
            )


def _coverage(run: Run) -> Iterator[Finding]:
    expected = []
    for cell in run.cells:
        record = run.records[name_of(cell)]
        endings = [f"seed {ending['seed']}: {ending['reason']}" for ending in record["endings"]]
        notes = "; ".join(filter(None, [*endings, reference.remark(record)]))
        seeds = " ".join(str(seed) for seed in cell.seeds)
        settings = tables.cells.files.canonical_json(record["settings"])
        expected.append((cell.experiment, cell.id, record["status"], reference.origin(record), seeds, notes, settings))
    frame = pd.DataFrame(expected, columns=["experiment", "cell", "status", "origin", "seeds", "endings", "settings"])
    yield from differences(
        "cells.csv", "coverage", read_text(frame.to_csv(index=False)), read(run.root / "cells.csv"), ["experiment", "cell"]
    )


def _claims(run: Run, rows: dict[str, pd.DataFrame], completed: dict[str, pd.DataFrame]) -> Iterator[Finding]:
    """Compare Student's t on each claim's effect per seed, the verdict from its interval, and Holm's correction within each experiment."""
    expected = []
    for experiment in experiments.EXPERIMENTS:
        claims = experiments.get(experiment).claims
        nothing = pd.DataFrame(columns=KEYS)
        of_all, of_completed = (found.get(experiment, nothing) for found in (rows, completed))
        settings = [cell.settings for cell in run.of(experiment)]
        off_protocol, off_sizes = (comparison.not_as_published(experiment, settings, sizes) for sizes in (False, True))
        judged = [_judge(claim, of_all, of_completed, claim.unsuitable(off_protocol, off_sizes)) for claim in claims]
        controls = {claim.id: experiments.controls_of(experiment, claim) for claim in claims}
        for verdict, p in zip(judged, _holm([verdict["p"] for verdict in judged]), strict=True):
            expected.append({"experiment": experiment} | verdict | {"p_holm": p, "controls": controls[verdict["claim"]]})
    found = read(run.root / "claims.csv")
    yield from differences(
        "claims.csv", "verdict", read_text(pd.DataFrame(expected).to_csv(index=False)), found, ["experiment", "claim"]
    )
    table = pd.read_csv(run.root / "claims.csv", dtype={"controls": str, "note": str})
    yield from _same(run, "claims.md", "verdict", verdicts.markdown(table, run.scale))


def _effects(claim: Claim, rows: pd.DataFrame) -> tuple[dict, str]:
    try:
        return dict(claim.estimate(rows)), ""
    except (NotRun, KeyError, IndexError, ValueError) as missing:
        return {}, str(missing)


def _judge(claim: Claim, rows: pd.DataFrame, completed: pd.DataFrame, unsuitable: str = "") -> dict:
    by_seed: Any
    left: Any
    if unsuitable:
        (by_seed, missing), left = ({}, unsuitable), {}
    else:
        (by_seed, missing), (left, _) = _effects(claim, rows), _effects(claim, completed)
    ended = sum(value == value and left.get(seed) != value for seed, value in by_seed.items())
    effects = np.array([value for value in (left if ended else by_seed).values() if value == value], float)
    lacking = sum(value != value for value in by_seed.values())
    note = "; ".join(
        words
        for words, said in (
            (missing, missing),
            (f"needs {claim.min_seeds} seeds", len(effects) < claim.min_seeds and not (missing or ended)),
            (f"{ended} of {len(by_seed)} seeds rest on runs that ended early, and are left out", ended),
            (f"{lacking} of {len(by_seed)} seeds have no value", lacking),
            ("an effect of 0 or less has no logarithm", claim.ratio and (effects <= 0).any()),
        )
        if said
    )
    forward, back = (np.log, np.exp) if claim.ratio else (np.asarray, np.asarray)
    positive = effects[effects > 0] if claim.ratio else effects
    values, threshold, count = forward(positive), forward(claim.threshold), len(effects)
    if len(positive) < count:
        values = np.full(count, np.nan)
    mean = values.mean() if count else np.nan
    spread = values.std(ddof=1) if count > 1 else np.nan
    half = scipy.stats.t(count - 1).ppf((1 + LEVEL) / 2) * spread / np.sqrt(count) if count > 1 else np.nan
    low, high = back(mean - half), back(mean + half)
    side = 1 if claim.below is None else -1
    verdict = "NOT RUN" if not count and not ended else "INCONCLUSIVE"
    if ended:
        pass
    elif count >= claim.min_seeds and min(side * low, side * high) > side * claim.threshold:
        verdict = "SUPPORTED"
    elif count >= claim.min_seeds and max(side * low, side * high) < side * claim.threshold:
        verdict = "CONTRADICTED"
    vary = count > 1 and np.isfinite(values).all() and np.ptp(values) > 1e-12 * np.abs(values).max()
    distance = (mean - threshold) / spread if vary else np.nan
    return {
        "claim": claim.id,
        "kind": claim.kind,
        "verdict": verdict,
        "effect": float(back(mean)),
        "low": float(low),
        "high": float(high),
        "threshold": f"{'>' if side > 0 else '<'} {claim.threshold:g}",
        "n_seeds": count,
        "p": 2 * scipy.stats.t(count - 1).sf(abs(distance) * np.sqrt(count)) if vary else np.nan,
        "effect_size": distance,
        "measured": claim.effect,
        "statement": claim.statement,
        "place": claim.place,
        "why": claim.why,
        "rows": claim.rows,
        "figure": claim.figure,
        "note": note,
    }


def _holm(p: Sequence[float]) -> list[float]:
    """p-values after Holm's step-down correction: the maximum, over this and all smaller p, of p times the number of p that are not smaller."""
    tested = sorted(value for value in p if np.isfinite(value))
    asked = [min(1.0, value * (len(tested) - rank)) for rank, value in enumerate(tested)]
    return [max(asked[: tested.index(value) + 1]) if np.isfinite(value) else np.nan for value in p]


def _published(run: Run, rows: dict[str, pd.DataFrame], completed: dict[str, pd.DataFrame]) -> Iterator[Finding]:
    made = comparison.compare(rows, run.scale, completed).to_csv(index=False)
    yield from differences("published.csv", "published", read_text(made), read(run.root / "published.csv"), ["id"])
    table = pd.read_csv(
        run.root / "published.csv", keep_default_na=False, na_values=dict.fromkeys(("ours", "low", "high", "ratio"), "")
    )
    yield from _same(run, "published.md", "published", comparison.markdown(table, run.scale))
    along = comparison.compare_curves(completed)
    again, kept = read_text(along.to_csv(index=False)), read(run.root / "published_curves.csv")
    yield from differences("published_curves.csv", "published", again, kept, ["curve"])
    yield from _same(run, "published_curves.md", "published", comparison.curves_markdown(along, run.scale))


def _page(run: Run) -> Iterator[Finding]:
    from pudle.analysis.report import page

    figures = {experiment: experiments.get(experiment).figures for experiment in experiments.EXPERIMENTS}
    yield from _same(run, "report/index.html", "report", page(run.root, run.scale, run.cells, figures))


def _same(run: Run, name: str, check: str, expected: str) -> Iterator[Finding]:
    if expected.encode() != (run.root / name).read_bytes():
        yield Finding(name, check, "does not follow from the files that it is made from")


def read_text(text: str) -> pd.DataFrame:
    """The table that :func:`read` returns for a file with the contents ``text``."""
    return pd.read_csv(io.StringIO(text), keep_default_na=False) if text.strip() else pd.DataFrame()


def differences(
    name: str, check: str, expected: pd.DataFrame, found: pd.DataFrame, keys: Sequence[str] = (), most: int = 3
) -> Iterator[Finding]:
    """The differences between a table and the expected one. Rows are matched by ``keys``, or by their order if there are none."""
    if set(expected) != set(found):
        yield Finding(name, check, f"has other columns: {', '.join(sorted(set(expected) ^ set(found)))}")
        return
    if len(expected) != len(found):
        yield Finding(name, check, f"has {len(found)} rows, not {len(expected)}")
        return
    if keys:
        expected, found = (
            frame.sort_values(list(keys), key=lambda column: column.astype(str), ignore_index=True)
            for frame in (expected, found)
        )
    wrong = {column: _unequal(expected[column], found[column]) for column in expected}
    lines: Any = np.flatnonzero(np.any(list(wrong.values()), axis=0)) if wrong else []
    for line in lines[:most]:
        place = ", ".join(f"{key}={found[key][line]}" for key in keys) or f"row {line}"
        words = (f"{column} is {found[column][line]}, not {expected[column][line]}" for column in wrong if wrong[column][line])
        yield Finding(name, check, f"{place}: {'; '.join(words)}")
    if len(lines) > most:
        yield Finding(name, check, f"and {len(lines) - most} more rows")


def _unequal(expected: pd.Series, found: pd.Series) -> np.ndarray:
    """Which values differ: numbers by more than the tolerance, other values at all."""
    numbers = [pd.to_numeric(column.replace("", np.nan), errors="coerce").to_numpy(float) for column in (expected, found)]
    texts = [np.where(column.isna(), "", column.map(str)) for column in (expected, found)]
    scale: float = np.max(np.abs(numbers[0][np.isfinite(numbers[0])]), initial=0.0)
    with np.errstate(invalid="ignore"):
        near = np.abs(numbers[0] - numbers[1]) <= RTOL * np.abs(numbers[0]) + ATOL * scale
    return (texts[0] != texts[1]) & ~near
