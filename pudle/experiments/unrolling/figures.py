"""Figures of the convergence of codes and gradients with the number of layers."""

import numpy as np
import pandas as pd

from pudle.analysis import comparison, style
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
        drawn.append(comparison.draw(axis, results, table[table.quantity == quantity], look_))
    axis.set(yscale="log", xlabel="layer $t$", ylabel=r"mean code error $\|z_t - z\|_2$")
    axis.legend()
    return figure, pd.concat([table, *drawn], ignore_index=True)


def code(results: Results):
    """The code of the first sample of the first seed."""
    cell = results.finished()[0]
    arrays, seed, n_layers = results.arrays(cell), cell.seeds[0], cell.settings["n_layers"]
    kept = {name: arrays[f"code/{name}/{seed}"] for name in ("true", "unrolled", "lasso")}
    atoms = np.arange(1, len(kept["true"]) + 1)
    figure, (axis,) = style.panels(width=6.6, height=2.3)
    for name, size, look_ in (
        ("true", 6.5, look("true-code")),
        ("unrolled", 3, look("codes") | {"label": f"$z_T$ after $T = {n_layers}$ layers"}),
    ):
        active = np.flatnonzero(kept[name])
        axis.vlines(atoms[active], 0, kept[name][active], color=look_["color"], linewidth=1)
        face = look_["color"] if name == "unrolled" else "none"
        axis.plot(atoms[active], kept[name][active], "o", ms=size, color=look_["color"], mfc=face, label=look_["label"])
    axis.axhline(0, color="0.5", linewidth=0.6)
    axis.set(xlabel="atom", ylabel="non-zeros of a code", xlim=(0, len(atoms) + 1))
    style.legend_below(figure, [axis], 2)
    return figure, pd.DataFrame({"atom": atoms, "seed": seed} | kept)


def _gradients(quantity: str, target: str):
    def draw(results: Results):
        table = results.summary[results.summary.quantity == quantity]
        figure, (axis,) = style.panels()
        drawn = []
        for look_, line in lines(table, str, "estimator"):
            style.draw_band(axis, line, **look_)
            drawn.append(comparison.draw(axis, results, line, look_))
        axis.set(yscale="log", xlabel="layer $t$", ylabel=rf"gradient error $\|g_t - {target}\|_F$")
        axis.legend()
        return figure, pd.concat([table, *drawn], ignore_index=True)

    return draw


FIGURES = (
    Figure(
        "code",
        "The code of one sample (the first of the first seed) after all layers at the initial dictionary, and the true code z*. λ shrinks the "
        "code towards zero. The CSV file also has the lasso's code.",
        code,
        paper="At the initial dictionary the code has the support of the true code, and smaller amplitudes.",
    ),
    Figure(
        "code_convergence",
        "Mean distance of the codes after t layers from the lasso's codes and from the true codes. " + comparison.CAPTION,
        code_convergence,
        paper="Codes converge to the lasso's codes at a geometric rate, and stay at a distance from the true codes.",
    ),
    Figure(
        "gradient_error_local",
        "Distance of each gradient after t layers from the local direction ĝ, the gradient at the lasso's codes. "
        + comparison.CAPTION,
        _gradients("gradient_error_local", r"\hat g"),
        paper="dec and ae-lasso converge to the local direction, ae-lasso faster; ae-ls stays away from it.",
    ),
    Figure(
        "gradient_error_true",
        "Distance of each gradient after t layers from the global direction g*, the gradient at the true codes. "
        + comparison.CAPTION,
        _gradients("gradient_error_true", "g^*"),
        paper="Of the three gradients, ae-ls comes closest to the global direction.",
    ),
)
