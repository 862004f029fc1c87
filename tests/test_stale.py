"""A cell is computed again where it does not agree with the plan: its record travels with it, and is compared with what is read today."""

import json
import os
import shutil
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from workflows import TOY, Workflow

from pudle.data import catalogue
from pudle.data.images import load_images
from pudle.harness import cells, stale

SETS = ["folder:seen", "folder:../held", "set12"]


def _image(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4), value, np.uint8)).save(path)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with two sets of a user's own, one beside it, and the folder of the other sets."""
    here = tmp_path / "here"
    for path in (here / "seen" / "a.png", here / "seen" / "b.png", tmp_path / "held" / "c.png", tmp_path / "sets/set12/d.png"):
        _image(path)
    monkeypatch.chdir(here)
    monkeypatch.setenv("PUDLE_DATA", "../sets")
    return here


def _read(settings, seeds, record):
    for data_set in SETS:
        load_images(data_set, catalogue.data_root())
    for seed in seeds:
        with record.seed(seed):
            record.add(0, {"error": 1.0})


CELL = cells.Cell("toy", {"lam": 0.2}, (0, 1), ())


@pytest.fixture
def folder(place):
    cells.run(CELL, place / "cell", _read, fingerprint="of-today", data=catalogue.roots(SETS))
    return place / "cell"


def _why(folder, cell=CELL, code="of-today", device="cpu"):
    def differing(inputs):
        return catalogue.differing(inputs, SETS, catalogue.data_root())

    return stale.reason(cell, folder, code, device, differing)


def test_what_a_cell_read_is_recorded_wherever_it_lies(folder):
    inputs = json.loads((folder / "cell.json").read_text(encoding="utf-8"))["inputs"]
    assert list(inputs) == ["data/set12/d.png", "folder:../held/c.png", "folder:seen/a.png", "folder:seen/b.png"]
    assert all(catalogue.locate(name, catalogue.data_root()).is_file() for name in inputs)


def test_a_cell_that_agrees_with_the_plan_is_not_stale(folder, place, monkeypatch):
    assert _why(folder) == "" == _why(place / "not there") == _why(folder, device="auto")
    os.utime(place / "seen" / "a.png", (time.time() + 9999,) * 2)
    (place / "seen" / "notes.txt").write_text("no image", encoding="utf-8")
    assert _why(folder) == ""
    monkeypatch.chdir("/")  # where no data are to compare with
    assert _why(folder) == ""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"cell": cells.Cell("toy", {"lam": 0.3}, (0, 1), ())}, "settings"),
        ({"cell": cells.Cell("toy", {"lam": 0.2}, (0, 1, 2), ())}, "seeds"),
        ({"code": "of-tomorrow"}, "code"),
        ({"device": "cuda"}, "device"),
    ],
)
def test_a_cell_is_stale_for_each_part_of_the_plan(change, reason, folder):
    assert _why(folder, **change) == reason


@pytest.mark.parametrize("path", ["seen/a.png", "../held/c.png", "../sets/set12/d.png"])
@pytest.mark.parametrize("change", ["replaced", "removed", "added"])
def test_a_cell_is_stale_where_images_are_not_those_that_it_read(change, path, folder, place):
    if change == "removed":
        (place / path).unlink()
    else:
        _image((place / path).with_name("e.png") if change == "added" else place / path, value=9)
    assert _why(folder) == "inputs"


@pytest.mark.parametrize("content", ["{}", "no JSON", '{"settings": {"lam": 0.2}, "seeds": 3}'])
def test_a_cell_whose_record_is_damaged_is_stale(content, folder):
    (folder / "cell.json").write_text(content, encoding="utf-8")
    assert _why(folder) in ("record", "seeds")


def test_a_record_without_inputs_is_not_one_that_read_nothing(folder):
    """As of a version that did not look where the images are."""
    record = json.loads((folder / "cell.json").read_text(encoding="utf-8")) | {"inputs": {}}
    (folder / "cell.json").write_text(json.dumps(record), encoding="utf-8")
    assert _why(folder) == "inputs"
    (folder / "cell.json").write_text(json.dumps(record | {"status": "failed"}), encoding="utf-8")
    assert _why(folder) == ""  # memory may have run out before it read anything


def test_the_files_of_digits_are_those_that_are_read(tmp_path):
    for name in catalogue.MNIST_FILES:
        (tmp_path / "mnist").mkdir(exist_ok=True)
        (tmp_path / "mnist" / name).write_bytes(name.encode())
    (tmp_path / "mnist" / f"{catalogue.MNIST_FILES[0]}.gz").touch()
    assert set(catalogue.contents("mnist", tmp_path)) == {f"data/mnist/{name}" for name in catalogue.MNIST_FILES}
    assert catalogue.find_digits("mnist", tmp_path) == [tmp_path / "mnist" / name for name in catalogue.MNIST_FILES]


