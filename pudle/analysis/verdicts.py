"""Claims and how they are judged.

A claim estimates one effect per seed from the rows, and says on which side of a threshold it must lie. The verdict comes from the
95 % Student-t interval of the mean effect over seeds:

- SUPPORTED: the whole interval lies on the claimed side;
- CONTRADICTED: the whole interval lies on the other side;
- INCONCLUSIVE: the interval spans the threshold, there are too few seeds, or the effect rests on runs that ended early: what is left
  of the seeds then are the survivors;
- NOT RUN: the rows it needs are not there.

Each claim says whose statement it is: the paper's, one that follows from its theory, or ours. Only those of the paper and its theory make up
the headline counts. A question of ours accuses nobody: it "holds here" or "does not hold here".

Beside each verdict stand the p-value of the same t-test against the threshold, after Holm's correction over the claims of its experiment,
and the effect size: the mean distance to the threshold in standard deviations over seeds. The verdict itself is never corrected, so
that a claim added later cannot change it; the column p_holm tells what survives the correction.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pudle.analysis.statistics import MIN_SEEDS, effect_size, holm, t_interval, t_test
from pudle.errors import one_of

VERDICTS = ("SUPPORTED", "CONTRADICTED", "INCONCLUSIVE", "NOT RUN")
KINDS = {"paper": "of the paper", "theory": "of its theory", "ours": "ours"}
BEYOND = "Beyond the paper"
_HERE = dict(zip(VERDICTS, ("holds here", "does not hold here", "undecided here", "not run"), strict=True))


class NotRun(Exception):
    """The rows that a claim needs are not there; the message says which."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One statement and how it is put to the test.

    kind : whose statement it is: "paper" (stated in its text, or read off a figure), "theory" (follows from its theory, in a setting where
        the assumptions hold) or "ours" (a question that we add); raises :class:`PudleError` for another
    place : section, figure or theorem; the assumptions of a theory; of a question of ours, what the paper says instead
    effect : what is estimated, in words
    estimate : rows of the experiment → effect, indexed by seed; raises :class:`NotRun`
    rows : from which rows: quantity, and the settings and steps that are read
    figure : name of the experiment's figure that shows it
    above, below : the threshold; exactly one is given
    why : where the threshold comes from
    ratio : the effect is a ratio: its interval is computed on the log scale
    min_seeds : with fewer the verdict is INCONCLUSIVE
    uncontrolled : for a claim that no negative control names, why there cannot be one
    """

    id: str
    kind: str
    statement: str
    place: str
    effect: str
    estimate: Callable[[pd.DataFrame], pd.Series]
    rows: str
    figure: str
    above: float | None = None
    below: float | None = None
    why: str
    ratio: bool = False
    min_seeds: int = MIN_SEEDS
    uncontrolled: str = ""

    def __post_init__(self):
        one_of(self.kind, KINDS, f"kind of the claim {self.id!r}")
        if (self.above is None) == (self.below is None):
            raise ValueError(f"{self.id}: give exactly one of above and below")

    @property
    def bar(self) -> float:
        """The threshold."""
        return self.below if self.above is None else self.above

    @property
    def threshold(self) -> str:
        """Side and threshold, as ``> 5``."""
        return f"{'<' if self.above is None else '>'} {self.bar:g}"

    def judge(self, rows: pd.DataFrame, whole: pd.DataFrame | None = None) -> dict:
        """The verdict as a row of the claims table.

        whole : the rows without runs that ended early; None if none did
        """
        by_seed, reason = self._effects(rows)
        effects, ended = by_seed.dropna(), 0
        if whole is not None:
            left, _ = self._effects(whole, (NotRun, KeyError, IndexError, ValueError))  # a column may be gone with its runs
            ended = int((left.reindex(effects.index) != effects).sum())
            effects = left.dropna() if ended else effects
        notes = [
            reason,
            f"needs {self.min_seeds} seeds" if len(effects) < self.min_seeds and not (reason or ended) else "",
            f"{ended} of {len(by_seed)} seeds rest on runs that ended early, and are left out" if ended else "",
            f"{by_seed.isna().sum()} of {len(by_seed)} seeds have no value" if by_seed.isna().any() else "",
            "an effect of 0 or less has no logarithm" if self.ratio and (effects <= 0).any() else "",
        ]
        effects = effects.to_numpy(float)
        scaled, bar = (effects, np.log(self.bar)) if self.ratio else (effects, self.bar)
        if self.ratio:
            scaled = np.log(effects, where=effects > 0, out=np.full(len(effects), np.nan))
        interval = t_interval(scaled)
        if self.ratio:
            interval = type(interval)(*np.exp(interval))
        return {
            "claim": self.id,
            "kind": self.kind,
            "verdict": "INCONCLUSIVE" if ended else self._verdict(interval, len(effects)),
            "effect": interval.mean,
            "low": interval.low,
            "high": interval.high,
            "threshold": self.threshold,
            "n_seeds": len(effects),
            "p": t_test(scaled, bar),
            "effect_size": effect_size(scaled, bar),
            "measured": self.effect,
            "statement": self.statement,
            "place": self.place,
            "why": self.why,
            "rows": self.rows,
            "figure": self.figure,
            "note": "; ".join(filter(None, notes)),
        }

    def _effects(self, rows: pd.DataFrame, allowed: tuple = (NotRun,)) -> tuple[pd.Series, str]:
        """The effect of each seed, and why there is none."""
        try:
            return self.estimate(rows), ""
        except allowed as missing:
            return pd.Series(dtype=float), str(missing)

    def _verdict(self, interval, n_seeds: int) -> str:
        if not n_seeds:
            return "NOT RUN"
        if n_seeds < self.min_seeds:
            return "INCONCLUSIVE"
        over, under = interval.low > self.bar, interval.high < self.bar
        held, failed = (over, under) if self.below is None else (under, over)
        return "SUPPORTED" if held else "CONTRADICTED" if failed else "INCONCLUSIVE"


def judge_all(claims: Iterable[tuple[str, Claim, pd.DataFrame, pd.DataFrame]]) -> pd.DataFrame:
    """The claims table, one row for each (experiment, claim, rows of that experiment, those of whole runs); ``p_holm`` is corrected
    within each experiment."""
    table = pd.DataFrame([{"experiment": experiment} | claim.judge(rows, whole) for experiment, claim, rows, whole in claims])
    table.insert(
        table.columns.get_loc("p") + 1, "p_holm", table.groupby("experiment").p.transform(lambda p: holm(p.to_numpy()))
    )
    return table


def is_ours(table: pd.DataFrame) -> pd.Series:
    """Whether each row of a claims table is a question of ours, which no headline counts."""
    return table.kind == "ours"


def worded(kind: str, verdict: str) -> str:
    """A verdict as a reader sees it: of a question of ours, in words that accuse nobody."""
    return _HERE.get(verdict, verdict) if kind == "ours" else verdict


def counted(table: pd.DataFrame) -> str:
    """How often each verdict occurs in a claims table: ``3 SUPPORTED, …``; where all claims are ours, ``holds here: 3, …``."""
    counts = {verdict: (table.verdict == verdict).sum() for verdict in VERDICTS}
    if len(table) and is_ours(table).all():
        return ", ".join(f"{worded('ours', verdict)}: {count}" for verdict, count in counts.items())
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items())


def markdown(table: pd.DataFrame, scale: str) -> str:
    """The claims table for reading: one line a claim, ours under a heading of their own.

    It has one column more than :func:`judge_all` gives: ``controls``, in words.
    """
    headline, ours = table[~is_ours(table)], table[is_ours(table)]
    return (
        f"# Claims at the scale '{scale}'\n\nOf the paper and its theory: {counted(headline)}. Intervals: 95 % Student-t over seeds of the "
        f"effect per seed (ratios on the log scale); p: the t-test against the threshold, two-sided, Holm-corrected over the claims of a "
        f"experiment; effect size: distance of the mean to the threshold in standard deviations over seeds; negative control: what was "
        f"spoiled to see that the claim can fail (docs/claims.md says more).\n\n{_lines(headline)}\n\n"
        f"## {BEYOND}\n\nQuestions that we add; the paper states none of them. {counted(ours)}.\n\n{_lines(ours)}\n"
    )


def _lines(table: pd.DataFrame) -> str:
    """A Markdown table with a line for each claim."""
    shown = pd.DataFrame(
        {
            "claim": table.claim,
            "kind": table.kind,
            "verdict": [worded(row.kind, row.verdict) for row in table.itertuples()],
            "statement": table.statement,
            "place": table.place,
            "measured": table.measured,
            "effect [95 % interval]": [
                "" if np.isnan(row.effect) else f"{row.effect:.3g} [{row.low:.3g}, {row.high:.3g}]"
                for row in table.itertuples()
            ],
            "threshold": table.threshold,
            "seeds": table.n_seeds,
            "negative control": table.controls,
            "p (Holm)": ["" if np.isnan(p) else f"{p:.2g}" for p in table.p_holm],
            "effect size": ["" if np.isnan(d) else f"{d:.2g}" for d in table.effect_size],
        }
    )
    return shown.to_markdown(index=False)


def final(rows: pd.DataFrame, quantity: str, by: str | list[str], **where: object) -> pd.DataFrame:
    """The last value of ``quantity`` for each seed (rows) and each value of ``by`` (columns), among rows that match ``where``.

    Raises :class:`NotRun` if there are none.
    """
    chosen = select(rows, quantity, **where)
    return chosen.sort_values("step").groupby(["seed", *([by] if isinstance(by, str) else by)]).value.last().unstack(by)


def select(rows: pd.DataFrame, quantity: str, **where: object) -> pd.DataFrame:
    """The rows of ``quantity`` that match ``where``; raises :class:`NotRun` if there are none."""
    chosen = rows[rows.quantity == quantity]
    for key, value in where.items():
        chosen = chosen[chosen[key] == value] if key in chosen else chosen[:0]
    if not len(chosen):
        raise NotRun(f"no rows of {quantity} with {', '.join(f'{k} = {v}' for k, v in where.items()) or 'any settings'}")
    return chosen
