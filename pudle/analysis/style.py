"""The style of figures, and how they are saved: PDF, PNG, SVG, and a CSV of exactly the plotted numbers.

matplotlib is imported when it is first used.
"""

import contextlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from pudle.analysis import statistics
from pudle.analysis.figure import Figure
from pudle.harness import files
from pudle.harness.record import ENDINGS

COLUMN = 3.3  # inches: the width of a column in a two-column paper


def plain_matplotlib() -> None:
    """Reset matplotlib to its defaults and to drawing into files, independent of MPLBACKEND, a ``matplotlibrc`` or earlier figures."""
    os.environ.pop("MPLBACKEND", None)  # matplotlib fails on import if it names a backend that is not installed
    if "matplotlib" not in sys.modules:
        _import_matplotlib()
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcdefaults()


def _import_matplotlib() -> None:
    """Import matplotlib without reading the user's files, since the import fails if they are not UTF-8."""
    spec = importlib.util.find_spec("matplotlib")
    assert spec and spec.origin
    own = Path(spec.origin).parent / "mpl-data"
    with contextlib.chdir(own):  # the settings in the working folder come before all others, and here they are matplotlib's own
        import matplotlib
    folder = matplotlib.get_configdir
    matplotlib.get_configdir = lambda: str(own)  # styles are read when they are first imported
    try:
        import matplotlib.style
    finally:
        matplotlib.get_configdir = folder


def panels(n: int = 1, *, width: float = COLUMN, height: float = 2.5, rows: int = 1, **options):
    """A figure with ``n`` panels in ``rows`` rows in the common style; returns the figure and a flat array of axes.

    ``width`` and ``height`` are those of a panel, in inches.
    """
    plain_matplotlib()
    import matplotlib.pyplot as plt
    import seaborn

    seaborn.set_theme(
        context="paper",
        style="ticks",
        font="DejaVu Sans",
        rc={
            "axes.grid": True,
            "grid.color": "0.9",
            "grid.linewidth": 0.6,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": "medium",
            "legend.frameon": False,
            "lines.linewidth": 1.6,
            "figure.dpi": 72,  # that of PDF and SVG, so that one layout serves all files
            "pdf.fonttype": 42,
            "svg.hashsalt": "pudle",
        },
    )
    columns = -(-n // rows)
    figure, axes = plt.subplots(
        rows, columns, figsize=(width * columns, height * rows), layout="constrained", squeeze=False, **options
    )
    return figure, axes.ravel()


def draw(figure: Figure, results) -> tuple:
    """The matplotlib figure and the plotted numbers of ``figure``.

    If it cannot be drawn, or shows nothing, because runs ended early or cells were not run, an empty figure says so, and the rest of the
    run continues. A panel without results says so, too.
    """
    ended, not_run = results.rows.quantity.isin(ENDINGS), results.not_run
    if not ended.any() and not not_run:
        return figure.draw(results)
    import matplotlib.pyplot as plt

    lacking = f"{len(not_run)} of {len(results.cells)} cells were not run" if not_run else "runs ended early"
    reason = "not run" if not len(results.rows) else "no rows: every run ended early"
    if not ended.all():
        try:
            image, plotted = figure.draw(results)
            if len(plotted):
                for axis in filter(_is_blank, image.axes):
                    axis.set_xticks([])
                    axis.text(0.5, 0.5, "no results", ha="center", va="center", fontsize=7, transform=axis.transAxes)
                return image, plotted
            reason = f"not drawn: {lacking}"
        except Exception as error:
            traceback.print_exc()  # for the log: it may be a bug
            reason = f"not drawn: {lacking} ({type(error).__name__})"
        plt.close("all")
    sheet, (axis,) = panels()
    axis.axis("off")
    sheet.text(0.5, 0.5, reason, ha="center", va="center", fontsize=7)
    return sheet, results.summary[:0]


def _is_blank(axis) -> bool:
    """Whether the axis is shown and no point, line, bar or image is on it."""
    drawn = axis.images or axis.collections or axis.patches or axis.texts
    lines = any(np.isfinite(np.asarray(line.get_ydata(), dtype=float)).any() for line in axis.lines)
    return axis.axison and not drawn and not lines


def draw_band(axis, table: pd.DataFrame, x: str = "step", **line) -> None:
    """Draw one line of means over ``x`` with its band. If seeds ended early, a cross marks the end of the line.

    In the SVG all these elements have the id of the line's label, so that the report can show and hide them (:func:`curve_id`).
    """
    table = table.sort_values(x)
    (drawn,) = axis.plot(table[x], table["mean"], **line)
    name = curve_id(drawn.get_label())
    drawn.set_gid(name)
    axis.fill_between(table[x], table.low, table.high, color=drawn.get_color(), alpha=0.2, linewidth=0, gid=name)
    if table.n_ended.max() > 0:
        axis.plot(table[x].iloc[-1], table["mean"].iloc[-1], "X", color=drawn.get_color(), markersize=7, gid=name)


def curve_id(label: str) -> str:
    """The id in the SVG of the elements of the curve with this label."""
    return f"curve-{label.replace(' ', '_')}"


def legend_below(figure, axes, columns: int) -> None:
    """Draw one legend for all panels below them."""
    handles: dict = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns)


