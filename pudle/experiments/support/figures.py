"""Figures of the settings in which supports are found and kept, with the region where theory guarantees it."""

import numpy as np

from pudle.analysis import style
from pudle.analysis.figure import Figure
from pudle.analysis.tables import Results

NAMES = {"gaussian": "Gaussian", "two-bases": "two bases"}
COLOURS = ("#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#8C564B", "#4D4D4D")


def phase(results: Results):
    table = results.summary.astype({"sparsity": int, "init_noise": float})
    last = table[(table.quantity == "equal") & (table.step == table[table.quantity == "equal"].step.max())].astype(
        {"lam": float}
    )
    kinds, noises = sorted(table.dictionaries.unique()), sorted(table.init_noise.unique())
    figure, axes = style.panels(len(kinds) * len(noises), rows=len(kinds), width=2.3, height=2.2, sharey=True)
    for i, (axis, kind, noise) in enumerate(zip(axes, np.repeat(kinds, len(noises)), noises * len(kinds), strict=True)):
        here = last[(last.dictionaries == kind) & (last.init_noise == noise)].pivot(
            index="lam", columns="sparsity", values="mean"
        )
        image = axis.imshow(here, origin="lower", aspect="auto", cmap="viridis", vmin=0, vmax=1)
        bounds = table[(table.dictionaries == kind) & (table.init_noise == noise)]
        low, high, delta = (
            bounds[bounds.quantity == name].groupby("sparsity")["mean"].mean() for name in ("low", "high", "delta")
        )
        for column, s in enumerate(here.columns):
            inside = [row for row, lam in enumerate(here.index) if low[s] <= lam < high[s]]
            for row in inside:
                axis.plot(column, row, "o", color="white", markeredgecolor="black", markersize=4)
        axis.set_title(f"{NAMES[kind]}, $\\delta = {delta.mean():.2f}$")
        axis.set(xticks=range(len(here.columns)), xticklabels=here.columns, yticks=range(len(here.index)))
        axis.set_yticklabels([f"{lam:g}" for lam in here.index])
        axis.grid(False)
        if i >= len(noises) * (len(kinds) - 1):
            axis.set_xlabel("sparsity $s$")
        if i % len(noises) == 0:
            axis.set_ylabel(r"$\lambda$")
    figure.colorbar(image, ax=list(axes), label="share of samples with the true support", shrink=0.7)
    return figure, table[table.quantity.isin(["equal", "low", "high", "delta", "condition"])]


def layers(results: Results):
    table = results.summary.astype({"sparsity": int, "init_noise": float})
    table = table[(table.quantity == "equal") & (table.init_noise == table.init_noise.min())].astype({"lam": float})
    middle = sorted(table.lam.unique())[table.lam.nunique() // 2]
    table = table[table.lam == middle]
    kinds = sorted(table.dictionaries.unique())
    figure, axes = style.panels(len(kinds), width=2.6, sharey=True)
    for axis, kind in zip(axes, kinds, strict=True):
        for colour, (s, line) in zip(COLOURS, table[table.dictionaries == kind].groupby("sparsity"), strict=False):
            style.draw_band(axis, line, label=f"$s = {s}$", color=colour)
        axis.set(xscale="log", xlabel="layer $t$", ylim=(-0.03, 1.03), title=f"{NAMES[kind]}, $\\lambda = {middle:g}$")
    axes[0].set_ylabel("share with the true support")
    style.legend_below(figure, axes, 4)
    return figure, table


FIGURES = (
    Figure(
        "phase",
        "Share of samples whose codes have exactly the true signed support after the last layer. White dots mark settings where the "
        "sufficient condition holds (bounds averaged over seeds), so that theory guarantees 1. δ is the largest distance of an atom from the "
        "true one.",
        phase,
    ),
    Figure(
        "layers",
        "Share of samples whose codes have exactly the true signed support over layers, at the smallest δ and the middle λ.",
        layers,
    ),
)
