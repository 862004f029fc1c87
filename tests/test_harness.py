"""Cells, rows, tables and verdicts: what is recorded is what comes out, whole or not at all."""

import ast
import hashlib
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib import pyplot
from workflows import ROOT

from pudle import experiments, methods
from pudle.analysis import style
from pudle.analysis.figure import Figure
from pudle.analysis.tables import Results, coverage
from pudle.audit import recompute
from pudle.harness import cells, files, provenance, resources, usage
from pudle.harness.record import ENDINGS, KEYS, Record
from pudle.harness.reference import Reference

CONFIG = Path(__file__).parents[1] / "config"


def results_of(rows, off_protocol="", off_sizes=""):
    return SimpleNamespace(rows=rows, completed=rows, off_protocol=off_protocol, off_sizes=off_sizes)


def _cell(seeds=(0, 1, 2), **settings):
    return cells.Cell("toy", {"rate": 0.5, "method": "a/b c"} | settings, seeds, ("method", "rate"))


def _toy(settings, seeds, record):
    for seed in seeds:
        with record.seed(seed):
            for step in range(3):
                value = np.nan if settings.get("breaks") == seed and step == 2 else seed + step * settings["rate"]
                record.add(step, {"error": value})
            record.array("final", [seed])


def test_cell_ids_are_readable_and_depend_on_settings_alone():
    assert _cell().id.startswith("method-a-b-c__rate-0.5__")
    assert _cell().id == cells.Cell("toy", {"method": "a/b c", "rate": 0.5}, (9,), ("method", "rate")).id
    assert _cell().id != _cell(other=1).id
    assert cells.Cell("toy", {"a": 1}, (0,), ()).id.isalnum()


def test_grid_expands_lists_under_new_names():
    made = list(cells.grid({"estimators": ["x", "y"], "n": [1, 2], "k": 3}, estimator="estimators", n="n"))
    assert made[0] == {"k": 3, "estimator": "x", "n": 1} and len(made) == 4


def test_cell_folder_tells_what_was_run(tmp_path):
    cell = _cell()
    folder = cell.folder(tmp_path)
    assert cells.run(cell, folder, _toy, fingerprint="f") == "done"
    told = cells.read(folder)
    assert told["settings"] == dict(cell.settings) and told["seeds"] == [0, 1, 2] and told["status"] == "done"
    assert told["outputs"] == {name: files.sha256(folder / name) for name in ("rows.csv", "arrays.npz")}
    assert told["provenance"]["packages"]["torch"].startswith("2.13.0")
    assert sorted(path.name for path in folder.iterdir()) == ["arrays.npz", "cell.json", "rows.csv"]
    assert Results("toy", [cell], tmp_path).arrays(cell)["final/2"].tolist() == [2]


