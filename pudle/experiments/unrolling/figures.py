"""Convergence of codes and gradients with the number of layers."""

from pudle.analysis import style
from pudle.analysis.style import Figure
from pudle.analysis.tables import Results
from pudle.experiments._shared.palette import lines, look


def code_convergence(results: Results):
    table = results.summary[results.summary.quantity.isin(["code_error_lasso", "code_error_true"])]
    figure, (axis,) = style.panels()
    for quantity, line, label in (
        ("code_error_lasso", "-", r"to the lasso's, $\hat z$"),
        ("code_error_true", "--", r"to the true, $z^*$"),
    ):
        look_ = look("codes") | {"label": label, "linestyle": line}
        style.draw_band(axis, table[table.quantity == quantity], **look_)
    axis.set(yscale="log", xlabel="layer $t$", ylabel=r"mean code error $\|z_t - z\|_2$")
    axis.legend()
    return figure, table


def _gradients(quantity: str, target: str):
    def draw(results: Results):
        table = results.summary[results.summary.quantity == quantity]
        figure, (axis,) = style.panels()
        for look_, line in lines(table, str, "estimator"):
            style.draw_band(axis, line, **look_)
        axis.set(yscale="log", xlabel="layer $t$", ylabel=rf"gradient error $\|g_t - {target}\|_F$")
        axis.legend()
        return figure, table

    return draw


FIGURES = (
    Figure(
        "code_convergence",
        "Mean distance of the codes after t layers to the lasso's codes and to the true ones.",
        code_convergence,
    ),
    Figure(
        "gradient_error_local",
        "Distance of each gradient after t layers to the local direction ĝ, the gradient at the lasso's codes.",
        _gradients("gradient_error_local", r"\hat g"),
    ),
    Figure(
        "gradient_error_true",
        "Distance of each gradient after t layers to the global direction g*, the gradient at the true codes.",
        _gradients("gradient_error_true", "g^*"),
    ),
)
