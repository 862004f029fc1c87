"""Figures of the errors of the dictionary and of the codes during learning."""

import pandas as pd

from pudle.analysis import comparison, style
from pudle.analysis.figure import Figure
from pudle.analysis.tables import Results
from pudle.experiments._shared.palette import lines


def _curves(quantity: str, ylabel: str):
    def draw(results: Results):
        table = results.summary[results.summary.quantity == quantity]
        depths = sorted(table.n_layers.unique())
        figure, axes = style.panels(len(depths), width=2.4, sharey=True)
        drawn = []
        for axis, n_layers in zip(axes, depths, strict=True):
            for look, line in lines(table[table.n_layers == n_layers], str, "estimator"):
                style.draw_band(axis, line, **look)
                drawn.append(comparison.draw(axis, results, line, look))
            axis.set(title=f"$T = {n_layers}$", yscale="log", xlabel="update")
        axes[0].set_ylabel(ylabel)
        style.legend_below(figure, axes, 3)
        return figure, pd.concat([table, *drawn], ignore_index=True)

    return draw


FIGURES = (
    Figure(
        "dictionary_error",
        "Relative error of the dictionary, column by column, over full-batch updates of Adam, for each number of layers T. "
        + comparison.CAPTION,
        _curves("dictionary_error", r"$\|D - D^*\|_F \,/\, \|D^*\|_F$"),
        paper="The dictionary comes closer to the true one with more layers, and closest with ae-ls.",
    ),
    Figure(
        "dictionary_error_aligned",
        "Relative error of the dictionary after the best one-to-one matching of atoms and signs, over updates.",
        _curves("dictionary_error_aligned", r"$\|D - D^*\|_F \,/\, \|D^*\|_F$, aligned"),
    ),
    Figure(
        "code_error",
        "Mean distance of the codes z_T from the true codes while the dictionary is learned. " + comparison.CAPTION,
        _curves("code_error_true", r"mean code error $\|z_T - z^*\|_2$"),
        paper="Codes come closest to the true codes when ae-ls learns the dictionary.",
    ),
)
