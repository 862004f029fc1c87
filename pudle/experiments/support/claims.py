"""The theory's claims about supports: the first layer finds them and later layers keep them where the sufficient condition holds."""

import pandas as pd

from pudle.analysis.claim import Claim, NotRun, select

_AT = ["dictionaries", "seed", "sparsity", "init_noise", "lam"]


def _promised(rows: pd.DataFrame) -> pd.DataFrame:
    """The shares of samples with the true support at every layer, in the settings where the sufficient condition holds."""
    held = select(rows, "condition")
    held = held[held.value == 1][_AT]
    found = select(rows, "equal").astype({"lam": str}).merge(held.astype({"lam": str}), on=_AT)
    if not len(found):
        raise NotRun("the sufficient condition holds nowhere on this grid")
    return found


_PLACE = (
    "Section 4, theory of the forward pass: support recovery and preservation, where s (μ + δ) b ≤ λ < a − s δ b − (s − 1) μ b"
)
_WHY = "a sufficient condition allows no exception; the share is 1 up to rounding in every setting"

CLAIMS = (
    Claim(
        id="condition-implies-recovery",
        kind="theory",
        statement="Wherever the sufficient condition holds, the first layer finds the signed support of every sample.",
        place=_PLACE,
        effect="share of samples with the true support after the first layer, smallest over the settings where the condition holds",
        estimate=lambda rows: _promised(rows)[lambda found: found.step == 1].groupby("seed").value.min(),
        above=0.9999,
        why=_WHY,
        rows="equal at layer 1, where condition is 1",
        figure="phase",
    ),
    Claim(
        id="condition-implies-preservation",
        kind="theory",
        statement="Wherever the sufficient condition holds, no later layer loses the signed support of any sample.",
        place=_PLACE,
        effect="share of samples with the true support, smallest over layers and over the settings where the condition holds",
        estimate=lambda rows: _promised(rows).groupby("seed").value.min(),
        above=0.9999,
        why=_WHY,
        rows="equal at every recorded layer, where condition is 1",
        figure="layers",
    ),
)
