"""Negative controls: a property of an experiment is broken, and the claims about this property must then be CONTRADICTED.

If a claim survives its control, its test has no power. Controls run at sizes of their own, which are the same at every scale.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from pudle.analysis.claim import Claim
from pudle.errors import PudleError
from pudle.harness.record import Record


@dataclass(frozen=True, kw_only=True)
class Control:
    """One way to break a property of an experiment.

    claims : ids of the experiment's claims that must then be CONTRADICTED
    statement : the property that is broken, in words
    rows : whether to break the property → rows of the experiment, as its claims use them; if intact, no claim may be CONTRADICTED (tests)
    """

    id: str
    claims: tuple[str, ...]
    statement: str
    rows: Callable[[bool], pd.DataFrame]


def measure(run: Callable, cells: Iterable[Mapping], seeds: Sequence[int], varies: Sequence[str], **corrupted) -> pd.DataFrame:
    """Rows of ``cells`` (settings) from ``run(settings, seeds, record, **corrupted)``, with varying settings as columns."""
    frames = []
    for settings in cells:
        record = Record()
        run(settings, seeds, record, **corrupted)
        frames.append(record.rows().assign(**{key: settings.get(key, "") for key in varies}))
    return pd.concat(frames, ignore_index=True)


def verdicts(control: Control, claims: Iterable[Claim], *, corrupt: bool = True) -> list[dict]:
    """A row (control, claim, verdict, effect, threshold, works, corrupted) for each claim of ``control``."""
    rows = control.rows(corrupt)
    judged = {claim.id: claim.judge(rows) for claim in claims if claim.id in control.claims}
    return [
        {
            "control": control.id,
            "claim": name,
            "verdict": judged[name]["verdict"],
            "effect": judged[name]["effect"],
            "threshold": judged[name]["threshold"],
            "works": judged[name]["verdict"] == "CONTRADICTED",
            "corrupted": control.statement,
        }
        for name in control.claims
    ]


def require_power(experiment: str, table: pd.DataFrame) -> None:
    """Raise :class:`PudleError` if a control did not contradict its claim."""
    failed = table[~table.works]
    if len(failed):
        failures = "; ".join(
            f"{row.claim} is {row.verdict} with {row.control} ({row.corrupted})" for row in failed.itertuples()
        )
        raise PudleError(
            f"{experiment}: these negative controls do not contradict their claims, whose tests therefore have no power: {failures}"
        )
