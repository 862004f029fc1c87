"""Figures of the filters and of denoised images. Pictures show the first seed."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

import pudle.experiments.denoising.selection as selection
from pudle.analysis import style
from pudle.analysis.figure import Figure
from pudle.analysis.tables import Results
from pudle.experiments.denoising.pictures import GALLERY, centre
from pudle.harness.reference_files import as_picture

ZOOM = 32  # pixels of an inset; pictures have one if they are more than three times as large
COLUMNS = 6
SMALL = 32  # pixels of a picture in reference results


def small_arrays(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a cell that reference results keep: the filters, unchanged, and the centres of pictures of the first data set."""
    sets = [_parts(key)[1] for key in arrays if not isinstance(_parts(key), str)]
    return {
        key: value if isinstance(_parts(key), str) else as_picture(value, SMALL)
        for key, value in arrays.items()
        if isinstance(_parts(key), str) or _parts(key)[1] == sets[0]
    }


def filters(results: Results):
    shown = [(name, arrays) for name, arrays in _shown(results).items() if "filters" in arrays]
    figure, axes = style.panels(max(1, len(shown)), width=1.5, height=1.7, rows=max(1, -(-len(shown) // COLUMNS)))
    frames = []
    for axis, (name, arrays) in _fill(axes, shown):
        axis.imshow(style.mosaic(_smoothest_first(arrays["filters"])), cmap="gray", vmin=-1, vmax=1)
        axis.set_title(name, fontsize=7)
        frames.append(_long(arrays["filters"], name))
    return figure, pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def crops(results: Results):
    """The first images of the first data set, clean, noisy, and as estimated by each method."""
    shown = _shown(results)
    data_set, reference = selection.first_name(results.rows), next(iter(shown.values()), {})
    names = sorted(key[2] for key in reference if key[:2] == ("clean", data_set))[:GALLERY]
    quality = _quality(results)
    blocks = []
    for name in names:
        pictures = [("clean", name, reference["clean", data_set, name], None)]
        pictures += [("noisy input", name, reference["noisy", data_set, name], quality[data_set, name, "noisy input"])]
        for method, arrays in shown.items():
            if ("denoised", data_set, name) in arrays and method != "noisy":
                pictures.append((method, name, arrays["denoised", data_set, name], quality[data_set, name, method]))
        blocks.append(pictures)
    return _image_grid(blocks)


def worst_and_best(results: Results):
    """For each method the image of the first data set with the lowest and with the highest PSNR."""
    data_set, quality, pictures = selection.first_name(results.rows), _quality(results), []
    for method, arrays in _shown(results).items():
        there = {key[2]: quality[data_set, key[2], method] for key in arrays if key[:2] == ("denoised", data_set)}
        for word, pick in (("worst", min), ("best", max)):
            if there:
                name = pick(there, key=there.get)
                pictures.append((f"{method}\n{word}", name, arrays["denoised", data_set, name], there[name]))
    return _image_grid([pictures])


def _image_grid(blocks: list[list[tuple[str, str, np.ndarray, float | None]]]):
    """A figure of pictures (title, image, array, PSNR), large ones with their centre enlarged in a corner; each block begins a new row.

    Pictures of a block show the centre that all of them have: reference results may hold more of an image for one method than for another.
    """
    blocks = [_same_centre(block) for block in blocks]
    filled = [[*block, *[None] * (-len(block) % COLUMNS)] for block in blocks]
    pictures = [picture for block in filled for picture in block]
    figure, axes = style.panels(max(1, len(pictures)), width=1.15, height=1.4, rows=max(1, len(pictures) // COLUMNS))
    for axis, (title, _, image, decibel) in ((axis, picture) for axis, picture in _fill(axes, pictures) if picture):
        axis.imshow(image, cmap="gray", vmin=0, vmax=1)
        axis.set_title(title, fontsize=5.5, pad=2)
        if min(image.shape) > 3 * ZOOM:
            inset = axis.inset_axes([0.58, 0.58, 0.42, 0.42])
            inset.imshow(centre(image, ZOOM, ZOOM), cmap="gray", vmin=0, vmax=1)
            inset.set(xticks=[], yticks=[])
            for spine in inset.spines.values():
                spine.set(visible=True, color="white", linewidth=0.8)
        if decibel is not None:
            box = {"facecolor": "black", "alpha": 0.6, "pad": 1, "linewidth": 0}
            axis.text(0.03, 0.03, f"{decibel:.2f} dB", transform=axis.transAxes, color="white", fontsize=5.5, bbox=box)
    numbers = [
        {"title": title.replace("\n", ", "), "image": name, "psnr": decibel}
        for title, name, _, decibel in filter(None, pictures)
    ]
    return figure, pd.DataFrame(numbers)


def _same_centre(block: list[tuple[str, str, np.ndarray, float | None]]):
    """The pictures of a block, each with the centre of its array of the smallest height and width in the block."""
    height, width = (min((image.shape[side] for _, _, image, _ in block), default=0) for side in (0, 1))
    return [(title, name, centre(image, height, width), decibel) for title, name, image, decibel in block]


def _fill(axes, shown: Iterable):
    """Pairs of a panel and its content; the remaining panels stay empty."""
    for axis in axes:
        axis.axis("off")
        axis.set(xticks=[], yticks=[])  # otherwise matplotlib lays out invisible ticks
    return zip(axes, shown, strict=False)


def _shown(results: Results) -> dict[str, Mapping]:
    """The arrays of the first seed of each finished cell at the main noise level and λ: method → parts of the key → array."""
    sigma, lam = (find(selection.columns(results.rows)) for find in (selection.main_sigma, selection.main_lam))
    shown = {}
    for cell in results.finished():
        settings = pd.Series({key: cell.settings.get(key, "") for key in selection.VARIES})
        if (
            settings.sigma == sigma
            and (settings.lam in ("", lam) or settings.variant)
            and "arrays.npz" in results.record(cell)["outputs"]
        ):
            shown[selection.name(settings)] = {
                _parts(key): value for key, value in results.arrays(cell).items() if key.endswith(f"/{cell.seeds[0]}")
            }
    return shown


def _parts(key: str):
    """``kind/data set/image/seed`` as (kind, data set, image), and ``filters/seed`` as "filters"; names of data sets may contain a /."""
    kind, *middle = key.split("/")[:-1]
    return (kind, "/".join(middle[:-1]), middle[-1]) if middle else kind


def _quality(results: Results) -> dict[tuple[str, str, str], float]:
    """The PSNR of the first seed at the main noise level and λ, by (data set, image, method)."""
    rows = selection.columns(results.rows)
    rows = rows[(rows.seed == results.cells[0].seeds[0]) & (rows.sigma == selection.main_sigma(rows)) & (rows.image != "")]
    rows = rows[rows.lam.isna() | (rows.lam == selection.main_lam(selection.columns(results.rows))) | (rows.variant != "")]
    found = {(row.data_set, row.image, selection.name(row)): row.value for row in selection.last(rows, "psnr").itertuples()}
    return found | {
        (row.data_set, row.image, "noisy input"): row.value for row in selection.last(rows, "noisy_psnr").itertuples()
    }


def _smoothest_first(filters: np.ndarray) -> np.ndarray:
    """Filters (p, k, k) in the order of their total variation."""
    return filters[np.argsort(np.abs(np.diff(filters, axis=1)).sum((1, 2)) + np.abs(np.diff(filters, axis=2)).sum((1, 2)))]


def _long(filters: np.ndarray, name: str) -> pd.DataFrame:
    index = np.indices(filters.shape).reshape(3, -1)
    return pd.DataFrame({"method": name, "filter": index[0], "row": index[1], "column": index[2], "value": filters.ravel()})


FIGURES = (
    Figure(
        "filters",
        "Learned filters of the first seed in order of total variation, the smoothest first. Each is scaled to its largest absolute value.",
        filters,
    ),
    Figure(
        "crops",
        "Centres of test images, clean, noisy and denoised (first seed). Insets enlarge the middle of large pictures; PSNR (peak 1) is that of "
        "the entire image.",
        crops,
    ),
    Figure(
        "worst_and_best",
        "For each method, the test images with the lowest and the highest PSNR (first seed). Pictures show the centre; insets enlarge "
        "the middle of large pictures.",
        worst_and_best,
    ),
)
