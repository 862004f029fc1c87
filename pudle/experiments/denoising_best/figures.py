"""Figures of the PSNR over training, against updates and against CPU seconds, and of the learned filters."""

import pandas as pd

from pudle.analysis import comparison, style
from pudle.analysis.figure import Figure
from pudle.analysis.tables import Results
from pudle.experiments._shared.palette import lines

# Published values that each quantity is compared with: label → (id of the published value, line style).
PUBLISHED_LINES = {
    "psnr_as_published": {"PUDLE, published": ("denoising-0.16-ae-ls", (0, (5, 2)))},
    "psnr": {"BM3D, cited": ("denoising-cited-BM3D", ":"), "CSCNet, cited": ("denoising-cited-CSCNet", "-.")},
}
LABELS = {"psnr_as_published": "test PSNR (dB), as published", "psnr": "test PSNR (dB), peak 1"}


def psnr(results: Results):
    table = _with_seconds(results)
    values = comparison.values().set_index("id").published
    figure, axes = style.panels(4, width=2.9, height=2.6, rows=2)
    for axis, (quantity, x) in zip(
        axes, [(quantity, x) for quantity in PUBLISHED_LINES for x in ("step", "seconds")], strict=True
    ):
        for averaged in (False, True):
            estimate = "shift-averaged" if averaged else "plain"
            shown = table[(table.quantity == quantity) & (table.estimate == estimate) & (table.step > 0)]
            for drawn, network in lines(shown, str, "network"):
                if averaged:
                    drawn |= {
                        "label": f"{drawn['label']}, averaged over shifts",
                        "linestyle": "--",
                        "marker": "o",
                        "markersize": 3,
                    }
                style.draw_band(axis, network, x=x, **drawn)
        for label, (name, line) in PUBLISHED_LINES[quantity].items():
            axis.axhline(values[name], color="0.4", linestyle=line, linewidth=1, label=f"{label} {values[name]:.2f} dB")
        axis.set(xlabel="update" if x == "step" else "CPU seconds of training", ylabel=LABELS[quantity])
    style.legend_below(figure, axes, 2)
    return figure, table


def filters(results: Results):
    """The filters D of each network, in decreasing order of their norm."""
    finished = [cell for cell in results.finished() if "arrays.npz" in results.record(cell)["outputs"]]
    figure, axes = style.panels(max(1, len(finished)), width=2.2, height=2.4)
    frames = []
    for axis, cell in zip(axes, finished, strict=False):
        arrays, name, seed = results.arrays(cell), cell.settings["network"], cell.seeds[0]
        axis.axis("off")
        axis.set_title(name)
        if f"filters/{seed}" in arrays:
            found = arrays[f"filters/{seed}"][:, 0]
            norms = (found**2).sum((1, 2)) ** 0.5
            axis.imshow(style.mosaic(found[(-norms).argsort()]), cmap="gray", vmin=-1, vmax=1)
            thresholds = arrays.get(f"thresholds/{seed}", [float("nan")] * len(norms))
            frames.append(pd.DataFrame({"network": name, "filter": range(len(norms)), "norm": norms, "threshold": thresholds}))
    return figure, pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _with_seconds(results: Results) -> pd.DataFrame:
    """The means over images, with the training time so far in seconds (mean over seeds)."""
    table = results.summary[results.summary.image == ""]
    seconds = results.timings.groupby(["network", "step"]).value.mean().rename("seconds").reset_index()
    return table.merge(seconds, on=["network", "step"])


FIGURES = (
    Figure(
        "psnr",
        "PSNR on the test images over training, averaged over images, against updates (left) and against CPU seconds of training, summed over "
        "threads and without evaluations (right). Top: PSNR computed as in the paper. Bottom: peak 1. A network whose loss excludes the border "
        "of its crops denoises well only when its estimates are averaged over shifts.",
        psnr,
    ),
    Figure(
        "filters",
        "Learned filters of the first seed in decreasing order of their norm. Each is scaled to its largest absolute value.",
        filters,
    ),
)
