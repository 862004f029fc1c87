"""Convergence of codes and gradients with the number of layers."""

import pandas as pd

from pudle.analysis import published, style
from pudle.analysis.figure import Figure
from pudle.analysis.tables import Results
from pudle.experiments._shared.palette import lines, look


def code_convergence(results: Results):
    table = results.summary[results.summary.quantity.isin(["code_error_lasso", "code_error_true"])]
    figure, (axis,) = style.panels()
    drawn = []
    for quantity, line, label in (
        ("code_error_lasso", "-", r"to the lasso's, $\hat z$"),
        ("code_error_true", "--", r"to the true, $z^*$"),
    ):
        look_ = look("codes") | {"label": label, "linestyle": line}
        style.draw_band(axis, table[table.quantity == quantity], **look_)
        drawn.append(published.draw(axis, results, table[table.quantity == quantity], look_))
    axis.set(yscale="log", xlabel="layer $t$", ylabel=r"mean code error $\|z_t - z\|_2$")
    axis.legend()
    return figure, pd.concat([table, *drawn], ignore_index=True)


def _gradients(quantity: str, target: str):
    def draw(results: Results):
        table = results.summary[results.summary.quantity == quantity]
        figure, (axis,) = style.panels()
        drawn = []
        for look_, line in lines(table, str, "estimator"):
            style.draw_band(axis, line, **look_)
            drawn.append(published.draw(axis, results, line, look_))
        axis.set(yscale="log", xlabel="layer $t$", ylabel=rf"gradient error $\|g_t - {target}\|_F$")
        axis.legend()
        return figure, pd.concat([table, *drawn], ignore_index=True)

    return draw


FIGURES = (
    Figure(
        "code_convergence",
        "Mean distance of the codes after t layers to the lasso's codes and to the true ones. " + published.CAPTION,
        code_convergence,
        paper="Codes converge to the lasso's at a geometric rate, and stay at a distance from the true ones.",
    ),
    Figure(
        "gradient_error_local",
        "Distance of each gradient after t layers to the local direction ĝ, the gradient at the lasso's codes. "
        + published.CAPTION,
        _gradients("gradient_error_local", r"\hat g"),
        paper="dec and ae-lasso converge to the local direction, ae-lasso faster; ae-ls stays away from it.",
    ),
    Figure(
        "gradient_error_true",
        "Distance of each gradient after t layers to the global direction g*, the gradient at the true codes. "
        + published.CAPTION,
        _gradients("gradient_error_true", "g^*"),
        paper="Of the three gradients, ae-ls comes closest to the global direction.",
    ),
)
