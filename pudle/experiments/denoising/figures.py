"""Test quality over training, λ and noise; methods against each other, image by image. The pictures themselves: galleries.py."""

import numpy as np
import pandas as pd

import pudle.experiments.denoising.galleries as galleries
import pudle.experiments.denoising.slices as slices
from pudle.analysis import published, style
from pudle.analysis.figure import Figure
from pudle.analysis.statistics import holm, t_interval, t_test
from pudle.analysis.tables import Results
from pudle.experiments._shared.palette import lines, look

QUANTITIES = {"psnr": "test PSNR (dB), peak 1", "psnr_as_published": "test PSNR (dB), as published"}


def test_psnr(results: Results):
    table = _means(results)
    table = slices.in_proportion(table[table.sigma == slices.main_sigma(table)])
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
    """Above: a panel for each soft λ at the main noise; below: for each hard threshold."""
    table = _means(results)
    table = table[(table.sigma == slices.main_sigma(table)) & (table.quantity == "psnr_as_published")]
    hard = table[(table.variant == "") & table.threshold.notna()]
    panels = [
        [(f"{symbol} = {level:g}", line) for level, line in part.groupby(key)]
        for symbol, key, part in (("λ", "lam", slices.soft(table)), ("hard, b", "threshold", hard))
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
    return figure, pd.concat([slices.soft(table), hard, *drawn], ignore_index=True)


def _line(axis, results: Results, line: pd.DataFrame, look_: dict[str, str]) -> pd.DataFrame:
    """Draw a line of means, and the published curve beside it; returns what was drawn of that one."""
    style.draw_band(axis, line, **look_)
    return published.draw(axis, results, results.summary.loc[line.index], look_)  # which has σ and λ as they were set


def psnr_over_lam(results: Results):
    """Left: soft thresholds, each gradient; right: hard ones."""
    table = _ends(_means(results))
    table = table[table.sigma == slices.main_sigma(table)]
    figure, axes = style.panels(2, width=2.9, height=3.0, sharey=True)
    for look_, line in lines(slices.soft(table), str, "estimator"):
        style.draw_band(axes[0], line, x="lam", marker="o", markersize=3.5, **look_)
    hard = table[(table.estimator == "ae-ls") & table.threshold.notna()]
    if len(hard):
        style.draw_band(axes[1], hard, x="threshold", marker="o", markersize=3.5, **look("ae-ls"))
    soft = slices.soft(table)
    if (of_ae_ls := soft.estimator == "ae-ls").any():
        axes[1].axhline(soft["mean"][of_ae_ls].max(), **look("ae-ls") | {"linestyle": ":", "label": "ae-ls, best λ"})
    axes[0].set(xlabel="sparsity level λ", ylabel="test PSNR (dB), peak 1")
    axes[1].set(xlabel="hard threshold b")
    style.legend_below(figure, axes, 3)
    return figure, pd.concat([slices.soft(table), hard])


def psnr_over_sigma(results: Results):
    """A panel for each data set."""
    table = _ends(_means(results, first=False))
    shown = pd.concat([slices.in_proportion(table), table[table.denoiser_name != ""]])
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
    """The table of methods, soft thresholds at the λ that belongs to the noise.

    For each data set, noise and method: the mean PSNR with its interval over images (each the mean over seeds), and how far it is from
    the best method, paired by image, with the p of a t-test and after Holm's correction.
    """
    rows = slices.columns(results.rows)
    counts = rows[rows.quantity == "n_images"].groupby("data_set").value.first()
    table = slices.last(rows[rows.image != ""], "psnr")
    table = table[~table.index.isin(slices.soft(table).index) | table.index.isin(slices.in_proportion(table).index)]
    table = table.assign(method=[slices.name(row) for row in table.itertuples()])
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
    here = slices.first_set(table)
    here = here[here.sigma == slices.main_sigma(slices.columns(results.rows))].iloc[::-1]
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
    """ae-ls against dec, a point for each image."""
    table = slices.last(slices.in_proportion(slices.columns(results.rows)), "psnr")
    wide = table[table.image != ""].pivot_table(index=["data_set", "sigma", "image"], columns="estimator", values="value")
    wide = wide.reindex(columns=["dec", "ae-ls"]).dropna().reset_index()  # empty unless both were run
    figure, (axis,) = style.panels(1, width=3.6, height=3.4)
    for (data_set, sigma), group in wide.groupby(["data_set", "sigma"], sort=False):
        axis.scatter(group["dec"], group["ae-ls"], s=14, label=f"{data_set}, σ = {sigma:g}", alpha=0.8, linewidth=0)
    if len(wide):
        ends = np.quantile(wide[["dec", "ae-ls"]], [0, 1])
        axis.plot(ends, ends, color="0.6", linewidth=0.8)
    axis.set(xlabel="PSNR of dec (dB)", ylabel="PSNR of ae-ls (dB)")
    style.legend_below(figure, [axis], 2)
    return figure, wide


def _means(results: Results, *, first: bool = True) -> pd.DataFrame:
    """Means over images with their bands over seeds, on the first data set or on all of them."""
    table = slices.columns(results.summary)
    if first:
        table = table[table.data_set == slices.first_name(results.rows)]
    return table[table.image == ""]


def _ends(table: pd.DataFrame) -> pd.DataFrame:
    """PSNR (peak 1) after the last update of each cell."""
    table = table[table.quantity == "psnr"]
    cells = ["data_set", *(key for key in slices.VARIES if key in table)]
    return table.sort_values("step").groupby(cells, dropna=False, sort=False).tail(1)


def _cited(data_set: str) -> pd.DataFrame:
    """Published PSNR (peak 1, σ = 25) of methods that are cited and not run; they hold for BSD68 alone."""
    table = published.values()
    table = table[(table.group == "denoising-cited") & (data_set == "bsd68")]
    return table.assign(
        name=table.id.str.removeprefix("denoising-cited-") + " (cited, not run)", published=table.published.astype(float)
    )


FIGURES = (
    Figure(
        "test_psnr",
        "PSNR on the test images over updates, mean over images; left with peak 1, right with the paper's "
        "peak and estimates clamped to [0, 1]. Main σ and λ. " + published.CAPTION,
        test_psnr,
        paper="ae-ls learns filters that denoise better than those of dec; ae-lasso fails to.",
    ),
    Figure(
        "curves",
        "PSNR as published over updates at the main noise: above for each λ, below for each hard threshold b. "
        + published.CAPTION,
        curves,
        paper="ae-ls ends above dec at every λ, and hard thresholds come close.",
    ),
    Figure(
        "psnr_over_lam",
        "PSNR after the last update against λ, for each gradient, and against the hard threshold.",
        psnr_over_lam,
        paper="The best λ is neither the smallest nor the largest, and ae-ls is ahead of dec at each.",
    ),
    Figure(
        "psnr_over_sigma",
        "PSNR against the noise: dec and ae-ls, trained for each noise with λ in proportion to it, and denoisers of other kinds.",
        psnr_over_sigma,
    ),
    Figure(
        "methods",
        "All methods on the first data set, the best on top. Left: mean PSNR with its 95 % Student-t interval over images; right: "
        "difference to the best method, paired by image (each the mean over seeds). No estimate "
        "is clamped to [0, 1]. The CSV has every data set and noise, p-values (Holm) "
        "and the number of images read.",
        methods,
    ),
    Figure("per_image", "PSNR of ae-ls against that of dec, a point for each test image (mean over seeds).", per_image),
    *galleries.FIGURES,
)
