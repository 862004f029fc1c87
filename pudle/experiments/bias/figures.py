"""The bias of codes and of dictionaries against λ, with fitted exponents."""

import numpy as np
import pandas as pd

from pudle.experiments.palette import look
from pudle.harness import style
from pudle.harness.statistics import slope
from pudle.harness.style import Figure
from pudle.harness.tables import Results

FORWARD = {"fixed": ("fixed λ", "-", "o"), "decayed": ("decayed λ", "--", "s"), "hard": ("hard threshold", ":", "^")}


def _against_lam(axis, table: pd.DataFrame, **line) -> None:
    table = table.sort_values("lam")
    exponent = slope(np.log(table.lam), np.log(table["mean"].clip(lower=1e-300)))[0]
    line["label"] += f" (exponent {exponent:.2f})"
    style.draw_band(axis, table, x="lam", **line)


def codes(results: Results):
    table = results.summary[results.summary.quantity == "code_error"].astype({"lam": float})
    figure, (axis,) = style.panels(width=4.0, height=2.8)
    for colour, (forward, (name, line, marker)) in zip(("#0072B2", "#D55E00", "#009E73"), FORWARD.items(), strict=True):
        chosen = table[table.forward == forward]
        if len(chosen):
            _against_lam(axis, chosen, label=name, color=colour, linestyle=line, marker=marker)
    axis.set(xscale="log", yscale="log", xlabel=r"$\lambda$", ylabel=r"mean code error at $D^*$, $\|z_T - z^*\|_2$")
    style.legend_below(figure, [axis], 1)
    return figure, table


def floors(results: Results):
    table = results.summary[results.summary.quantity == "dictionary_error"].astype({"lam": float})
    table = table[table.step == table.step.max()]
    present = [forward for forward in FORWARD if forward in set(table.forward)]
    figure, axes = style.panels(max(1, len(present)), width=2.7, height=2.6, sharey=True)
    for axis, forward in zip(axes, present, strict=False):
        for learner in ("dec", "ae-lasso", "ae-ls"):
            chosen = table[(table.forward == forward) & (table.learner == learner)]
            if len(chosen):
                _against_lam(axis, chosen, **look(learner), marker="o")
        axis.set(xscale="log", yscale="log", xlabel=r"$\lambda$", title=FORWARD[forward][0])
        axis.legend(fontsize=6)
    axes[0].set_ylabel(r"final $\|D - D^*\|_F / \|D^*\|_F$")
    return figure, table


FIGURES = (
    Figure(
        "codes",
        "Error of the codes after the last layer at the true dictionary against λ (hard: the threshold is α λ). Exponents: least squares on "
        "both logarithms.",
        codes,
    ),
    Figure(
        "floors", "Error of the learned dictionary after the last update against λ, for each forward pass and gradient.", floors
    ),
)
