"""Figures of the error of Jacobians over layers, and of this error when the support settles."""

from pudle.analysis import style
from pudle.analysis.figure import Figure
from pudle.analysis.tables import Results

LOOKS = {
    "settled": ("support settled", "#0072B2", "-"),
    "unsettled": ("support not settled", "#D55E00", "--"),
    "last 20": ("truncated to 20 layers", "#009E73", "-."),
    "last 50": ("truncated to 50 layers", "#CC79A7", ":"),
}


def error(results: Results):
    table = results.summary[results.summary.quantity == "jacobian_error"]
    figure, (axis,) = style.panels(width=4.2, height=2.9)
    for group, line in table.groupby("group"):
        label, colour, kind = LOOKS.get(group, (group, "#4D4D4D", ":"))
        style.draw_band(axis, line, label=label, color=colour, linestyle=kind)
    axis.set(xscale="log", yscale="log", xlabel="layer $t$", ylabel=r"mean $\|J_t - J^*\| \,/\, \|J^*\|$")
    style.legend_below(figure, [axis], 2)
    return figure, table


def settling(results: Results):
    rows = results.rows.pivot_table(index=["seed", "step"], columns="quantity", values="value").dropna(subset="settled")
    figure, (axis,) = style.panels(width=3.6, height=2.8)
    for name, colour, marker, label in (
        ("at_settling", "#D55E00", "o", "when the support settles"),
        ("at_end", "#0072B2", "s", "after the last layer"),
    ):
        axis.plot(rows["settled"], rows[name].clip(lower=1e-12), marker, color=colour, markersize=3, label=label)
    axis.set(yscale="log", xlabel="layer at which the support settles", ylabel=r"$\|J_t - J^*\| \,/\, \|J^*\|$")
    style.legend_below(figure, [axis], 1)
    return figure, rows.reset_index()


FIGURES = (
    Figure(
        "error",
        "Relative distance of the codes' Jacobian after t layers from the lasso's, averaged over samples. Separate lines show samples whose "
        "support has settled, that is, stays the lasso's from layer t on, samples whose support has not settled yet, and Jacobians "
        "truncated to the last layers (samples that settle).",
        error,
    ),
    Figure(
        "settling",
        "Relative distance of each sample's Jacobian from the lasso's, when its support settles and after the last layer.",
        settling,
    ),
)