def test_same_run_gives_the_same_bytes(tmp_path):
    for name in "ab":
        cells.run(_cell(), tmp_path / name, _toy, fingerprint="f")
    for file in ("rows.csv", "arrays.npz"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_divergence_ends_one_seed_with_a_row_that_says_so(tmp_path):
    cell = _cell(breaks=1)
    assert cells.run(cell, cell.folder(tmp_path), _toy, fingerprint="f") == "diverged"
    results = Results("toy", [cell, _cell(other=2)], tmp_path)
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


def test_cells_that_ended_are_told_apart_by_labels_that_others_lack(tmp_path):
    results = Results("toy", [], tmp_path)
    keys = ["lam", "seed", "step", "quantity", "value"]
    results.rows = pd.DataFrame(
        [("", 0, 0, "error", 1.0), (0.5, 0, 0, "error", 2.0), (0.5, 1, 0, "diverged", 1.0)], columns=keys
    )
    assert results.summarise().set_index("lam").n_ended.to_dict() == {"": 0, 0.5: 1}


def test_a_run_that_ended_counts_where_its_cell_has_labels_inside(tmp_path):
    """Its last row has no label: it ended them all; a label outside of the cells ends what has it; settings that vary must be the same."""

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
def test_a_figure_that_lacks_what_ended_early_is_a_sheet_that_says_so_and_a_fault_is_a_fault(ending, tmp_path):
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


def test_a_figure_without_results_is_a_sheet_and_a_panel_without_results_says_so(tmp_path):
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
def test_labels_of_logarithmic_axes_do_not_run_into_each_other(low, high, labels, tmp_path):
    image, (axis,) = style.panels()
    axis.set(yscale="log", ylim=(low, high))
    style.save(image, pd.DataFrame(), tmp_path / "figure", "")
    drawn = [*axis.get_yticklabels(), *axis.get_yticklabels(minor=True)]
    shown = {f"{label.get_position()[1]:.3g}" for label in drawn if label.get_text() and low <= label.get_position()[1] <= high}
    assert sorted(shown, key=float) == labels
    if high / low < 100:  # decimals, which are shorter than powers of 10
        assert {label.get_text() for label in drawn if low <= label.get_position()[1] <= high} - {""} == set(labels)


def test_a_failure_leaves_nothing_behind(tmp_path):
    def broken(settings, seeds, record):
        _toy(settings, seeds, record)
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError):
        cells.run(_cell(), tmp_path / "cell", broken, fingerprint="f")
    assert not (tmp_path / "cell").exists()

    def half(path):
        path.write_text("half")
        raise OSError("disk full")

    (tmp_path / "whole.txt").write_text("old")
    with pytest.raises(OSError):
        files.replace(tmp_path / "whole.txt", half)
    assert (tmp_path / "whole.txt").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_rows_survive_the_file_to_the_last_digit(tmp_path):
    def precise(settings, seeds, record):
        with record.seed(0):
            record.add(1, {"third": 1 / 3, "tiny": 1e-300})
            record.add(1, {"third": 0.1}, estimator="NA")

    cell = _cell(seeds=(0,))
    cells.run(cell, cell.folder(tmp_path), precise, fingerprint="f")
    rows = Results("toy", [cell], tmp_path).rows
    assert rows.value.tolist() == [1 / 3, 1e-300, 0.1] and rows.estimator.tolist() == ["", "", "NA"]


