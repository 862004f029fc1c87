"""The same bytes again from any run, however often it was killed, starved of disk or memory, or refused."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml
from workflows import ROOT, SMALL, Workflow, pudle

from pudle.audit.run import on_disk
from pudle.experiments import EXPERIMENTS

pytestmark = pytest.mark.slow

DEFAULT = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())["experiments"]["robustness"]
# An overlay is merged: it shrinks all variants of the default scale; null takes a method out.
VARIANTS = {name: {"n_features": 10, "n_atoms": 12, "n_samples": 40, "epochs": 1, "batch": 10} for name in DEFAULT["variants"]}
ROBUSTNESS = SMALL | {"variants": VARIANTS, "methods": SMALL["methods"] | {"pudle-ae-lasso": None}}
TINY = {"scale": "tiny", "seeds": 2, "experiments": dict.fromkeys(EXPERIMENTS) | {"robustness": ROBUSTNESS}}


@pytest.fixture(scope="module")
def undisturbed(checkout, tmp_path_factory) -> Workflow:
    workflow = Workflow(checkout, tmp_path_factory.mktemp("undisturbed"), TINY)
    workflow()
    return workflow


def test_the_smoke_scale_runs_is_well_and_has_nothing_more_to_do(smoke):
    assert (smoke.root / "report" / "index.html").stat().st_size > 100_000
    assert smoke.jobs() == {}
    assert "all is well" in pudle("audit", smoke.root)


def test_another_clean_run_with_another_number_of_jobs_makes_the_same_bytes(smoke, checkout, tmp_path):
    other = Workflow(checkout, tmp_path, yaml.safe_load((ROOT / "config" / "smoke.yaml").read_text()))
    other("--cores", "1")
    first, second = smoke.outputs(), other.outputs()
    assert set(first) == set(second)
    assert [name for name in first if first[name] != second[name]] == []
    assert {Path(name).suffix for name in first} >= {".csv", ".md", ".pdf", ".png", ".svg", ".npz"}


def assert_no_half_file(root: Path, expected: dict[str, bytes]) -> None:
    """Whatever stands under its own name is complete: what repeats has its final bytes, records can be read."""
    for path in on_disk(root):
        name = path.relative_to(root).as_posix()
        if ".partial" not in path.name:
            assert name not in expected or path.read_bytes() == expected[name], name
            if path.suffix == ".json":
                json.loads(path.read_text())


def kill_a_worker(running: subprocess.Popen) -> None:
    """SIGKILL for the process of a job, as soon as there is one."""
    while running.poll() is None:
        for process in psutil.Process(running.pid).children(recursive=True):
            try:
                if "--serve" in process.parent().cmdline() and "--serve" in process.cmdline():
                    process.kill()
                    return
            except (psutil.NoSuchProcess, AttributeError):
                continue
        time.sleep(0.01)


def test_killed_at_twenty_moments_it_ends_with_the_same_files(checkout, undisturbed, tmp_path):
    """Ten times the complete workflow is killed, ten times one of its workers; a run that had time to end starts from nothing again."""
    expected = undisturbed.outputs()
    chance = random.Random(0)
    workflow = Workflow(checkout, tmp_path, TINY)
    for moment in range(20):
        running = workflow.start(start_new_session=True)
        time.sleep(chance.uniform(2, 7))
        if moment % 2:
            kill_a_worker(running)
        elif running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
        ended = running.wait()
        assert_no_half_file(workflow.root, expected)
        if ended == 0:
            shutil.rmtree(workflow.root)
    workflow()
    assert workflow.outputs() == expected and workflow.jobs() == {}
    assert not list(workflow.root.rglob(".*partial*"))


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of 160 KB at ``results``."""
    folder = tmp_path / "results"
    folder.mkdir()
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", folder], capture_output=True).returncode
    ):
        pytest.skip("needs leave to mount a file system: run as root, and not in a container that forbids it")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


def test_a_full_disk_ends_the_run_in_words_and_with_room_it_goes_on(checkout, undisturbed, tmp_path, small_disk):
    workflow = Workflow(checkout, tmp_path, TINY)
    said = workflow(status=1)
    assert "No space left on device" in said and "Traceback" not in said
    assert_no_half_file(workflow.root, undisturbed.outputs())
    remount(small_disk, "size=100m")
    workflow()
    assert workflow.outputs() == undisturbed.outputs()


def test_a_folder_that_cannot_be_written_is_refused_in_words(checkout, tmp_path, small_disk):
    remount(small_disk, "ro")
    said = Workflow(checkout, tmp_path, TINY)(status=1)
    assert "cannot be written to: Read-only file system" in said and "Traceback" not in said
    assert not list(small_disk.iterdir())


def test_where_memory_runs_out_the_cell_has_failed_and_the_rest_is_done(checkout, tmp_path):
    """A dictionary of 8 TB, which no machine has."""
    huge = ROBUSTNESS | {"variants": VARIANTS | {"huge": {"n_features": 10**6, "n_atoms": 10**6}}}
    workflow = Workflow(checkout, tmp_path, TINY | {"experiments": dict.fromkeys(EXPERIMENTS) | {"robustness": huge}})
    workflow()
    table = pd.read_csv(workflow.root / "cells.csv", keep_default_na=False)
    failed = table[[json.loads(settings)["variant"] == "huge" for settings in table.settings]]
    assert len(failed) == 2 and set(failed.status) == {"failed"} and set(table.drop(failed.index).status) == {"done"}
    assert all(text.count("out of memory") == 2 for text in failed.endings)
    rows = pd.read_csv(workflow.root / "cells" / "robustness" / failed.cell.iloc[0] / "rows.csv")
    assert rows.quantity.tolist() == ["failed", "failed"] and rows.seed.tolist() == [0, 1]
    assert workflow.jobs() == {} and "all is well" in pudle("audit", workflow.root)
