"""The paper's claims about the dictionaries that the three gradients learn.

Errors are relative errors of the dictionary, column by column, after the last update.
"""

import pandas as pd

from pudle.analysis.claim import Claim, NotRun, final

_PLACE = "Section 5, dictionary learning; figures of the dictionary's error over updates"


def _final(rows: pd.DataFrame, **where) -> pd.DataFrame:
    """Final relative errors, with one row per seed and one column per estimator or number of layers, whichever ``where`` does not fix."""
    open_ = next(key for key in ("estimator", "n_layers") if key not in where)
    return final(rows, "dictionary_error", by=open_, **where)


def _ratio(rows: pd.DataFrame, over: object, under: object, **where) -> pd.Series:
    table = _final(rows, **where)
    for column in (over, under):
        if column not in table:
            raise NotRun(f"no rows with {column}")
    return table[over] / table[under]


_PUBLISHED = {"dec": "0.129 / 0.246", "ae-lasso": "0.129 / 0.171", "ae-ls": "0.0144 / 0.085"}


def _deeper(estimator: str) -> Claim:
    return Claim(
        id=f"more-layers-help-{estimator}",
        kind="paper",
        statement=f"The final error of {estimator} is lower with T = 100 layers than with T = 25.",
        place=_PLACE,
        effect=f"final relative error of {estimator} at T = 100 divided by that at T = 25",
        estimate=lambda rows: _ratio(rows, 100, 25, estimator=estimator),
        below=1,
        ratio=True,
        why=f"equal errors give 1; published: {_PUBLISHED[estimator]}",
        rows=f"dictionary_error of {estimator} after the last update, T = 25 and T = 100",
        figure="dictionary_error",
    )


def _below_both(rows: pd.DataFrame) -> pd.Series:
    return pd.concat([_ratio(rows, other, "ae-ls", n_layers=100) for other in ("dec", "ae-lasso")], axis=1).min(axis=1)


CLAIMS = (
    Claim(
        id="ae-ls-best",
        kind="paper",
        statement="At T = 100 the final error of ae-ls is below those of dec and ae-lasso.",
        place=_PLACE,
        effect="the smaller of dec's and ae-lasso's final relative errors divided by that of ae-ls, at T = 100",
        estimate=_below_both,
        above=1,
        ratio=True,
        why="equal errors give 1; published: 0.129 / 0.0144 = 9.0",
        rows="dictionary_error of all three after the last update, T = 100",
        figure="dictionary_error",
    ),
    Claim(
        id="order-ae-ls-ae-lasso",
        kind="paper",
        statement="At T = 25 the final error of ae-ls is below that of ae-lasso.",
        place=_PLACE,
        effect="final relative error of ae-ls divided by that of ae-lasso, at T = 25",
        estimate=lambda rows: _ratio(rows, "ae-ls", "ae-lasso", n_layers=25),
        below=1,
        ratio=True,
        why="equal errors give 1; published: 0.085 / 0.171",
        rows="dictionary_error of both after the last update, T = 25",
        figure="dictionary_error",
    ),
    Claim(
        id="order-ae-lasso-dec",
        kind="paper",
        statement="At T = 25 the final error of ae-lasso is below that of dec.",
        place=_PLACE,
        effect="final relative error of ae-lasso divided by that of dec, at T = 25",
        estimate=lambda rows: _ratio(rows, "ae-lasso", "dec", n_layers=25),
        below=1,
        ratio=True,
        why="equal errors give 1; published: 0.171 / 0.246",
        rows="dictionary_error of both after the last update, T = 25",
        figure="dictionary_error",
    ),
    *(_deeper(estimator) for estimator in ("dec", "ae-lasso", "ae-ls")),
)