def test_fingerprint_follows_imports_and_ignores_comments(tmp_path, monkeypatch):
    package = tmp_path / "toypackage"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "deep.py").write_text("A = 1\n")
    (package / "top.py").write_text("from toypackage.deep import A\n")
    (package / "other.py").write_text("B = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    def now():
        return provenance.fingerprint("toypackage.top")

    first = now()
    (package / "other.py").write_text("B = 2\n")
    for same in ("A = 1  # a comment\n\n", '"""What it is."""\n\nA = 1\n', '"""Other words."""\nA = (1)\n'):
        (package / "deep.py").write_text(same)
        assert now() == first
    (package / "deep.py").write_text("A = 2\n")
    assert now() != first


def test_a_module_that_is_not_there_is_named():
    with pytest.raises(ModuleNotFoundError, match=r"no module 'pudle\.nothing'"):
        provenance.fingerprint("pudle.nothing")


CODE = '''
"""A docstring."""
from package import name as other

@decorate(x=1)
class Some(Base):
    """A docstring."""
    constant: float = 1e-3

async def run(a, /, b=2, *rest, c: int = 0x10, **more):
    "A docstring."
    "No docstring: a second string."
    async with a as b, c:
        x = [y async for y in b if not y] or {**more, "k": -1j}
    text = f"{a!r:>{b}} and {a + 1:.3f}" "joined" f"{'nested'}{{}}"
    match x:
        case [1, *others] if others:
            return lambda u: u ** 0.1, ..., b"bytes", 10**2_0
    try:
        del x[1:2, ::3]
    except* (A, B) as error:
        raise error from None
'''


def test_canonical_code_is_the_same_on_every_python():
    """The digits were recorded with Python 3.11; they are those of 3.12 and 3.13, too."""
    assert hashlib.sha256(provenance.canonical(ast.parse(CODE)).encode()).hexdigest()[:16] == "b5d002db48ff57db"
    reworded = CODE.replace('"A docstring."', '"Other words, é."').replace("    text", "\n\n    text")
    assert provenance.canonical(ast.parse(reworded)) == provenance.canonical(ast.parse(CODE))
    for before, after in (
        ("1e-3", "1e-4"),
        ("!r", "!s"),
        ("a second", "another"),
        ("[1, *others]", "[2, *others]"),
        (".3f", ".4f"),
    ):
        assert provenance.canonical(ast.parse(CODE.replace(before, after))) != provenance.canonical(ast.parse(CODE))


def test_fingerprints_of_the_experiments_reach_the_mathematics_but_not_the_plots():
    for experiment in experiments.EXPERIMENTS:
        seen = provenance.modules(f"pudle.experiments.{experiment}.run")
        assert "pudle.errors" in seen and "pudle.analysis.style" not in seen and "pudle.cli" not in seen
        cells_ = experiments.plan(yaml.safe_load((CONFIG / "config.yaml").read_text()))
        with_methods = {cell.experiment for cell in cells_ if cell.settings.get("method") == "pudle-ae-ls"}
        reached = seen | (provenance.modules(methods.get("pudle-ae-ls").__module__) if experiment in with_methods else set())
        assert "pudle.core.unrolling" in reached


def test_fingerprints_of_claims_and_figures_change_with_themselves_and_not_with_each_other():
    for experiment in experiments.EXPERIMENTS:
        of_claims, of_figures = (provenance.modules(f"pudle.experiments.{experiment}.{part}") for part in ("claims", "figures"))
        assert f"pudle.experiments.{experiment}" not in of_claims | of_figures
        assert f"pudle.experiments.{experiment}.figures" not in of_claims
        assert f"pudle.experiments.{experiment}.claims" not in of_figures


def test_planning_imports_every_experiment_and_neither_torch_nor_matplotlib():
    code = (
        "import sys; from pudle import experiments; list(map(experiments.get, experiments.EXPERIMENTS)); "
        "print(*(name for name in ('torch', 'matplotlib', 'skimage') if name in sys.modules))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == []


def test_what_an_experiment_names_for_later_is_there():
    for experiment in experiments.EXPERIMENTS:
        assert callable(experiments.get(experiment).run.load())
        assert {control.id for control in experiments.controls(experiment)} or not experiments.has_controls(experiment)


def test_record_tells_how_a_seed_ended():
    record = Record()
    with record.seed(0):
        record.add(0, {"x": np.inf})
    assert record.status == "diverged" and record.endings[0]["reason"] == "x is inf at step 0"
    with record.seed(1, limit=0.05, method="slow"):
        record.add(3, {"x": 1.0})
        time.sleep(5)
    assert record.endings[1] == {
        "seed": 1,
        "method": "slow",
        "status": "stalled",
        "reason": "not done after the time limit of 0.05 s",
    }
    with record.seed(2, guard=True):
        raise ZeroDivisionError("by zero")
    assert record.status == "failed" and record.endings[2]["reason"] == "ZeroDivisionError: by zero"
    with pytest.raises(ZeroDivisionError), record.seed(3):
        raise ZeroDivisionError
    rows = record.rows()
    assert rows[rows.quantity == "stalled"][["seed", "step", "method"]].values.tolist() == [[1, 3, "slow"]]


@pytest.mark.parametrize("limit", [1e9, 1e12, 10**12, 1e300])
def test_a_time_limit_may_be_as_long_as_one_likes(limit):
    record = Record()
    with record.seed(0, limit=limit):
        record.add(0, {"error": 1.0})
    assert record.status == "done" and len(record.rows()) == 1


def test_memory_is_in_the_same_units_on_every_system(monkeypatch, tmp_path):
    monkeypatch.setattr(usage, "_PROCESS", tmp_path)  # no such folder elsewhere
    here = usage.peak_memory_mb()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert usage.peak_memory_mb() == pytest.approx(here / 1024, abs=10)
    monkeypatch.setitem(sys.modules, "resource", None)
    assert usage.peak_memory_mb() is None


def test_the_command_line_does_not_need_what_only_unix_has():
    program = "import sys; sys.modules['resource'] = None; import pudle.cli"
    subprocess.run([sys.executable, "-P", "-c", program], check=True)


@pytest.mark.parametrize(
    "error", [MemoryError("8 TB"), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 TB")]
)
def test_where_memory_runs_out_seeds_fail_and_say_so(error, tmp_path):
    def greedy(settings, seeds, record):
        for seed in seeds:
            if seed == 2:
                raise error  # before its block
            with record.seed(seed):
                record.add(0, {"error": 1.0})
                if seed == 1:
                    raise error

    cell = _cell()
    assert cells.run(cell, cell.folder(tmp_path), greedy, fingerprint="f") == "failed"
    endings = cells.read(cell.folder(tmp_path))["endings"]
    assert [ending["seed"] for ending in endings] == [1, 2] and all("8 TB" in ending["reason"] for ending in endings)
    rows = Results("toy", [cell], tmp_path).rows
    assert rows[rows.quantity == "failed"].seed.tolist() == [1, 2] and rows[rows.quantity == "error"].seed.tolist() == [0, 1]


def test_files_of_an_earlier_run_of_a_cell_do_not_stay(tmp_path):
    cells.run(_cell(), tmp_path, _toy, fingerprint="f")
    cells.run(_cell(), tmp_path, lambda settings, seeds, record: record.fail(seeds, "no"), fingerprint="f")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cell.json", "rows.csv"]


def test_timings_are_kept_apart_from_the_rows(tmp_path):
    def timed(settings, seeds, record):
        with record.seed(0):
            record.add(1, {"error": 1.0})
            record.time(1, 0.5)

    cell = _cell(seeds=(0,))
    cells.run(cell, cell.folder(tmp_path), timed, fingerprint="f")
    results = Results("toy", [cell], tmp_path)
    assert results.timings.value.tolist() == [0.5] and results.rows.quantity.tolist() == ["error"]


FORK = """
import os
import resource

import numpy as np

from pudle.harness import usage

big = np.ones(50_000_000)  # 400 MB, given back at once
del big
read, write = os.pipe()
if os.fork() == 0:
    usage.reset_peak_memory()
    os.write(write, str(usage.peak_memory_mb()).encode())
    os._exit(0)
print(os.read(read, 100).decode(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_the_peak_memory_of_a_fork_does_not_start_at_its_parents():
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        pytest.skip("this system does not reset the peak memory of a process")
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, check=True)
    own, parents = map(int, done.stdout.split())
    assert 0 < own < parents - 300


def test_a_job_asks_for_its_time_limit_or_more_and_for_more_at_each_attempt():
    limited, free = (cells.Cell("toy", {"time_limit": limit}, (0, 1, 2), ()) for limit in (3000, None))
    for attempt in (1, 2, 3):
        assert resources.minutes(limited, 3, 5.0, attempt) * 60 >= 3 * 3000
        assert resources.minutes(free, 3, 1800.0, attempt) == attempt * 180
        assert resources.memory(1500, attempt) == attempt * 3000
    table = {"unmeasured": {"seconds": 1}, "default": {"a": {"seconds": 2}}, "paper": {"b": {"seconds": 3}}}
    found = [
        resources.measured(table, *key)["seconds"] for key in (("default", "a"), ("mine", "a"), ("paper", "a"), ("paper", "b"))
    ]
    assert found == [2, 2, 1, 3]


def test_jobs_of_the_paper_scale_ask_for_what_the_reference_took():
    table = yaml.safe_load((ROOT / "workflow" / "resources.yaml").read_text())["paper"]
    records = [run.record for runs in Reference(ROOT / "results" / "reference").kept.values() for run in runs]
    assert records
    for record in records:
        measured = table[record["experiment"]]
        free = cells.Cell(record["experiment"], {}, tuple(record["seeds"]), ())
        assert resources.minutes(free, len(free.seeds), measured["seconds"], 1) * 60 >= record["seconds"], record["id"]
        assert resources.memory(measured["memory"], 1) >= (record["peak_memory_mb"] or 0), record["id"]
