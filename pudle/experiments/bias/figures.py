"""The bias of codes and of dictionaries against λ, with fitted exponents."""

import numpy as np
import pandas as pd

from pudle.analysis import style
from pudle.analysis.figure import Figure
from pudle.analysis.statistics import slope, t_interval
from pudle.analysis.tables import Results
from pudle.experiments._shared.palette import look

SAMPLES = {"code_error": "all samples", "code_error_on_support": "samples with the true support"}
FORWARD = {"fixed": ("fixed λ", "-", "o"), "decayed": ("decayed λ", "--", "s"), "hard": ("hard threshold", ":", "^")}


def _exponent(rows: pd.DataFrame) -> str:
    """Label with the exponent in λ and its 95 % t-interval over seeds, from rows with one value for each seed and λ."""
    fits = rows.groupby("seed")[["lam", "value"]].apply(lambda line: slope(np.log(line.lam), np.log(line.value))[0])
    interval = t_interval(fits.to_numpy())
    return f", exponent {interval.mean:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def _last(rows: pd.DataFrame, quantity: str, **where: str) -> pd.DataFrame:
    chosen = rows[rows.quantity == quantity]
    for key, value in where.items():
        chosen = chosen[chosen[key] == value]
    return chosen[chosen.step == chosen.step.max()].astype({"lam": float})


def _scales(axis, lams) -> None:
    axis.set(xscale="log", yscale="log", xlabel=r"$\lambda$")
    axis.set_xticks(lams, [f"{lam:g}" for lam in lams])
    axis.set_xticks([], minor=True)


def codes(results: Results):
    table = results.summary[results.summary.quantity.isin(SAMPLES)].astype({"lam": float})
    figure, axes = style.panels(len(SAMPLES), width=3.2, height=3.0)
    for axis, (quantity, samples) in zip(axes, SAMPLES.items(), strict=True):
        for colour, (forward, (name, line, marker)) in zip(("#0072B2", "#D55E00", "#009E73"), FORWARD.items(), strict=True):
            chosen = table[(table.quantity == quantity) & (table.forward == forward)]
            if len(chosen):
                if forward == "fixed" and quantity == "code_error":
                    name += _exponent(_last(results.rows, quantity, forward=forward, learner="codes"))
                style.draw_band(axis, chosen, x="lam", label=name, color=colour, linestyle=line, marker=marker)
        _scales(axis, sorted(table.lam.unique()))
        axis.set_title(samples)
    axes[0].set_ylabel(r"mean $\|z_T - z^*\|_2$ at $D^*$")
    style.legend_below(figure, axes[:1], 1)
    return figure, table


def floors(results: Results):
    table = results.summary[results.summary.quantity == "dictionary_error"].astype({"lam": float})
    table = table[table.step == table.step.max()]
    present = [forward for forward in FORWARD if forward in set(table.forward)]
    figure, axes = style.panels(max(1, len(present)), width=2.8, height=2.8, sharey=True)
    for axis, forward in zip(axes, present, strict=False):
        for learner in ("dec", "ae-lasso", "ae-ls"):
            chosen = table[(table.forward == forward) & (table.learner == learner)]
            if len(chosen):
                looks = look(learner)
                if forward == "fixed":
                    looks["label"] += _exponent(_last(results.rows, "dictionary_error", forward=forward, learner=learner))
                style.draw_band(axis, chosen, x="lam", **looks, marker="o")
        _scales(axis, sorted(table.lam.unique()))
        axis.set_title(FORWARD[forward][0])
    axes[0].set_ylabel(r"final $\|D - D^*\|_F / \|D^*\|_F$")
    style.legend_below(figure, axes[:1], 3)
    return figure, table


FIGURES = (
    Figure(
        "codes",
        "Error of the codes after the last layer, at the true dictionary, against λ. Right: mean over the samples whose codes have the true "
        "support. The hard threshold is α λ. Exponents are fitted by least squares to both logarithms for each seed; brackets show 95 % "
        "Student-t intervals.",
        codes,
    ),
    Figure(
        "floors",
        "Error of the learned dictionary after the last update against λ, for each forward pass and gradient. Exponents are given for fixed λ.",
        floors,
    ),
)
