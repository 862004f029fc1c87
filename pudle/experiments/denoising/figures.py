"""Test quality over training, the filters, and what the denoised images look like."""

import numpy as np
import pandas as pd

from pudle.experiments.palette import lines, look
from pudle.harness import style
from pudle.harness.cells import Cell
from pudle.harness.style import Figure
from pudle.harness.tables import Results


def method(estimator: str, l1_weighting: str) -> str:
    """The name under which the palette knows a cell."""
    return "ae-lasso released" if l1_weighting == "released" else estimator


def test_psnr(results: Results):
    table = results.summary[results.summary.image == ""]
    quantities = {"psnr": "test PSNR (dB), peak 1", "psnr_as_published": "test PSNR (dB), as published"}
    figure, axes = style.panels(2, width=2.9, height=3.0)
    for axis, (quantity, label) in zip(axes, quantities.items(), strict=True):
        for look_, line in lines(table[table.quantity == quantity], method, "estimator", "l1_weighting"):
            style.draw_band(axis, line, **look_)
        noisy = table[table.quantity == f"noisy_{quantity}"]["mean"].mean()
        axis.axhline(noisy, **look("noisy"))
        axis.set(xlabel="update", ylabel=label)
    style.legend_below(figure, axes, 3)
    shown = [*quantities, *(f"noisy_{quantity}" for quantity in quantities)]
    return figure, table[table.quantity.isin(shown)]


def filters(results: Results):
    finished = [(cell, results.arrays(cell)) for cell in results.finished() if "arrays.npz" in results.told(cell)["outputs"]]
    figure, axes = style.panels(max(1, len(finished)), width=1.9, height=2.1)
    frames = []
    for axis, (cell, arrays) in zip(axes, finished, strict=False):
        key = f"filters/{cell.seeds[0]}"
        if key in arrays:
            axis.imshow(style.mosaic(_smoothest_first(arrays[key])), cmap="gray", vmin=-1, vmax=1)
            frames.append(_long(arrays[key], _name(cell)))
        axis.set_title(look(_name(cell))["label"].replace(", ", ",\n"))
        axis.axis("off")
    return figure, pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def crops(results: Results):
    """One row per test image: clean, noisy, and each method's estimate, with its PSNR over the whole image."""
    finished = [cell for cell in results.finished() if "arrays.npz" in results.told(cell)["outputs"]]
    arrays = {_name(cell): results.arrays(cell) for cell in finished}
    seed = finished[0].seeds[0]
    names = sorted(
        key.split("/")[1] for key in arrays[_name(finished[0])] if key.startswith("clean/") and key.endswith(f"/{seed}")
    )[:4]
    figure, axes = style.panels(len(names) * (len(finished) + 2), width=1.15, height=1.2, rows=len(names))
    numbers = []
    grid = axes.reshape(len(names), -1)
    for first, row, name in zip([True, *[False] * len(names)], grid, names, strict=False):
        reference = arrays[_name(finished[0])]
        shown = [
            ("clean", reference[f"clean/{name}/{seed}"], None),
            ("noisy", reference[f"noisy/{name}/{seed}"], _psnr(results, name, seed)),
        ]
        for cell in finished:
            found = arrays[_name(cell)].get(f"denoised/{name}/{seed}")
            shown.append((_name(cell), found, _psnr(results, name, seed, cell)))
        for axis, (title, image, decibel) in zip(row, shown, strict=True):
            if image is not None:
                axis.imshow(image, cmap="gray", vmin=0, vmax=1)
            label = "clean" if title == "clean" else look(title)["label"] if title != "noisy" else "noisy"
            if first:
                axis.set_title(label.replace(", ", ",\n").replace(" ℓ₁ weight", " ℓ₁"), fontsize=6.5)
            axis.text(
                0.03,
                0.03,
                "" if decibel is None else f"{decibel:.2f} dB",
                transform=axis.transAxes,
                color="white",
                fontsize=5.5,
                bbox={"facecolor": "black", "alpha": 0.6, "pad": 1, "linewidth": 0},
            )
            axis.axis("off")
            numbers.append({"image": name, "method": title, "seed": seed, "psnr": decibel})
    return figure, pd.DataFrame(numbers)


def _name(cell: Cell) -> str:
    return method(cell.settings["estimator"], cell.settings.get("l1_weighting", ""))


def _psnr(results: Results, image: str, seed: int, cell: Cell | None = None) -> float | None:
    rows = results.rows
    chosen = rows[(rows.image == image) & (rows.seed == seed) & (rows.quantity == ("psnr" if cell else "noisy_psnr"))]
    if cell:
        for key in cell.varies:
            chosen = chosen[chosen[key] == cell.settings.get(key, "")]
    return float(chosen.sort_values("step").value.iloc[-1]) if len(chosen) else None


def _smoothest_first(filters: np.ndarray) -> np.ndarray:
    """Filters (p, k, k) in the order of their total variation."""
    return filters[np.argsort(np.abs(np.diff(filters, axis=1)).sum((1, 2)) + np.abs(np.diff(filters, axis=2)).sum((1, 2)))]


def _long(filters: np.ndarray, name: str) -> pd.DataFrame:
    index = np.indices(filters.shape).reshape(3, -1)
    return pd.DataFrame({"method": name, "filter": index[0], "row": index[1], "column": index[2], "value": filters.ravel()})


FIGURES = (
    Figure(
        "test_psnr",
        "PSNR on the test images over updates, mean over images; left with peak 1, right with the paper's peak.",
        test_psnr,
    ),
    Figure(
        "filters", "Learned filters of the first seed, the smoothest first, each scaled to its largest absolute value.", filters
    ),
    Figure(
        "crops",
        "The centre of test images: clean, noisy and denoised (first seed), with the PSNR (peak 1) of the whole image.",
        crops,
    ),
)
