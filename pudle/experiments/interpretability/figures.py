"""Figures of the dictionary, of the images that contribute to atoms and outputs, of their weights, and of the relation over training."""

import numpy as np
import pandas as pd

from pudle.analysis import style
from pudle.analysis.figure import Figure
from pudle.analysis.tables import Results
from pudle.harness.reference_files import as_picture

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # Okabe & Ito; one for each cell
GUESSES = {
    "raw": "largest β",
    "normalised": "largest β,\nnormalised codes",
    "similarity": "most similar\ncodes",
    "shuffled": "largest β,\nshuffled codes",
}


def small_arrays(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a cell that reference results keep: images and atoms at the precision of pictures, all others unchanged."""
    return {key: as_picture(value) if value.ndim > 2 else value for key, value in arrays.items()}


def _pictures(results: Results) -> tuple[dict[str, np.ndarray], int, str]:
    """The arrays of the first seed of the first cell that has any, that seed, and the cell's label."""
    for cell in results.finished():
        if "arrays.npz" in results.record(cell)["outputs"]:
            arrays = results.arrays(cell)
            seed = min(int(name.rsplit("/", 1)[1]) for name in arrays)
            kept = {name.rsplit("/", 1)[0]: value for name, value in arrays.items() if name.endswith(f"/{seed}")}
            return kept, seed, f"{cell.settings['estimator']}, T = {cell.settings['n_layers']}"
    return {}, 0, "no run ended well"


def _cells(table: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """The colour, label and rows of each cell."""
    groups = table.groupby(["estimator", "n_layers", "data_set"])
    of = "" if table.data_set.nunique() < 2 else ", {}"
    return [
        (colour, f"{name}, $T = {n}$" + of.format(data_set), rows)
        for colour, ((name, n, data_set), rows) in zip(COLOURS, groups, strict=False)
    ]


def _lines(quantity: str, x_label: str, y_label: str, mark: tuple[float, str] | None = None, bottom: float | None = None):
    def draw(results: Results):
        table = results.summary[results.summary.quantity == quantity]
        figure, (axis,) = style.panels()
        for colour, name, line in _cells(table):
            style.draw_band(axis, line, label=name, color=colour)
        if mark:
            axis.axhline(mark[0], color="0.4", linestyle=":", label=mark[1])
        axis.set(yscale="log", xlabel=x_label, ylabel=y_label)
        axis.set_ylim(bottom, 2 * table["mean"].max() if bottom else None)
        axis.legend()
        return figure, table

    return draw


def dictionary(results: Results):
    arrays, seed, name = _pictures(results)
    figure, axes = style.panels(2, width=2.9, height=2.9)
    if not arrays:
        return figure, pd.DataFrame({"note": [name]})
    order = np.argsort(-arrays["usage"])
    used = order[arrays["usage"][order] > 0]
    shown = used[:144] if len(used) else order[:1]
    _show(axes[0], style.mosaic(arrays["dictionary"][shown]), f"{len(used)} of {len(order)} atoms are used ({name})")
    axes[1].bar(np.arange(1, len(order) + 1), arrays["usage"][order], width=1.0, color=COLOURS[0], linewidth=0)
    axes[1].set(xlabel="atom, by use", ylabel=r"mean of its codes $z_i$")
    return figure, pd.DataFrame(
        {"rank": np.arange(1, len(order) + 1), "atom": order, "usage": arrays["usage"][order], "seed": seed}
    )


def atoms(results: Results):
    arrays, seed, name = _pictures(results)
    chosen = arrays.get("atom/atoms", np.empty(0, int))
    heads = {0: "learned", 1: "estimate", 4.3: "contribute most", 9.6: "contribute least"}
    figure, axis = _table(len(chosen), 12.6, heads if len(chosen) else {})
    numbers = []
    for row, atom in enumerate(chosen):
        _tile(axis, row, 0, arrays["dictionary"][atom], f"atom {atom}")
        _tile(axis, row, 1, arrays["atom/estimates"][row], "")
        for column, place, image, weight, _ in _contributors(arrays, "atom", row):
            _tile(axis, row, 2.3 + column, image, f"{weight:+#.2g}")
            numbers.append({"atom": atom, "place": place, "contribution": weight, "seed": seed})
    return figure, pd.DataFrame(numbers or [{"note": name}])


def outputs(results: Results):
    arrays, seed, name = _pictures(results)
    classes = arrays.get("output/labels", np.empty(0, int))
    heads = {
        0: "image",
        1: r"$D z$",
        2: "estimate",
        5.3: "contribute most",
        10.6: "contribute least",
        15.9: "most similar codes",
    }
    figure, axis = _table(len(classes), 18.9, heads if len(classes) else {})
    numbers = []
    for row, label in enumerate(classes):
        _tile(axis, row, 0, arrays["output/new"][row], f"a {label}")
        _tile(axis, row, 1, arrays["output/outputs"][row], "")
        _tile(axis, row, 2, arrays["output/estimates"][row], "")
        for kind, first, text in (("beta", 3.3, "{:+#.2g}"), ("similarity", 13.9, "{:.2f}")):
            for column, place, image, weight, of in _contributors(arrays, f"output/{kind}", row):
                _tile(axis, row, first + column, image, text.format(weight), "black" if of == label else "#D55E00")
                numbers.append({"class": label, "by": kind, "place": place, "weight": weight, "class_found": of, "seed": seed})
    return figure, pd.DataFrame(numbers or [{"note": name}])


def _contributors(arrays: dict, name: str, row: int):
    """(column, place, image, weight, class) of the images that contribute most, places 1 to 5, and after a gap least, places -5 to -1."""
    found = (arrays[f"{name}/{what}"][row] for what in ("images", "weights", "labels"))
    for rank, picture in enumerate(zip(*found, strict=True)):
        yield (rank, rank + 1, *picture) if rank < 5 else (rank + 0.3, rank - 10, *picture)


def similarity(results: Results):
    """One panel for each class of test images."""
    arrays, seed, name = _pictures(results)
    classes = arrays.get("histogram/classes", np.zeros(1, int))
    counts = arrays.get("histogram/counts_by_class", np.ones((1, 2, 1), int))
    edges = np.linspace(0, 1, counts.shape[2] + 1)
    shares = counts / np.maximum(counts.sum(2, keepdims=True), 1)
    figure, axes = style.panels(len(classes), width=1.7, height=2.2, sharey=True)
    looks = (("same", "the same class", COLOURS[0], True), ("another", "other classes", COLOURS[1], False))
    frames = []
    for axis, label, both, of in zip(axes, classes, shares, counts, strict=True):
        for (word, words, colour, fill), share, count in zip(looks, both, of, strict=True):
            axis.stairs(share, edges, color=colour, fill=fill, alpha=0.5 if fill else 1, linewidth=1.4, label=words)
            bins = {"low": edges[:-1], "high": edges[1:], "pairs": count, "share": share}
            frames.append(pd.DataFrame({"class": label, "of": word, **bins, "seed": seed}))
        axis.set(title=f"test images of a {label}", xlim=(0, 1), xlabel="cosine of the codes")
    axes[0].set_ylabel(f"share of pairs\n({name})")
    figure.get_layout_engine().set(w_pad=0.06)
    style.legend_below(figure, axes, 2)
    return figure, pd.concat(frames, ignore_index=True)


def histogram(results: Results):
    arrays, seed, name = _pictures(results)
    figure, (axis,) = style.panels()
    counts, edges = arrays.get("histogram/counts", np.zeros(1, int)), arrays.get("histogram/edges", np.arange(2))
    merged = counts[: len(counts) // 20 * 20].reshape(-1, 20).sum(1) if len(counts) > 20 else counts
    places = np.linspace(edges[0], edges[-1], len(merged) + 1)
    axis.stairs(np.maximum(merged, 0.5), places, fill=True, color=COLOURS[0], baseline=0.5)
    axis.locator_params(axis="x", nbins=5)
    axis.set(
        yscale="log", xlabel=r"contribution $\beta_k$ of a training image to an output", ylabel=f"pairs of images ({name})"
    )
    return figure, pd.DataFrame({"low": places[:-1], "high": places[1:], "count": merged, "seed": seed})


def matrices(results: Results):
    arrays, seed, name = _pictures(results)
    figure, axes = style.panels(2, width=3.0, height=2.9)
    codes, labels = arrays.get("sorted/codes", np.zeros((1, 1))), arrays.get("sorted/labels", np.zeros(1, int))
    gram = codes @ codes.T
    starts = [int(np.argmax(labels == label)) for label in np.unique(labels)]
    shown = ((codes, f"codes $Z$ ({name})", "atom"), (gram, "$Z Z^T$", "training image, by class"))
    for axis, (matrix, title, x_label) in zip(axes, shown, strict=True):
        image = axis.imshow(
            matrix, aspect="auto", cmap="magma_r", vmin=0, vmax=np.quantile(matrix, 0.99) or 1, interpolation="nearest"
        )
        axis.set(title=title, xlabel=x_label, yticks=starts, yticklabels=np.unique(labels))
        axis.grid(False)
        figure.colorbar(image, ax=axis, shrink=0.8)
    axes[0].set_ylabel("training image, by class")
    index = np.indices(codes.shape).reshape(2, -1)
    return figure, pd.DataFrame(
        {"image": index[0], "class": labels[index[0]], "atom": index[1], "code": codes.ravel(), "seed": seed}
    )


def purity(results: Results):
    table = results.summary[results.summary.quantity.isin(["purity", "chance"])]
    figure, (axis,) = style.panels(width=4.2)
    cells = _cells(table)
    for i, (colour, name, group) in enumerate(cells):
        found = group[group.quantity == "purity"].set_index("codes").reindex(list(GUESSES))
        place = np.arange(len(GUESSES)) + 0.8 * (i + 0.5) / len(cells) - 0.4
        error = np.nan_to_num(np.abs(found[["low", "high"]].to_numpy(float).T - found["mean"].to_numpy()))
        axis.bar(place, found["mean"], 0.8 / len(cells), yerr=error, color=colour, label=name, capsize=2)
    axis.axhline(table[table.quantity == "chance"]["mean"].mean(), color="0.2", linestyle=":", label="chance")
    axis.set(ylabel="share of the 10 training images\nthat are of the output's class", ylim=(0, 1))
    axis.set_xticks(range(len(GUESSES)), GUESSES.values(), fontsize=7)
    style.legend_below(figure, [axis], 3)
    return figure, table


def removal(results: Results):
    table = results.summary[results.summary.quantity.isin(["moved_top", "moved_random"])]
    figure, (axis,) = style.panels()
    for colour, name, group in _cells(table):
        for quantity, line, words in (("moved_top", "-", "the top contributors"), ("moved_random", "--", "as many at random")):
            look = {"label": f"{words}, {name}", "color": colour, "linestyle": line}
            style.draw_band(axis, group[group.quantity == quantity].assign(rank=lambda t: t.step + 1), x="rank", **look)
    axis.set(yscale="log", xlabel="atom, the most used first", ylabel=r"$\|D_i' - D_i\| / \|D_i\|$ without")
    style.legend_below(figure, [axis], 2)
    return figure, table


def _show(axis, image, title: str) -> None:
    axis.imshow(image, cmap="gray")
    axis.set_title(title, fontsize=6, pad=2)
    axis.axis("off")


def _table(rows: int, columns: float, heads: dict[float, str]):
    """A figure with one axis for a table of images, since laying out one axis for each image takes seconds. ``heads``: column → title."""
    figure, (axis,) = style.panels(width=0.53 * columns, height=0.7 * max(1, rows) + 0.2)
    axis.axis("off")
    for column, title in heads.items():
        axis.text(1.1 * column + 0.5, 1.38, title, fontsize=7, ha="center", va="bottom")
    return figure, axis


def _tile(axis, row: int, column: float, image: np.ndarray, title: str, colour: str = "black") -> None:
    """Draw one image (h, w) of the table in its own range of greys, with its title above."""
    left, bottom = 1.1 * column, -1.45 * row
    axis.imshow(image, cmap="gray", extent=(left, left + 1, bottom, bottom + 1))
    axis.text(left + 0.5, bottom + 1.04, title, fontsize=6, ha="center", va="bottom", color=colour)
    axis.set(xlim=(0, left + 1), ylim=(bottom, 1.7))  # imshow sets the limits to those of its image


FIGURES = (
    Figure(
        "relation",
        "Relative distance of the dictionary from the weighted sum of training images that the relation gives, over training.",
        _lines("relation_residual", "epoch", r"$\|D - X^T C\| / \|D\|$", (0.01, "threshold of the claim")),
    ),
    Figure(
        "dictionary",
        "Left: atoms of the first seed that at least one image uses, the most used first (at most 144), each in its own range of greys. "
        "Right: the mean code of each atom. Weight decay reduces unused atoms to zero.",
        dictionary,
    ),
    Figure(
        "atoms",
        "The four most used atoms (first seed), as learned and as the weighted sum of all training images that the relation gives (estimate). "
        "To their right are the five training images that contribute most to each atom and the five that contribute least, with their weights.",
        atoms,
        paper="An atom is a weighted sum of training images, and the images with the largest weights look like it.",
    ),
    Figure(
        "outputs",
        "A test image of each class (first seed), its output D z, and the weighted sum of all training images (estimate). To their right are "
        "the five training images that contribute most and the five that contribute least, with their weights β, and the five with the most "
        "similar codes, with the cosine. Orange marks images of another class.",
        outputs,
        paper="An output is a weighted sum of training images, most of them of the class of the input.",
    ),
    Figure(
        "similarity",
        "Cosine similarity of the codes of test images and of training images, of the same class and of other classes. Each histogram is over "
        "all pairs and is divided by its number of pairs (first seed).",
        similarity,
        paper="Codes are more similar within a class than between classes.",
    ),
    Figure("beta_histogram", "Contributions of all training images to all outputs (first seed).", histogram),
    Figure(
        "matrices",
        "Codes of thirty training images of each class (left) and their inner products (right), sorted by class (first seed).",
        matrices,
    ),
    Figure(
        "singular_values",
        "Singular values of the codes Z of the training images, down to 1e-3. Smaller ones belong to atoms that no image uses and that decay "
        "to zero.",
        _lines("singular_value", "index", "singular value of $Z$", bottom=1e-3),
    ),
    Figure(
        "rebuilt",
        "Relative distance of the decoder's outputs from outputs that are rebuilt from the k training images with the largest |β|.",
        _lines("rebuilt", "contributors $k$", "relative error of the output"),
    ),
    Figure(
        "purity",
        "Share of the ten training images with the largest weights or the most similar codes that are of the class of the test image.",
        purity,
    ),
    Figure(
        "removal",
        "Relative change of an atom when the 5 % of the training images that contribute most to it, or as many random images, are left out and "
        "the dictionary is recomputed.",
        removal,
    ),
)
