"""Figures of the final errors and of the error over updates, for each gradient and variant."""

import pandas as pd

from pudle.analysis import comparison, style
from pudle.analysis.figure import Figure
from pudle.analysis.tables import Results
from pudle.experiments._shared.palette import lines

ERROR = r"$\|D - D^*\|_F \,/\, \|D^*\|_F$"


def _variants(results: Results) -> list[str]:
    """The names of the variants, in the order of the configuration."""
    return list(dict.fromkeys(cell.settings["variant"] for cell in results.cells))


def curves(results: Results):
    table = results.summary[results.summary.quantity == "dictionary_error"]
    variants = [variant for variant in _variants(results) if variant in set(table.variant)]
    figure, axes = style.panels(len(variants), rows=2 if len(variants) > 4 else 1, width=2.0, height=2.2, sharey=True)
    drawn = []
    for axis, variant in zip(axes, variants, strict=False):
        for look, line in lines(table[table.variant == variant], str, "method_name"):
            style.draw_band(axis, line, **look)
            drawn.append(comparison.draw(axis, results, line, look))
        axis.set(title=variant, xlabel="update", yscale="log")
    for axis in axes[len(variants) :]:
        axis.axis("off")
    figure.supylabel(ERROR, fontsize="medium")
    style.legend_below(figure, axes, 3)
    return figure, pd.concat([table, *drawn], ignore_index=True)


def final_errors(results: Results):
    summary = results.summary[results.summary.quantity == "dictionary_error"]
    table = summary.loc[summary.groupby(["variant", "method_name"]).step.idxmax()]
    variants = [variant for variant in _variants(results) if variant in set(table.variant)]
    figure, (axis,) = style.panels(height=0.9 + 0.25 * len(variants), width=4)
    n_methods = table.method_name.nunique()
    for i, (look, line) in enumerate(lines(table, str, "method_name")):
        look = {key: value for key, value in look.items() if key != "linestyle"}
        places = [variants.index(variant) + 0.6 * (i / max(1, n_methods - 1) - 0.5) for variant in line.variant]
        axis.hlines(places, line.low, line.high, color=look["color"], linewidth=3, alpha=0.4)
        axis.plot(line["mean"], places, "o", markersize=4, **look)
    axis.set(xscale="log", xlabel=ERROR)
    axis.set_yticks(range(len(variants)), variants)
    axis.invert_yaxis()
    style.legend_below(figure, [axis], 3)
    return figure, table


FIGURES = (
    Figure("final_errors", "Relative error of the dictionary after the last update, for each variant.", final_errors),
    Figure(
        "curves",
        "Relative error of the dictionary over updates, for each variant. " + comparison.CAPTION,
        curves,
        paper="The order of the gradients is the same with small batches, other learning rates, noise and sub-Gaussian codes.",
    ),
)
