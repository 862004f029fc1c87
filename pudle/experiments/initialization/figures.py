"""Figures of recovery over the distance of the start and the sparsity, of recovery from other starts, and of the atoms of Arora's start."""

import numpy as np
import pandas as pd

from pudle.analysis import style
from pudle.analysis.figure import Figure
from pudle.analysis.tables import Results
from pudle.experiments._shared.palette import lines, look

_PUBLISHED = (0.005, 0.02, 0.0228, 0.1)  # the δ in PUDLE's experiments

_RECOVERED, _ERROR, _SUPPORT = "atoms_recovered", "dictionary_error_aligned", "support_exact"
_LABELS = {_RECOVERED: "atoms recovered", _ERROR: "aligned error", _SUPPORT: "signed supports recovered"}


def recovery_map(results: Results):
    """One row of panels for each kind of signs. Panels are empty if the start `perturbed` was not run."""
    table = results.summary[results.summary.start == "perturbed"]
    table = table.assign(init_noise=pd.to_numeric(table.get("init_noise")))
    at_start = table[(table.step == 0) & (table.quantity == "dictionary_error")].groupby("init_noise")["mean"].mean()
    plotted = _last(table[table.quantity.isin(_LABELS)])
    kinds = sorted(plotted.signs.unique(), reverse=True) or ["shared"]
    figure, axes = style.panels(len(_LABELS) * len(kinds), width=2.4, height=2.7, rows=len(kinds), sharey=True)
    for row, signs in zip(axes.reshape(len(kinds), -1), kinds, strict=True):
        for axis, (quantity, label) in zip(row, _LABELS.items(), strict=True):
            chosen = plotted[(plotted.signs == signs) & (plotted.quantity == quantity)]
            _heat(axis, chosen.pivot(index="init_noise", columns="sparsity", values="mean"), quantity == _ERROR)
            axis.set(title=label if len(kinds) == 1 else f"{label}, {signs} signs", xlabel="sparsity $s$")
        row[0].set_yticks(
            range(len(at_start)),
            [f"{'★ ' if noise in _PUBLISHED else ''}{noise:g}  ({error:.2f})" for noise, error in at_start.items()],
        )
        row[0].set_ylabel(r"$\delta$ (relative error of the start)")
    return figure, plotted


def _heat(axis, values: pd.DataFrame, logarithmic: bool) -> None:
    """One annotated map, dark where recovery is good. Errors are coloured by their logarithm, from 0.01 to 1."""
    colors = 1 + np.log10(values.clip(0.01, 1)) / 2 if logarithmic else 1 - values
    axis.imshow(colors, cmap="viridis", vmin=0, vmax=1, aspect="auto", origin="lower")
    for (row, column), value in np.ndenumerate(values.to_numpy()):
        text = f"{value:.0e}" if logarithmic and value < 0.01 else f"{value:.2f}"
        light = colors.iat[row, column] > 0.6
        axis.text(column, row, text, ha="center", va="center", fontsize=7, color="black" if light else "white")
    axis.set_xticks(range(values.shape[1]), values.columns)
    axis.grid(False)


def by_start(results: Results):
    """Final values over s from every start, with `perturbed` at its smallest δ."""
    table = _last(results.summary[results.summary.quantity.isin(_LABELS)])
    noise = pd.to_numeric(table.get("init_noise", pd.Series(np.nan, table.index)))
    table = table[noise.isna() | (noise == noise.min())]
    figure, axes = style.panels(len(_LABELS), width=2.4, height=2.9)
    for axis, (quantity, label) in zip(axes, _LABELS.items(), strict=True):
        for look_, start in lines(table[table.quantity == quantity], str, "start"):
            for signs, line in start.groupby("signs", sort=False):
                shown = look_ | ({} if signs == "shared" else {"label": f"{look_['label']}, {signs} signs", "linestyle": "--"})
                style.draw_band(axis, line, x="sparsity", marker="o", markersize=4, **shown)
        axis.set(title=label, xlabel="sparsity $s$", xticks=sorted(table.sparsity.unique()))
        axis.set_yscale("log" if quantity == _ERROR else "linear")
    style.legend_below(figure, axes, 3)
    return figure, table


def arora(results: Results):
    """The number of atoms that the pairwise method finds, and their distance from true atoms before and after learning."""
    table = results.summary[(results.summary.start == "arora") & ~results.summary.quantity.isin(_LABELS)]
    before, after = table[table.step == 0], _last(table)
    sparsities = sorted(before.sparsity.unique())
    n_atoms = before[before.quantity == "n_atoms"]["mean"].max()
    figure, axes = style.panels(2, width=2.9, height=2.9)
    shown = (
        (("found", before, "n_found"), ("different", before, "n_distinct")),
        (
            ("worst found", before, "found_distance_max"),
            ("mean", before, "found_distance"),
            ("learned", after, "found_distance"),
        ),
    )
    levels = ((n_atoms, "$p$", "atoms"), (1 / np.log(n_atoms), r"$1/\log p$", "distance to the nearest ±atom"))
    for axis, points, (level, name, label) in zip(axes, shown, levels, strict=True):
        for i, (title, rows, quantity) in enumerate(points):
            for signs, chosen in rows[rows.quantity == quantity].groupby("signs"):
                x = chosen.sparsity.map(sparsities.index) + 0.12 * (2 * i - len(points) + 1) + 0.06 * (signs == "independent")
                _points(axis, x, chosen, "oD^s"[i], title if signs == "independent" else None, signs == "independent")
        axis.axhline(level, **look("noisy") | {"label": name})
        axis.set(xlabel="sparsity $s$", ylabel=label, xlim=(-0.6, len(sparsities) - 0.4), ylim=(0, None))
        axis.set_xticks(range(len(sparsities)), sparsities)
        axis.legend(fontsize=7)
    return figure, table


def _points(axis, x: pd.Series, table: pd.DataFrame, marker: str, label: str | None, full: bool) -> None:
    """Means with their intervals, as filled or empty markers."""
    color = look("arora")["color"]
    ends = np.abs(table[["low", "high"]].T.to_numpy() - table["mean"].to_numpy())
    fill = {"mfc": color if full else "white", "markersize": 5, "capsize": 2, "clip_on": False}
    axis.errorbar(x, table["mean"], ends, fmt=marker, color=color, label=label, **fill)


def _last(table: pd.DataFrame) -> pd.DataFrame:
    return table[table.step == table.step.max()]


FIGURES = (
    Figure(
        "recovery_map",
        "Results of learning from the truth perturbed by δ, at each sparsity s: the fraction of recovered atoms (within the threshold "
        "`recovered_within` of a true ±atom), the final relative error after the best matching of atoms and signs, and the fraction of test "
        "samples whose signed support is exactly the true one. Values are means over seeds; ★ marks the δ of the paper.",
        recovery_map,
    ),
    Figure(
        "by_start",
        "Recovered atoms, aligned error and recovered signed supports after learning from each start, over the sparsity s. The perturbed truth "
        "has the smallest δ. Each sample has one random sign (shared) unless the legend says otherwise.",
        by_start,
    ),
    Figure(
        "arora",
        "Atoms found by the pairwise method of Arora et al. Left: their number, and the number of different true atoms that they are nearest "
        "to. Right: their distance to the nearest true ±atom, at the start (worst and mean) and after learning (mean), where any are found. "
        "Filled markers: independent signs. Empty markers: one sign per sample.",
        arora,
    ),
)
