"""The theory's claims about the bias that λ causes in codes and dictionaries."""

import numpy as np
import pandas as pd

from pudle.analysis.claim import Claim, final, select
from pudle.analysis.statistics import slope


def _against_lam(rows: pd.DataFrame, quantity: str, **where) -> pd.DataFrame:
    """The last value for each seed (rows) and each λ (columns, in increasing order)."""
    table = final(rows, quantity, by="lam", **where)
    return table[sorted(table.columns, key=float)]


def _exponents(table: pd.DataFrame) -> pd.Series:
    lams = np.log(np.array(table.columns, dtype=float))
    return table.apply(lambda line: slope(lams, np.log(line.to_numpy()))[0], axis=1)


def _codes(rows: pd.DataFrame, forward: str, quantity: str = "code_error") -> pd.DataFrame:
    """The errors for each seed and λ; NaN where no sample has the true support, on which ``quantity`` is the error."""
    errors = _against_lam(rows, quantity, forward=forward, learner="codes")
    return errors.reindex(columns=_against_lam(rows, "code_error", forward=forward, learner="codes").columns)


def _floors(rows: pd.DataFrame, learner: str, forward: str = "fixed") -> pd.DataFrame:
    return _against_lam(select(rows, "dictionary_error"), "dictionary_error", forward=forward, learner=learner)


def _largest(table: pd.DataFrame) -> pd.Series:
    return table.iloc[:, -1]


_PLACE = "Section 4, theory of the forward pass: bias of the codes"
_LEARNED = "Section 4, theory of learning: bias of the dictionary"


def _vanishing(forward: str, what: str) -> list[Claim]:
    """Two claims: at the largest λ, where the theory's assumptions are weakest, for samples that meet them; and at every λ, for all."""
    return [
        Claim(
            id=f"code-bias-vanishes-{forward}{suffix}",
            kind=kind,
            statement=f"{what} removes the codes' error, {words}.",
            place=place,
            effect=f"code error with {forward} levels divided by that with fixed λ, {effect}",
            estimate=lambda rows, of=of, quantity=quantity: of(
                _codes(rows, forward, quantity) / _codes(rows, "fixed", quantity)
            ),
            below=0.01,
            ratio=True,
            why=why,
            rows=f"{quantity} with {forward} and fixed levels, {words}",
            figure="codes",
        )
        for kind, place, suffix, words, effect, quantity, of, why in (
            (
                "theory",
                f"{_PLACE}, where λ_t ≥ s (μ e_t + δ b) in every layer, so that the support is kept",
                "",
                "at the largest λ, where the support is kept",
                "at the largest λ, over the samples whose codes have the true support",
                "code_error_on_support",
                _largest,
                "the bias is proportional to the level; after the layers the decayed level is 0.98^300 = 0.002 of the initial one, and "
                "a hard threshold causes no bias; 0.01 leaves room for the effect of the first layers",
            ),
            (
                "ours",
                f"no publication states this for every λ; {_PLACE}, requires that λ exceeds the interference in the first layers, and "
                "small λ do not",
                "-every-lambda",
                "at every λ",
                "largest over λ",
                "code_error",
                lambda table: table.max(axis=1),
                "the threshold of the claim about the largest λ",
            ),
        )
    ]


CLAIMS = (
    Claim(
        id="code-bias-proportional",
        kind="theory",
        statement="At the true dictionary the codes' error is proportional to λ.",
        place=f"{_PLACE}, where the support of the lasso's codes is the true one",
        effect="|exponent of the code error in λ − 1|",
        estimate=lambda rows: (_exponents(_codes(rows, "fixed")) - 1).abs(),
        below=0.1,
        why="on a fixed support the lasso's bias is λ (D_SᵀD_S)⁻¹ sign(z*), so that the exponent is 1; 0.1 allows for supports that change",
        rows="code_error with fixed levels, at every λ",
        figure="codes",
    ),
    *_vanishing("decayed", "Decaying λ over the layers"),
    *_vanishing("hard", "Hard thresholding"),
    Claim(
        id="floor-grows-dec",
        kind="theory",
        statement="The final error of the dictionary that dec learns, its error floor, grows with λ.",
        place=f"{_LEARNED}, where the codes have the true supports",
        effect="exponent of the final dictionary error in λ",
        estimate=lambda rows: _exponents(_floors(rows, "dec")),
        above=0,
        why="the exponent is 0 if the floor does not depend on λ, and 1 if it is proportional to the codes' bias",
        rows="dictionary_error of dec with fixed λ after the last update, at every λ",
        figure="floors",
    ),
    Claim(
        id="floor-lower-ae-ls",
        kind="ours",
        statement="At every λ the error floor of ae-ls is below that of dec.",
        place=f"no publication states this for every λ; {_LEARNED}, bounds both floors, and the experiments of Section 5 use λ = 0.2",
        effect="final dictionary error of ae-ls divided by that of dec, largest over λ",
        estimate=lambda rows: (_floors(rows, "ae-ls") / _floors(rows, "dec")).max(axis=1),
        below=1,
        ratio=True,
        why="equal floors give 1",
        rows="dictionary_error of both with fixed λ after the last update, at every λ",
        figure="floors",
    ),
    Claim(
        id="floor-falls-decayed",
        kind="theory",
        statement="At the largest λ, decaying λ over the layers at least halves the final error of ae-ls.",
        place=f"{_LEARNED}, where λ_t ≥ s (μ e_t + δ b) in every layer, so that the support is kept",
        effect="final dictionary error of ae-ls with decayed λ divided by that with fixed λ, at the largest λ",
        estimate=lambda rows: _largest(_floors(rows, "ae-ls", "decayed") / _floors(rows, "ae-ls")),
        below=0.5,
        ratio=True,
        why="equal floors give 1; the floor is proportional to the level, which is 0.98^50 = 0.36 of the initial one after the layers used in "
        "learning",
        rows="dictionary_error of ae-ls after the last update, at the largest λ",
        figure="floors",
    ),
    Claim(
        id="floor-falls-decayed-every-lambda",
        kind="ours",
        statement="At every λ, decaying λ over the layers lowers the final error of ae-ls.",
        place=f"no publication states this for every λ; {_LEARNED}, requires that λ exceeds the interference in the first layers, and "
        "small λ do not",
        effect="final dictionary error of ae-ls with decayed λ divided by that with fixed λ, largest over λ",
        estimate=lambda rows: (_floors(rows, "ae-ls", "decayed") / _floors(rows, "ae-ls")).max(axis=1),
        below=1,
        ratio=True,
        why="equal floors give 1",
        rows="dictionary_error of ae-ls after the last update, at every λ",
        figure="floors",
    ),
)
