"""A claim: an effect per seed, estimated from the rows, and the side of a threshold on which it must lie.

The verdict comes from the 95 % Student-t interval of the mean effect over seeds (:mod:`pudle.analysis.verdicts`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pudle.analysis.statistics import MIN_SEEDS, effect_size, t_interval, t_test
from pudle.errors import one_of

VERDICTS = ("SUPPORTED", "CONTRADICTED", "INCONCLUSIVE", "NOT RUN")
KINDS = {"paper": "of the paper", "theory": "of its theory", "ours": "ours"}


class NotRun(Exception):
    """The rows that a claim needs are missing; the message names them."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One statement and its test.

    kind : whose statement it is: "paper" (stated in its text, or read off a figure), "theory" (follows from its theory, in a setting where
        the assumptions hold) or "ours" (a claim that we add); any other value raises :class:`PudleError`
    place : section, figure or theorem; the assumptions of a theory; for a claim of ours, what the paper says instead
    effect : the estimated quantity, in words
    estimate : rows of the experiment → effect, indexed by seed; raises :class:`NotRun` if rows are missing
    rows : the rows that are used: quantity, settings and steps
    figure : name of the experiment's figure that shows the effect
    above, below : the threshold; exactly one is given
    why : the source of the threshold
    ratio : whether the effect is a ratio, whose interval is computed on the log scale
    min_seeds : with fewer seeds the verdict is INCONCLUSIVE
    uncontrolled : the reason why a claim has no negative control
    at_paper_sizes : the reason why a claim is judged at the paper's sizes only
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
    at_paper_sizes: str = ""

    def __post_init__(self):
        one_of(self.kind, KINDS, f"kind of the claim {self.id!r}")
        if (self.above is None) == (self.below is None):
            raise ValueError(f"{self.id}: give exactly one of above and below")

    @property
    def threshold(self) -> float:
        """The value that the effect is compared with."""
        return self.below if self.above is None else self.above  # type: ignore[return-value]  # one is given

    @property
    def side(self) -> str:
        """The side of the threshold that is claimed, as ``> 5``."""
        return f"{'<' if self.above is None else '>'} {self.threshold:g}"

    def judge(self, rows: pd.DataFrame, completed: pd.DataFrame | None = None, unsuitable: str = "") -> dict:
        """The verdict as a row of the claims table.

        completed : the rows without runs that ended early; None if there are no such runs
        unsuitable : the reason why the claim cannot be judged from these rows (:meth:`unsuitable`); empty if it can
        """
        by_seed, reason = self._effects(rows)
        if unsuitable:
            by_seed, reason, completed = pd.Series(dtype=float), unsuitable, None
        effects, ended = by_seed.dropna(), 0
        if completed is not None:
            left, _ = self._effects(completed, (NotRun, KeyError, IndexError, ValueError))  # a column may be gone with its runs
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
        scaled, threshold = (effects, np.log(self.threshold)) if self.ratio else (effects, self.threshold)
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
            "threshold": self.side,
            "n_seeds": len(effects),
            "p": t_test(scaled, threshold),
            "effect_size": effect_size(scaled, threshold),
            "measured": self.effect,
            "statement": self.statement,
            "place": self.place,
            "why": self.why,
            "rows": self.rows,
            "figure": self.figure,
            "note": "; ".join(filter(None, notes)),
        }

    def unsuitable(self, off_protocol: str, off_sizes: str) -> str:
        """The reason why this claim cannot be judged from the rows of some cells; empty if it can.

        off_protocol : the reason why claims of the paper cannot be judged from them; empty if they can
        off_sizes : the same for claims that need the paper's sizes
        """
        return (off_protocol if self.kind == "paper" else "") or (off_sizes if self.at_paper_sizes else "")

    def _effects(self, rows: pd.DataFrame, allowed: tuple = (NotRun,)) -> tuple[pd.Series, str]:
        """The effect of each seed, and the reason if there is none."""
        try:
            return self.estimate(rows), ""
        except allowed as missing:
            return pd.Series(dtype=float), str(missing)

    def _verdict(self, interval, n_seeds: int) -> str:
        if not n_seeds:
            return "NOT RUN"
        if n_seeds < self.min_seeds:
            return "INCONCLUSIVE"
        over, under = interval.low > self.threshold, interval.high < self.threshold
        held, failed = (over, under) if self.below is None else (under, over)
        return "SUPPORTED" if held else "CONTRADICTED" if failed else "INCONCLUSIVE"


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
