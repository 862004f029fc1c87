"""Figures of the norms of gradients over step size and depth, of their directions, and of the errors after training."""

import numpy as np

from pudle.analysis import style
from pudle.analysis.figure import Figure
from pudle.analysis.tables import Results
from pudle.experiments._shared.palette import look

KINDS = (("soft", "none"), ("soft", "fista"), ("hard", "none"), ("hard", "fista"))
NAMES = {"none": "ISTA", "fista": "FISTA"}


def _kinds(table):
    """The name and the rows of each kind of layers that was run."""
    for kind in KINDS:
        part = table[(table.thresholding == kind[0]) & (table.accelerations == kind[1])]
        if len(part):
            yield f"{kind[0]} {NAMES[kind[1]]}", part


def stability(results: Results):
    table = results.summary[results.summary.quantity == "norm"].astype({"share": float})
    kinds = list(_kinds(table))
    gradients = ["dec", "ae-ls", *sorted(name for name in table.gradient.unique() if "last" in name)]
    figure, axes = style.panels(len(kinds) * len(gradients), rows=len(kinds), width=2.1, height=1.6, sharex=True, sharey=True)
    image = None
    for i, (name, part) in enumerate(kinds):
        for axis, gradient in zip(axes[i * len(gradients) :], gradients, strict=False):
            here = part[part.gradient == gradient].pivot(index="step", columns="share", values="mean")
            here = here.reindex(index=sorted(table.step.unique()), columns=sorted(table.share.unique()))
            if here.notna().any(axis=None):
                image = axis.imshow(np.log10(here), origin="lower", aspect="auto", cmap="RdBu_r", vmin=-6, vmax=6)
                axis.set(xticks=range(len(here.columns)), xticklabels=[f"{share:g}" for share in here.columns])
                axis.set(yticks=range(len(here.index)), yticklabels=here.index)
                if (beyond := sum(share < 1 for share in here.columns)) < len(here.columns):
                    axis.axvline(beyond - 0.5, color="black", linewidth=1)
            axis.set_title(f"{name}: {gradient}", fontsize=7)
            axis.grid(False)
            axis.tick_params(labelsize=6)
    for axis in axes[-len(gradients) :]:
        axis.set_xlabel(r"$\alpha \|D\|^2 / 2$", fontsize=7)
    for axis in axes[:: len(gradients)]:
        axis.set_ylabel("layers $T$", fontsize=7)
    if image:
        figure.colorbar(image, ax=list(axes), label=r"$\log_{10} \|g\| / \|g^*\|$ (capped)", extend="both", shrink=0.6)
    return figure, table


def direction(results: Results):
    table = results.summary[results.summary.quantity == "cosine"].astype({"share": float})
    table = table[table.step == table.step.max()]
    kinds = list(_kinds(table))
    figure, axes = style.panels(max(1, len(kinds)), width=2.2, height=2.3, sharey=True)
    for axis, (name, part) in zip(axes, kinds, strict=False):
        for gradient, line in part.groupby("gradient"):
            looks = look(gradient.split(",")[0]) | {"label": gradient, "linestyle": ":" if "last" in gradient else "-"}
            style.draw_band(axis, line, x="share", marker="o", markersize=3, **looks)
        axis.axvline(1, color="0.5", linewidth=0.8)
        axis.set(xlabel=r"$\alpha \|D\|^2 / 2$", title=name)
    axes[0].set_ylabel("cosine of $g$ and $g^*$, deepest")
    style.legend_below(figure, axes, 4)
    return figure, table


def training(results: Results):
    table = results.summary[results.summary.quantity == "error_after_training"].astype({"share": float})
    kinds = list(_kinds(table))
    figure, axes = style.panels(max(1, len(kinds)), width=2.2, height=2.3, sharey=True)
    for axis, (name, part) in zip(axes, kinds, strict=False):
        for shift, (gradient, line) in enumerate(part.groupby("gradient")):
            looks = look(gradient) | {"linestyle": ("-", "--", ":", "-.")[shift % 4]}
            style.draw_band(axis, line, x="share", marker="o", markersize=3, **looks)
        axis.axvline(1, color="0.5", linewidth=0.8)
        axis.axhline(1, color="0.5", linewidth=0.8)
        axis.set(xlabel=r"$\alpha \|D\|^2 / 2$", title=name)
    axes[0].set_ylabel("error, final over initial")
    style.legend_below(figure, axes, 3)
    return figure, table


FIGURES = (
    Figure(
        "stability",
        'Norm of each gradient relative to that of the global direction g*, over step size and number of layers. Panels named "last" show '
        "back-propagation truncated to the last layers. The black line marks 2 / ‖D‖²; ISTA may diverge for larger steps.",
        stability,
    ),
    Figure(
        "direction",
        "Cosine between each gradient and g* at the largest number of layers. It is shown as 0 where it is not finite.",
        direction,
    ),
    Figure(
        "training",
        "Error of the dictionary after a short training divided by that before. Values that are above 2 or not finite are shown as 2.",
        training,
    ),
)