def mosaic(images: np.ndarray, gap: int = 1) -> np.ndarray:
    """One picture of the images (n, h, w), row by row on white (1). Each image is scaled by its largest absolute value."""
    scaled = images / np.maximum(np.abs(images).max((1, 2), keepdims=True), 1e-30)
    columns = int(np.ceil(np.sqrt(len(scaled))))
    height, width = (size + gap for size in images.shape[1:])
    picture = np.ones((-(-len(scaled) // columns) * height - gap, columns * width - gap))
    for i, image in enumerate(scaled):
        top, left = i // columns * height, i % columns * width
        picture[top : top + height - gap, left : left + width - gap] = image
    return picture


def save(figure, plotted: pd.DataFrame, stem: Path, stamp: str) -> None:
    """Write ``stem``.pdf, .png, .svg and .csv, with ``stamp`` (scale and seeds) above the top right corner.

    The same input gives the same bytes.
    """
    import matplotlib.pyplot as plt

    for axis in figure.axes:
        _label_logarithms(axis.xaxis)
        _label_logarithms(axis.yaxis)
    figure.text(1.0, 1.0, stamp, ha="right", va="bottom", fontsize=5, color="0.5")
    figure.draw_without_rendering()  # computes the layout once for all three files, since this takes longer than drawing
    figure.set_layout_engine(None)
    box = figure.get_tightbbox().padded(0.1)
    stem = Path(stem)
    for suffix, options in (
        (".pdf", {"metadata": {"CreationDate": None}}),
        (".png", {"metadata": {"Software": None}, "dpi": 200}),
        (".svg", {"metadata": {"Date": None}, "dpi": 100}),
    ):
        save = partial(figure.savefig, bbox_inches=box, **options)
        files.replace(stem.with_suffix(suffix), save)
    files.replace(stem.with_suffix(".csv"), lambda path: plotted.to_csv(path, index=False))
    plt.close(figure)


def _label_logarithms(axis) -> None:
    """Label 1, 2 and 5 times each power of 10 where a logarithmic axis has one or two: more labels would run into each other."""
    import matplotlib.ticker as ticker

    low, high = sorted(axis.get_view_interval())
    if (
        axis.get_scale() == "log"
        and 10 <= high / low < 100
        and isinstance(axis.get_minor_formatter(), ticker.LogFormatterSciNotation)
    ):
        axis.set_minor_locator(ticker.LogLocator(subs=(2, 5)))
        if low > 1e-3 and high < 1e4:  # decimals are shorter
            axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        else:
            axis.set_minor_formatter(ticker.LogFormatterSciNotation(minor_thresholds=(np.inf, np.inf)))


def captions(figures: Sequence[Figure], scale: str, stamp: str) -> str:
    """The captions of an experiment's figures, in Markdown. ``stamp`` names the seeds (:attr:`pudle.analysis.tables.Results.stamp`)."""
    seeds = f"Scale: {scale}; {stamp}; bands: {statistics.BAND}."
    return "\n".join(f"## {figure.name}\n\n{figure.caption} {seeds}\n" for figure in figures)
