"""Figures of the quality on test images over training, λ and noise, and of methods compared image by image; pictures are in galleries.py."""

import numpy as np
import pandas as pd

import pudle.experiments.denoising.galleries as galleries
import pudle.experiments.denoising.selection as selection
from pudle.analysis import comparison, style
from pudle.analysis.figure import Figure
from pudle.analysis.statistics import holm, t_interval, t_test
from pudle.analysis.tables import Results
from pudle.experiments._shared.palette import lines, look

QUANTITIES = {"psnr": "test PSNR (dB), peak 1", "psnr_as_published": "test PSNR (dB), as published"}


def test_psnr(results: Results):
    table = _means(results)
    table = selection.in_proportion(table[table.sigma == selection.main_sigma(table)])
    figure, axes = style.panels(2, width=2.9, height=3.0)
    drawn = []
    for axis, (quantity, label) in zip(axes, QUANTITIES.items(), strict=True):
        for look_, line in lines(table[table.quantity == quantity], str, "estimator"):
            drawn.append(_line(axis, results, line, look_))
        axis.axhline(table[table.quantity == f"noisy_{quantity}"]["mean"].mean(), **look("noisy"))
        axis.set(xlabel="update", ylabel=label)
    style.legend_below(figure, axes, 3)
    shown = table[table.quantity.isin([*QUANTITIES, *(f"noisy_{quantity}" for quantity in QUANTITIES)])]
    return figure, pd.concat([shown, *drawn], ignore_index=True)


def curves(results: Results):
    """One panel for each λ at the main noise level (top) and for each hard threshold (bottom)."""
    table = _means(results)
    table = table[(table.sigma == selection.main_sigma(table)) & (table.quantity == "psnr_as_published")]
    hard = table[(table.variant == "") & table.threshold.notna()]
    panels = [
        [(f"{symbol} = {level:g}", line) for level, line in part.groupby(key)]
        for symbol, key, part in (("λ", "lam", selection.soft(table)), ("hard, b", "threshold", hard))
    ]
    panels = [part for part in panels if part] or panels[:1]  # no row is left empty
    columns = max(map(len, panels))
    size = {"width": max(1.9, 3.5 / columns), "height": max(2.0, 3.0 / len(panels))}  # room for the label of both rows
    figure, axes = style.panels(len(panels) * columns, rows=len(panels), sharey=True, **size)
    drawn = []
    for row, part in zip(axes.reshape(len(panels), columns), panels, strict=True):
        for axis, (title, panel) in zip(row, part, strict=False):
            for look_, line in lines(panel, str, "estimator"):
                drawn.append(_line(axis, results, line, look_))
            axis.set_title(title)
        for axis in row[len(part) :]:
            axis.axis("off")
    for axis in axes:
        axis.locator_params(axis="x", nbins=3)
        axis.set_xlabel("update")
    figure.supylabel(QUANTITIES["psnr_as_published"], fontsize="medium")
    style.legend_below(figure, axes, 3)
    return figure, pd.concat([selection.soft(table), hard, *drawn], ignore_index=True)


def _line(axis, results: Results, line: pd.DataFrame, look_: dict[str, str]) -> pd.DataFrame:
    """Draw a line of means and the published curve; returns the drawn part of the published curve."""
    style.draw_band(axis, line, **look_)
    return comparison.draw(axis, results, results.summary.loc[line.index], look_)  # the summary has σ and λ as configured


def psnr_over_lam(results: Results):
    """Soft thresholds with each gradient (left) and hard thresholds (right)."""
    table = _ends(_means(results))
    table = table[table.sigma == selection.main_sigma(table)]
    figure, axes = style.panels(2, width=2.9, height=3.0, sharey=True)
    for look_, line in lines(selection.soft(table), str, "estimator"):
        style.draw_band(axes[0], line, x="lam", marker="o", markersize=3.5, **look_)
    hard = table[(table.estimator == "ae-ls") & table.threshold.notna()]
    soft = selection.soft(table)
    if len(hard):
        style.draw_band(axes[1], hard, x="threshold", marker="o", markersize=3.5, **look("ae-ls"))
        if (of_ae_ls := soft.estimator == "ae-ls").any():
            axes[1].axhline(soft["mean"][of_ae_ls].max(), **look("ae-ls") | {"linestyle": ":", "label": "ae-ls, best λ"})
    axes[0].set(xlabel="sparsity level λ", ylabel="test PSNR (dB), peak 1")
    axes[1].set(xlabel="hard threshold b")
    style.legend_below(figure, axes, 3)
    return figure, pd.concat([soft, hard])


