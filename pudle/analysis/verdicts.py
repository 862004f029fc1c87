"""Tables of claims and their verdicts.

A claim estimates one effect per seed from the rows, and states on which side of a threshold it must lie. The verdict comes from the
95 % Student-t interval of the mean effect over seeds:

- SUPPORTED: the entire interval lies on the claimed side;
- CONTRADICTED: the entire interval lies on the other side;
- INCONCLUSIVE: the interval spans the threshold, there are too few seeds, or the effect depends on runs that ended early, so that the
  remaining seeds are a biased selection;
- NOT RUN: the rows are missing, they come from a protocol other than the paper's (claims of the paper), or from other sizes (claims that
  need the paper's).

Each claim records whose statement it is: the paper's, one that follows from its theory, or ours. Only claims of the paper and its theory
are counted in the headline. The verdict on a claim of ours reads "holds here" or "does not hold here".

Two numbers accompany each verdict: the p-value of the same t-test against the threshold, after Holm's correction over the claims of the
experiment, and the effect size, which is the mean distance to the threshold in standard deviations over seeds. The verdict itself is
not corrected, so that a claim added later cannot change it; the column p_holm shows which claims pass the correction.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from pudle.analysis.claim import VERDICTS, Claim
from pudle.analysis.statistics import holm
from pudle.analysis.tables import Results

BEYOND = "Beyond the paper"
_HERE = dict(zip(VERDICTS, ("holds here", "does not hold here", "undecided here", "not run"), strict=True))


def judge_all(claims: Iterable[tuple[str, Claim, Results]]) -> pd.DataFrame:
    """The claims table, one row for each (experiment, claim, results of that experiment); ``p_holm`` is corrected within each experiment.

    Claims of the paper are judged only where its protocol was followed (:func:`pudle.analysis.comparison.not_as_published`).
    """
    table = pd.DataFrame(
        [
            {"experiment": name}
            | claim.judge(results.rows, results.completed, claim.unsuitable(results.off_protocol, results.off_sizes))
            for name, claim, results in claims
        ]
    )
    table.insert(
        table.columns.get_loc("p") + 1, "p_holm", table.groupby("experiment").p.transform(lambda p: holm(p.to_numpy()))
    )
    return table


def is_ours(table: pd.DataFrame) -> pd.Series:
    """Whether each row of a claims table is a claim of ours, which the headline does not count."""
    return table.kind == "ours"


def worded(kind: str, verdict: str) -> str:
    """A verdict as the report shows it; for a claim of ours, "holds here" or "does not hold here"."""
    return _HERE.get(verdict, verdict) if kind == "ours" else verdict


def counted(table: pd.DataFrame) -> str:
    """The count of each verdict in a claims table: ``3 SUPPORTED, …``, or ``holds here: 3, …`` if all claims are ours."""
    counts = {verdict: (table.verdict == verdict).sum() for verdict in VERDICTS}
    if len(table) and is_ours(table).all():
        return ", ".join(f"{worded('ours', verdict)}: {count}" for verdict, count in counts.items())
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items())


def side_by_side(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """The verdicts of two claims tables on claims of the paper and its theory: experiment, claim, kind, both verdicts and effects.

    agree : "yes" or "no"; "not run" where a table lacks the claim or has no rows for it
    """
    keys, judged = ["experiment", "claim", "kind"], ["verdict", "effect", "low", "high"]
    tables = [table.loc[~is_ours(table), [*keys, *judged]] for table in (first, second)]
    both = pd.merge(*tables, on=keys, how="outer", suffixes=("_first", "_second"), sort=False)
    verdicts = ["verdict_first", "verdict_second"]
    both[verdicts] = both[verdicts].fillna("NOT RUN")
    same = (both.verdict_first == both.verdict_second).map({True: "yes", False: "no"})
    return both.assign(agree=same.where((both[verdicts] != "NOT RUN").all(axis=1), "not run"))


def side_by_side_markdown(table: pd.DataFrame, names: Sequence[str]) -> str:
    """The table of :func:`side_by_side` as Markdown; ``names`` are those of the two runs."""
    shown = {"experiment": table.experiment, "claim": table.claim, "kind": table.kind}
    for name, place in zip(names, ("first", "second"), strict=True):
        effects = zip(*(table[f"{column}_{place}"] for column in ("verdict", "effect", "low", "high")), strict=True)
        shown[name] = [
            verdict if np.isnan(effect) else f"{verdict}, {effect:.3g} [{low:.3g}, {high:.3g}]"
            for verdict, effect, low, high in effects
        ]
    counts = ", ".join(f"{word}: {(table.agree == word).sum()}" for word in ("yes", "no", "not run"))
    lines = pd.DataFrame(shown | {"agree": table.agree}).to_markdown(index=False, disable_numparse=True)
    return f"{len(table)} claims of the paper and its theory. Agree: {counts}.\n\n{lines}"


def markdown(table: pd.DataFrame, scale: str) -> str:
    """The claims table as a Markdown page: one line per claim, with claims of ours under a separate heading.

    ``table`` has one column more than the result of :func:`judge_all`: ``controls``, in words.
    """
    headline, ours = table[~is_ours(table)], table[is_ours(table)]
    return (
        f"# Claims at the scale '{scale}'\n\nOf the paper and its theory: {counted(headline)}. Intervals: 95 % Student-t over seeds of the "
        f"effect per seed (ratios on the log scale); p: the t-test against the threshold, two-sided, Holm-corrected over the claims of an "
        f"experiment; effect size: distance of the mean to the threshold in standard deviations over seeds; negative control: the property "
        f"that was broken to show that the claim can fail (docs/claims.md has details).\n\n{_lines(headline)}\n\n"
        f"## {BEYOND}\n\nClaims that we add; the paper states none of them. {counted(ours)}.\n\n{_lines(ours)}\n"
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
