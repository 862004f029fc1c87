"""What theory says of the bias that λ puts into codes and dictionaries."""

import numpy as np
import pandas as pd

from pudle.analysis.statistics import slope
from pudle.analysis.verdicts import Claim, final, select


def _against_lam(rows: pd.DataFrame, quantity: str, **where) -> pd.DataFrame:
    """The last value for each seed (rows) and λ (columns, rising)."""
    table = final(rows, quantity, by="lam", **where)
    return table[sorted(table.columns, key=float)]


def _exponents(table: pd.DataFrame) -> pd.Series:
    lams = np.log(np.array(table.columns, dtype=float))
    return table.apply(lambda line: slope(lams, np.log(line.to_numpy()))[0], axis=1)


def _codes(rows: pd.DataFrame, forward: str) -> pd.DataFrame:
    return _against_lam(rows, "code_error", forward=forward, learner="codes")


def _floors(rows: pd.DataFrame, learner: str, forward: str = "fixed") -> pd.DataFrame:
    return _against_lam(select(rows, "dictionary_error"), "dictionary_error", forward=forward, learner=learner)


def _largest(table: pd.DataFrame) -> pd.Series:
    return table.iloc[:, -1]


_PLACE = "Section 4, theory of the forward pass: bias of the codes"
_LEARNED = "Section 4, theory of learning: bias of the dictionary"


def _vanishing(forward: str, what: str) -> list[Claim]:
    """From the largest λ, where theory asks for the least, and from every λ."""
    return [
        Claim(
            id=f"code-bias-vanishes-{forward}{suffix}",
            statement=f"{what} takes the codes' error away, {words}.",
            place=_PLACE,
            effect=f"code error with the {forward} level over that with fixed λ, {words.replace('from', 'at')}",
            estimate=lambda rows, of=of: of(_codes(rows, forward) / _codes(rows, "fixed")),
            below=0.01,
            ratio=True,
            why=why,
            rows=f"code_error with {forward} and fixed levels, {words.replace('from ', '')}",
            figure="codes",
        )
        for suffix, words, of, why in (
            ("", "from the largest λ", _largest, "vanishing is called a hundredth"),
            (
                "-every-lambda",
                "from every λ",
                lambda table: table.max(axis=1),
                "the same; theory asks that λ exceeds the interference in the first layers, which small λ do not",
            ),
        )
    ]


CLAIMS = (
    Claim(
        id="code-bias-proportional",
        statement="At the true dictionary the codes' error is proportional to λ.",
        place=_PLACE,
        effect="|exponent of the code error in λ − 1|",
        estimate=lambda rows: (_exponents(_codes(rows, "fixed")) - 1).abs(),
        below=0.1,
        why="on a fixed support the lasso's bias is λ (D_SᵀD_S)⁻¹ sign(z*): exponent 1; a tenth is allowed for supports that change",
        rows="code_error with fixed λ, all λ",
        figure="codes",
    ),
    *_vanishing("decayed", "Decaying λ over the layers"),
    *_vanishing("hard", "Hard thresholding"),
    Claim(
        id="floor-grows-dec",
        statement="The error floor of the dictionary that dec learns grows with λ.",
        place=_LEARNED,
        effect="exponent of the final dictionary error in λ",
        estimate=lambda rows: _exponents(_floors(rows, "dec")),
        above=0.5,
        why="a floor proportional to the codes' bias has exponent 1, one that does not depend on λ has 0",
        rows="dictionary_error of dec with fixed λ after the last update, all λ",
        figure="floors",
    ),
    Claim(
        id="floor-lower-ae-ls",
        statement="The floor of ae-ls is below that of dec, at every λ.",
        place=_LEARNED,
        effect="final dictionary error of ae-ls over that of dec, largest over λ",
        estimate=lambda rows: (_floors(rows, "ae-ls") / _floors(rows, "dec")).max(axis=1),
        below=1,
        ratio=True,
        why="equal floors give 1",
        rows="dictionary_error of both with fixed λ after the last update, all λ",
        figure="floors",
    ),
    Claim(
        id="floor-falls-decayed",
        statement="With λ decayed over the layers ae-ls ends at half the error or less, from the largest λ.",
        place=_LEARNED,
        effect="final dictionary error of ae-ls with decayed over that with fixed λ, at the largest λ",
        estimate=lambda rows: _largest(_floors(rows, "ae-ls", "decayed") / _floors(rows, "ae-ls")),
        below=0.5,
        ratio=True,
        why="equal floors give 1, and half is clear of that",
        rows="dictionary_error of ae-ls after the last update, largest λ",
        figure="floors",
    ),
    Claim(
        id="floor-falls-decayed-every-lambda",
        statement="With λ decayed over the layers ae-ls ends lower from every λ.",
        place=_LEARNED,
        effect="final dictionary error of ae-ls with decayed over that with fixed λ, largest over λ",
        estimate=lambda rows: (_floors(rows, "ae-ls", "decayed") / _floors(rows, "ae-ls")).max(axis=1),
        below=1,
        ratio=True,
        why="equal floors give 1",
        rows="dictionary_error of ae-ls after the last update, all λ",
        figure="floors",
    ),
)
