"""The parts of the grid that claims and figures use, inferred from the rows.

Settings are compared at the noise level with the most values of λ. The main λ is the one whose ratio to σ occurs at the most noise
levels; with one noise level, it is the one with the most estimators. Rows may lack columns of the grid, as those of negative controls do;
these columns are then empty.
"""

import pandas as pd

from pudle.experiments.denoising.grid import VARIES


def columns(table: pd.DataFrame) -> pd.DataFrame:
    """``table`` with every column of the grid; σ, λ and thresholds are numbers (NaN where they are missing), other columns are text."""
    table = table.assign(**{key: "" for key in (*VARIES, "image", "data_set") if key not in table})
    return table.assign(**{key: pd.to_numeric(table[key], errors="coerce") for key in ("sigma", "lam", "threshold")})


def soft(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of dec, ae-ls and ae-lasso with a fixed λ, without variants."""
    return table[(table.denoiser_name == "") & (table.variant == "") & table.lam.notna()]


def main_sigma(table: pd.DataFrame) -> float:
    """The noise level at which settings are compared."""
    return soft(table).groupby("sigma").lam.nunique().idxmax()


def main_lam(table: pd.DataFrame) -> float:
    """The λ at the main noise level that is in proportion to those at the others.

    If there is one noise level only, it is the λ with the most estimators, and of several such λ the middle one.
    """
    chosen, sigma = soft(table), main_sigma(table)
    ratio = (chosen.lam / chosen.sigma).round(6)
    noises = chosen.groupby(ratio).sigma.nunique()
    here = chosen[chosen.sigma == sigma]
    common = here[ratio[here.index].map(noises) == noises.max()]
    if noises.max() > 1:
        return float(common.lam.median())
    estimators = here.groupby("lam").estimator.nunique()
    complete = sorted(estimators[estimators == estimators.max()].index)
    return float(complete[(len(complete) - 1) // 2])


def first_name(table: pd.DataFrame) -> str:
    """The name of the first data set; rows of runs that ended early have no name."""
    return next((name for name in table.data_set if name != ""), "")


def first_set(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the first data set."""
    return table[table.data_set == first_name(table)]


def in_proportion(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of :func:`soft` whose ratio of λ to σ is that of the main λ and σ."""
    chosen = soft(table)
    return chosen[((chosen.lam / chosen.sigma) / (main_lam(table) / main_sigma(table)) - 1).abs() < 1e-3]


def last(table: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """The last value of ``quantity`` of every cell, image and seed."""
    keys = [column for column in table.columns if column not in ("step", "value", "quantity")]
    chosen = table[table.quantity == quantity].sort_values("step", kind="stable")
    return chosen.groupby(keys, dropna=False, sort=False).value.last().reset_index()


def name(row) -> str:
    """The name that figures and tables give to the method of ``row``, which has the columns of the grid as attributes."""
    if row.denoiser_name:
        return row.denoiser_name
    if row.threshold == row.threshold and row.threshold != "":  # neither NaN nor empty
        return f"{row.estimator}-ht {row.threshold:g}"
    return f"{row.estimator} {row.variant}".strip()
