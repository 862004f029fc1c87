"""From the rows of cells to tables and figures, also where runs ended early."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from toys import run_toy, toy_cell

from pudle.analysis import style
from pudle.analysis.figure import Figure
from pudle.analysis.tables import Results, coverage
from pudle.audit import recompute
from pudle.harness import cells
from pudle.harness.record import ENDINGS, KEYS


def test_a_seed_that_diverges_ends_with_a_row_and_the_others_continue(tmp_path):
    cell = toy_cell(breaks=1)
    assert cells.run(cell, cell.folder(tmp_path), run_toy, fingerprint="f") == "diverged"
    results = Results("toy", [cell, toy_cell(other=2)], tmp_path)
    rows = results.rows
    assert rows[(rows.seed == 1) & (rows.quantity == "diverged")].step.tolist() == [2]
    assert rows[(rows.seed == 1) & (rows.quantity == "error")].step.tolist() == [0, 1]
    assert rows[(rows.seed == 2) & (rows.quantity == "error")].step.tolist() == [0, 1, 2]
    table = results.summarise().set_index("step")
    assert table.n_seeds.tolist() == [3, 3, 2] and (table.n_ended == 1).all()
    assert table.loc[2, "mean"] == pytest.approx((1 + 3) / 2)
    listed = coverage(results.cells, tmp_path)
    assert listed.status.tolist() == ["diverged", "missing"]
    assert "seed 1: error is nan at step 2" in listed.endings[0]


def test_an_ended_run_is_counted_only_at_points_with_its_labels(tmp_path):
    results = Results("toy", [], tmp_path)
    keys = ["lam", "seed", "step", "quantity", "value"]
    results.rows = pd.DataFrame(
        [("", 0, 0, "error", 1.0), (0.5, 0, 0, "error", 2.0), (0.5, 1, 0, "diverged", 1.0)], columns=keys
    )
    assert results.summarise().set_index("lam").n_ended.to_dict() == {"": 0, 0.5: 1}


def test_an_ended_run_is_counted_at_all_points_of_its_cell_and_block(tmp_path):
    """An ending without labels of rows concerns all rows of its block; labels of the block and varying settings must be equal."""

    def labelled(settings, seeds, record):
        for seed in seeds:
            for part in settings["parts"]:
                with record.seed(seed, part=part):
                    for estimator in ("dec", "ae-ls"):
                        record.add(0, {"error": 1.0 + seed}, estimator=estimator, share=0.5)
                    if settings["breaks"] == (seed, part):
                        record.add(1, {"error": np.inf})

    planned = [
        cells.Cell("toy", {"rate": rate, "parts": parts, "breaks": breaks}, (0, 1, 2), ("rate",))
        for rate, parts, breaks in ((0.1, ["x", "y"], (1, "x")), ("", ["x"], None), (0.2, [""], (2, "")))
    ]
    for cell in planned:
        cells.run(cell, cell.folder(tmp_path), labelled, fingerprint="f")
    results = Results("toy", planned, tmp_path)
    table = results.summarise()
    counted = table.groupby(["rate", "part"]).n_ended.unique().map(list).to_dict()
    assert counted == {(0.1, "x"): [1], (0.1, "y"): [0], ("", "x"): [0], (0.2, ""): [1]} and len(table) == 8

    (tmp_path / "tables").mkdir()
    table.to_csv(tmp_path / "tables" / "toy.csv", index=False)
    run = SimpleNamespace(
        root=tmp_path, records={}, of=lambda experiment: planned, path=lambda cell, name: cell.folder("") / name
    )
    rows = recompute.gather(run, "toy")  # the audit's own way
    assert list(recompute._table(run, "toy", rows)) == []
    table.assign(n_ended=0).to_csv(tmp_path / "tables" / "toy.csv", index=False)
    assert "n_ended is 0, not 1" in next(recompute._table(run, "toy", rows)).found


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_figure_that_fails_because_runs_ended_early_is_replaced_by_its_reason_and_other_errors_are_raised(ending, tmp_path):
    def draw(results):
        raise ZeroDivisionError

    figure, results = Figure("f", "Caption.", draw), Results("toy", [], tmp_path)
    results.rows = pd.DataFrame([(0, 0, "error", 1.0), (1, 0, "error", 2.0)], columns=KEYS)
    results.summary = results.summarise()
    with pytest.raises(ZeroDivisionError):
        style.draw(figure, results)
    results.rows.loc[2] = (1, 1, ending, 1.0)
    image, plotted = style.draw(figure, results)
    assert [text.get_text() for text in image.texts] == ["not drawn: runs ended early (ZeroDivisionError)"]
    assert not len(plotted) and list(plotted) == list(results.summary)
    pyplot.close(image)


def test_figures_and_panels_without_results_say_so(tmp_path):
    def results():
        found = Results("toy", [], tmp_path)
        found.rows = pd.DataFrame([(0, 0, "error", 1.0), (1, 1, "failed", 1.0)], columns=KEYS)
        found.summary = found.summarise()
        return found

    def draw(plotted):
        image, axes = style.panels(2)
        axes[0].plot([0, 1], [0, 1])
        axes[1].axhline(np.nan)
        return image, plotted

    table = pd.DataFrame({"x": [0, 1]})
    image, plotted = style.draw(Figure("f", "Caption.", lambda _: draw(table)), results())
    assert plotted is table and [[text.get_text() for text in axis.texts] for axis in image.axes] == [[], ["no results"]]
    image, plotted = style.draw(Figure("f", "Caption.", lambda _: draw(table[:0])), results())
    assert [text.get_text() for text in image.texts] == ["not drawn: runs ended early"] and not len(plotted)
    pyplot.close("all")


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (1e-3, 2.0, ["0.001", "0.01", "0.1", "1"]),
        (1.5e-2, 0.7, ["0.02", "0.05", "0.1", "0.2", "0.5"]),
        (0.8, 60, ["1", "2", "5", "10", "20", "50"]),
    ],
)
def test_labels_of_logarithmic_axes_do_not_overlap(low, high, labels, tmp_path):
    image, (axis,) = style.panels()
    axis.set(yscale="log", ylim=(low, high))
    style.save(image, pd.DataFrame(), tmp_path / "figure", "")
    drawn = [*axis.get_yticklabels(), *axis.get_yticklabels(minor=True)]
    shown = {f"{label.get_position()[1]:.3g}" for label in drawn if label.get_text() and low <= label.get_position()[1] <= high}
    assert sorted(shown, key=float) == labels
    if high / low < 100:  # decimals, which are shorter than powers of 10
        assert {label.get_text() for label in drawn if low <= label.get_position()[1] <= high} - {""} == set(labels)


def test_rows_are_read_as_they_were_written_to_the_last_digit(tmp_path):
    def precise(settings, seeds, record):
        with record.seed(0):
            record.add(1, {"third": 1 / 3, "tiny": 1e-300})
            record.add(1, {"third": 0.1}, estimator="NA")

    cell = toy_cell(seeds=(0,))
    cells.run(cell, cell.folder(tmp_path), precise, fingerprint="f")
    rows = Results("toy", [cell], tmp_path).rows
    assert rows.value.tolist() == [1 / 3, 1e-300, 0.1] and rows.estimator.tolist() == ["", "", "NA"]


def test_timings_are_kept_apart_from_the_rows(tmp_path):
    def timed(settings, seeds, record):
        with record.seed(0):
            record.add(1, {"error": 1.0})
            record.time(1, 0.5)

    cell = toy_cell(seeds=(0,))
    cells.run(cell, cell.folder(tmp_path), timed, fingerprint="f")
    results = Results("toy", [cell], tmp_path)
    assert results.timings.value.tolist() == [0.5] and results.rows.quantity.tolist() == ["error"]