@pytest.mark.parametrize("kept", ["seed", "state"])
def test_a_cell_that_goes_on_does_not_mix_images_of_then_and_now(kept, place, monkeypatch):
    """It was stopped after its first seed, or within it, and an image was replaced."""
    monkeypatch.setattr("pudle.harness.checkpoints.EVERY", 0)
    stopping = True

    def run(settings, seeds, record):
        shown = float(load_images("folder:seen", catalogue.data_root())["a"].mean())
        with record.seed(seeds[0]):
            state = record.resume() or {"shown": shown}
            record.add(0, {"shown": float(state["shown"])})
            record.keep(lambda: state)
        if stopping and (kept == "state" or seeds == (1,)):
            raise InterruptedError

    def go_on():
        contents = catalogue.contents("folder:seen", catalogue.data_root())
        return cells.run(CELL, place / "cell", run, fingerprint="f", data=catalogue.roots(SETS), contents=contents)

    with pytest.raises(InterruptedError):
        go_on()
    _image(place / "seen" / "a.png", 255)
    stopping = False
    assert go_on() == "done"
    assert list(pd.read_csv(place / "cell" / "rows.csv").value) == [1, 1]


def test_an_image_that_is_replaced_while_a_cell_runs_makes_it_stale(place):
    def run(settings, seeds, record):
        _read(settings, seeds, record)
        _image(place / "seen" / "a.png", 255)
        os.utime(place / "seen" / "a.png", (1, 1))

    cells.run(CELL, place / "cell", run, fingerprint="of-today", data=catalogue.roots(SETS))
    inputs = json.loads((place / "cell" / "cell.json").read_text(encoding="utf-8"))["inputs"]
    assert inputs["folder:seen/b.png"] == catalogue.contents("folder:seen", place)["folder:seen/b.png"]
    assert inputs["folder:seen/a.png"] != catalogue.contents("folder:seen", place)["folder:seen/a.png"]
    assert _why(place / "cell") == "inputs"


@pytest.mark.slow
def test_results_that_were_copied_are_compared_with_the_plan(finished, checkout, tmp_path):
    """Snakemake's own memory stays behind in the working folder."""
    shutil.copytree(finished.root, tmp_path / "results" / "toy")
    copy = Workflow(checkout, tmp_path, TOY)
    assert not {"cell_learning", "cell_unrolling"} & set(copy.jobs())
    copy.configure(TOY | {"seeds": 3})
    jobs = copy.jobs()
    assert (jobs["cell_learning"], jobs["cell_unrolling"]) == (4, 1) and {"tables", "verdicts", "report"} <= set(jobs)
    copy.configure(TOY)
    module = checkout / "pudle" / "core" / "unrolling.py"
    source = module.read_text(encoding="utf-8")
    try:
        module.write_text(source + "\nCHANGED = True\n", encoding="utf-8")
        assert copy.jobs()["cell_learning"] == 4
    finally:
        module.write_text(source, encoding="utf-8")


@pytest.mark.slow
def test_sources_count_by_content_and_the_configuration_is_that_of_this_run(finished, checkout):
    tomorrow = (time.time() + 86_400,) * 2
    sources = [checkout / "Snakefile", *checkout.glob("workflow/rules/*.smk"), *checkout.glob("pudle/**/*.csv")]
    sources += [*checkout.glob("pudle/analysis/report/page.*"), *checkout.glob("pudle/**/*.py")]
    before = {path: path.stat().st_mtime_ns for path in sources}
    try:
        for path in sources:
            os.utime(path, tomorrow)
        assert finished.jobs() == {}
    finally:
        for path, modified in before.items():
            os.utime(path, ns=(modified, modified))
    for name, before, after in (("config.json", '"seeds": 2', '"seeds": 5'), ("plan.json", '"seeds": [0, 1]', '"seeds": [0]')):
        kept = finished.root / name
        content = kept.read_text(encoding="utf-8")
        assert before in content
        try:
            kept.write_text(content.replace(before, after), encoding="utf-8")  # of a run that was stopped
            assert "configuration" in (jobs := finished.jobs()) and "cell_learning" not in jobs
        finally:
            kept.write_text(content, encoding="utf-8")


@pytest.mark.slow
def test_a_run_from_before_there_were_plans_gets_one_and_computes_no_cell(finished, checkout, tmp_path):
    shutil.copytree(finished.root, tmp_path / "results" / "toy")
    (tmp_path / "results" / "toy" / "plan.json").unlink()
    copy = Workflow(checkout, tmp_path, TOY)
    jobs = copy.jobs()
    assert jobs["configuration"] == 1 and not {"cell_learning", "cell_unrolling"} & set(jobs)
    copy()
    assert (copy.root / "plan.json").read_bytes() == (finished.root / "plan.json").read_bytes()
    assert copy.jobs() == {}
