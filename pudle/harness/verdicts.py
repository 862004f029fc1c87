"""Claims and how they are judged.

A claim estimates one effect per seed from the rows, and says on which side of a threshold it must lie. The verdict comes from the
95 % Student-t interval of the mean effect over seeds:

- SUPPORTED: the whole interval lies on the claimed side;
- CONTRADICTED: the whole interval lies on the other side;
- INCONCLUSIVE: the interval spans the threshold, or there are too few seeds;
- NOT RUN: the rows it needs are not there.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pudle.harness.statistics import t_interval

VERDICTS = ("SUPPORTED", "CONTRADICTED", "INCONCLUSIVE", "NOT RUN")


class NotRun(Exception):
    """The rows that a claim needs are not there; the message says which."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One statement of the paper, in our words, and how it is put to the test.

    estimate : rows of the question → effect, indexed by seed; raises :class:`NotRun`
    above, below : the threshold; exactly one is given
    why : where the threshold comes from
    ratio : the effect is a ratio: its interval is computed on the log scale
    """

    id: str
    statement: str
    place: str
    effect: str
    estimate: Callable[[pd.DataFrame], pd.Series]
    above: float | None = None
    below: float | None = None
    why: str
    ratio: bool = False
    min_seeds: int = 3

    def judge(self, rows: pd.DataFrame) -> dict:
        """The verdict as a row of the claims table."""
        try:
            effects = self.estimate(rows).dropna().to_numpy()
            reason = ""
        except NotRun as missing:
            effects, reason = np.array([]), str(missing)
        interval = t_interval(np.log(effects) if self.ratio else effects)
        if self.ratio:
            interval = type(interval)(*np.exp(interval))
        return {
            "claim": self.id,
            "verdict": self._verdict(interval, len(effects)),
            "effect": interval.mean,
            "low": interval.low,
            "high": interval.high,
            "threshold": f"{'>' if self.above is not None else '<'} {self.above if self.above is not None else self.below:g}",
            "n_seeds": len(effects),
            "measured": self.effect,
            "statement": self.statement,
            "place": self.place,
            "why": self.why,
            "note": reason or (f"needs {self.min_seeds} seeds" if len(effects) < self.min_seeds else ""),
        }

    def _verdict(self, interval, n_seeds: int) -> str:
        if not n_seeds:
            return "NOT RUN"
        if n_seeds < self.min_seeds:
            return "INCONCLUSIVE"
        low, high, bar = (
            (interval.low, interval.high, self.above)
            if self.above is not None
            else (-interval.high, -interval.low, -self.below)
        )
        return "SUPPORTED" if low > bar else "CONTRADICTED" if high < bar else "INCONCLUSIVE"


def judge_all(claims: Iterable[tuple[str, Claim, pd.DataFrame]]) -> pd.DataFrame:
    """The claims table, one row for each (question, claim, rows of that question)."""
    return pd.DataFrame([{"question": question} | claim.judge(rows) for question, claim, rows in claims])


def markdown(table: pd.DataFrame, scale: str) -> str:
    """The claims table for reading: one line a claim."""
    shown = pd.DataFrame(
        {
            "claim": table.claim,
            "verdict": table.verdict,
            "statement": table.statement,
            "place": table.place,
            "measured": table.measured,
            "effect [95 % interval]": [
                "" if np.isnan(row.effect) else f"{row.effect:.3g} [{row.low:.3g}, {row.high:.3g}]"
                for row in table.itertuples()
            ],
            "threshold": table.threshold,
            "seeds": table.n_seeds,
        }
    )
    counts = ", ".join(f"{(table.verdict == verdict).sum()} {verdict}" for verdict in VERDICTS)
    return (
        f"# Claims at the scale '{scale}'\n\n{counts}. Intervals: 95 % Student-t over seeds of the effect per seed "
        f"(ratios on the log scale).\n\n{shown.to_markdown(index=False)}\n"
    )


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