def psnr_over_sigma(results: Results):
    """One panel for each data set."""
    table = _ends(_means(results, first=False))
    shown = pd.concat([selection.in_proportion(table), table[table.denoiser_name != ""]])
    shown = shown[shown.estimator != "ae-lasso"]
    sets = list(shown.data_set.unique())
    figure, axes = style.panels(len(sets), width=3.6, height=3.4)
    for axis, data_set in zip(axes, sets, strict=True):
        for look_, line in lines(shown[shown.data_set == data_set], lambda *of: of[0] or of[1], "denoiser_name", "estimator"):
            style.draw_band(axis, line, x="sigma", marker="o", markersize=3, **look_)
        for cited, marker in zip(_cited(data_set).itertuples(), "sD^", strict=False):
            axis.plot(25, cited.published, marker, color="black", mfc="none", markersize=4, label=cited.name)
        axis.set(xlabel="noise σ (of 255)", ylabel="test PSNR (dB), peak 1", title=data_set)
    style.legend_below(figure, axes, 3)
    return figure, shown


def compared(results: Results) -> pd.DataFrame:
    """The table of all methods; soft thresholds are compared at the λ that is in proportion to the noise.

    For each data set, noise level and method it has the mean PSNR with its interval over images (each image is averaged over seeds), and the
    difference to the best method, paired by image, with the p-value of a t-test before and after Holm's correction.
    """
    rows = selection.columns(results.rows)
    counts = rows[rows.quantity == "n_images"].groupby("data_set").value.first()
    table = selection.last(rows[rows.image != ""], "psnr")
    table = table[~table.index.isin(selection.soft(table).index) | table.index.isin(selection.in_proportion(table).index)]
    table = table.assign(method=[selection.name(row) for row in table.itertuples()])
    frames = []
    for (data_set, sigma), group in table.groupby(["data_set", "sigma"], sort=False):
        by_image = group.pivot_table(index="image", columns="method", values="value")
        best = by_image.mean().idxmax()
        rows = []
        for column in by_image.mean().sort_values(ascending=False).index:
            values, behind = by_image[column].dropna(), (by_image[column] - by_image[best]).dropna()
            mean, apart = t_interval(values), t_interval(behind)
            n_seeds = group[group.method == column].seed.nunique()
            rows.append(
                {
                    "data_set": data_set,
                    "sigma": sigma,
                    "method": column,
                    "n_images": len(values),
                    "n_images_read": int(counts[data_set]),
                }
                | {"n_seeds": n_seeds, "psnr": mean.mean, "low": mean.low, "high": mean.high, "best": best}
                | {
                    "difference": apart.mean,
                    "difference_low": apart.low,
                    "difference_high": apart.high,
                    "p": t_test(behind.to_numpy(), 0),
                }
            )
        frame = pd.DataFrame(rows)
        frames.append(frame.assign(p_holm=holm(frame.p.to_numpy())))
    return pd.concat(frames, ignore_index=True)


def methods(results: Results):
    table = compared(results)
    here = selection.first_set(table)
    here = here[here.sigma == selection.main_sigma(selection.columns(results.rows))].iloc[::-1]
    places = np.arange(len(here))
    figure, axes = style.panels(2, width=3.0, height=max(1.6, 0.8 + 0.2 * len(here)), sharey=True)
    for axis, (value, low, high) in zip(
        axes, (("psnr", "low", "high"), ("difference", "difference_low", "difference_high")), strict=True
    ):
        spread = [(here[value] - here[low]).fillna(0), (here[high] - here[value]).fillna(0)]
        axis.errorbar(here[value], places, xerr=spread, fmt="o", color="black", markersize=3.5, linewidth=1)
        axis.set_yticks(places, here.method)
    for cited, line in zip(_cited(here.data_set.iloc[0]).itertuples(), ("--", ":", "-."), strict=False):
        axes[0].axvline(cited.published, color="0.3", linewidth=0.9, linestyle=line, label=cited.name)
    axes[0].set(xlabel="test PSNR (dB), peak 1", title=f"{here.data_set.iloc[0]}, σ = {here.sigma.iloc[0]:g}")
    axes[1].set(xlabel="difference to the best (dB)")
    style.legend_below(figure, axes, 3)
    return figure, table


def per_image(results: Results):
    """PSNR of ae-ls against that of dec, one point for each image."""
    table = _ends(selection.in_proportion(selection.columns(results.summary)))
    paired = table[table.image != ""].pivot_table(index=["data_set", "sigma", "image"], columns="estimator", values="mean")
    paired = paired.reindex(columns=["dec", "ae-ls"]).dropna().reset_index()  # empty unless both were run
    figure, (axis,) = style.panels(1, width=3.6, height=3.4)
    for (data_set, sigma), group in paired.groupby(["data_set", "sigma"], sort=False):
        axis.scatter(group["dec"], group["ae-ls"], s=14, label=f"{data_set}, σ = {sigma:g}", alpha=0.8, linewidth=0)
    if len(paired):
        ends = np.quantile(paired[["dec", "ae-ls"]], [0, 1])
        axis.plot(ends, ends, color="0.6", linewidth=0.8)
    axis.set(xlabel="PSNR of dec (dB)", ylabel="PSNR of ae-ls (dB)")
    style.legend_below(figure, [axis], 2)
    return figure, paired


def _means(results: Results, *, first: bool = True) -> pd.DataFrame:
    """Means over images with their intervals over seeds, on the first data set or on all data sets."""
    table = selection.columns(results.summary)
    if first:
        table = table[table.data_set == selection.first_name(results.rows)]
    return table[table.image == ""]


def _ends(table: pd.DataFrame) -> pd.DataFrame:
    """PSNR (peak 1) after the last update of each cell, for each image and for the mean over images."""
    table = table[table.quantity == "psnr"]
    points = ["data_set", "image", *(key for key in selection.VARIES if key in table)]
    return table.sort_values("step").groupby(points, dropna=False, sort=False).tail(1)


def _cited(data_set: str) -> pd.DataFrame:
    """Published PSNR (peak 1, σ = 25, BSD68 only) of methods that are cited and not run."""
    table = comparison.values()
    table = table[(table.group == "denoising-cited") & (data_set == "bsd68")]
    return table.assign(
        name=table.id.str.removeprefix("denoising-cited-") + " (cited, not run)", published=table.published.astype(float)
    )


FIGURES = (
    Figure(
        "test_psnr",
        "PSNR on the test images over updates, averaged over images, at the main σ and λ. Left: peak 1. Right: the paper's peak, "
        "with estimates clamped to [0, 1]. " + comparison.CAPTION,
        test_psnr,
        paper="ae-ls learns filters that denoise better than those of dec; ae-lasso fails to learn filters that denoise.",
    ),
    Figure(
        "curves",
        "PSNR, computed as in the paper, over updates at the main noise level. Top: each λ. Bottom: each hard threshold b. "
        + comparison.CAPTION,
        curves,
        paper="At every λ the final PSNR of ae-ls is above that of dec, and hard thresholds come close.",
    ),
    Figure(
        "psnr_over_lam",
        "PSNR after the last update against λ for each gradient (left) and against the hard threshold for ae-ls (right).",
        psnr_over_lam,
        paper="The best λ lies between the smallest and the largest, and ae-ls is better than dec at each λ.",
    ),
    Figure(
        "psnr_over_sigma",
        "PSNR against the noise level σ for dec and ae-ls, trained at each σ with λ in proportion to it, and for other denoisers.",
        psnr_over_sigma,
    ),
    Figure(
        "methods",
        "All methods on the first data set, with the best at the top. Left: mean PSNR with its 95 % Student-t interval over images. Right: "
        "difference to the best method, paired by image. Each image is averaged over seeds. Estimates are not clamped to [0, 1]. The CSV "
        "file has all data sets and noise levels, p-values (Holm) and the number of images read.",
        methods,
    ),
    Figure("per_image", "PSNR of ae-ls against that of dec, with one point for each test image (mean over seeds).", per_image),
    *galleries.FIGURES,
)
