"""Cells and their records: files that are complete or absent, endings of seeds, memory, and the resources that jobs request."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from toys import run_toy, toy_cell
from workflows import ROOT

from pudle.analysis.tables import Results
from pudle.harness import cells, files, resources, usage
from pudle.harness.record import Record
from pudle.harness.reference import Reference


def test_cell_ids_are_readable_and_depend_only_on_settings():
    assert toy_cell().id.startswith("method-a-b-c__rate-0.5__")
    assert toy_cell().id == cells.Cell("toy", {"method": "a/b c", "rate": 0.5}, (9,), ("method", "rate")).id
    assert toy_cell().id != toy_cell(other=1).id
    assert cells.Cell("toy", {"a": 1}, (0,), ()).id.isalnum()


def test_grid_expands_lists_under_new_names():
    made = list(cells.grid({"estimators": ["x", "y"], "n": [1, 2], "k": 3}, estimator="estimators", n="n"))
    assert made[0] == {"k": 3, "estimator": "x", "n": 1} and len(made) == 4


def test_cell_json_records_settings_status_and_hashes(tmp_path):
    cell = toy_cell()
    folder = cell.folder(tmp_path)
    assert cells.run(cell, folder, run_toy, fingerprint="f") == "done"
    record = cells.read(folder)
    assert record["settings"] == dict(cell.settings) and record["seeds"] == [0, 1, 2] and record["status"] == "done"
    assert record["outputs"] == {name: files.sha256(folder / name) for name in ("rows.csv", "arrays.npz")}
    assert record["provenance"]["packages"]["torch"].startswith("2.13.0")
    assert sorted(path.name for path in folder.iterdir()) == ["arrays.npz", "cell.json", "rows.csv"]
    assert Results("toy", [cell], tmp_path).arrays(cell)["final/2"].tolist() == [2]


def test_same_run_gives_the_same_bytes(tmp_path):
    for name in "ab":
        cells.run(toy_cell(), tmp_path / name, run_toy, fingerprint="f")
    for file in ("rows.csv", "arrays.npz"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_failure_leaves_nothing_behind(tmp_path):
    def broken(settings, seeds, record):
        run_toy(settings, seeds, record)
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError):
        cells.run(toy_cell(), tmp_path / "cell", broken, fingerprint="f")
    assert not (tmp_path / "cell").exists()

    def half(path):
        path.write_text("half")
        raise OSError("disk full")

    (tmp_path / "kept.txt").write_text("old")
    with pytest.raises(OSError):
        files.replace(tmp_path / "kept.txt", half)
    assert (tmp_path / "kept.txt").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_a_record_has_the_ending_of_each_seed():
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
def test_a_time_limit_may_be_of_any_length(limit):
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


WITHOUT_UNIX = """
import builtins, importlib, os, pkgutil, signal, sys
import matplotlib.pyplot, numba, pandas, pydantic, rocrate.rocrate, scipy.stats, seaborn, skimage, sklearn.base, torch
imported = builtins.__import__
def portable(name, globals=None, *others):
    by = (globals or {}).get("__name__", "")
    if by.startswith("pudle") and name in {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"}:
        raise ModuleNotFoundError(name)
    return imported(name, globals, *others)
builtins.__import__ = portable
for module, name in ((os, "fork"), (os, "getuid"), (os, "killpg"), (os, "nice"), (os, "sched_getaffinity"), (os, "uname"),
                     (signal, "SIGALRM"), (signal, "SIGHUP"), (signal, "SIGKILL"), (signal, "SIGUSR1")):
    delattr(module, name)
import pudle
names = [module.name for module in pkgutil.walk_packages(pudle.__path__, "pudle.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(len(names))
"""


def test_no_module_needs_what_only_unix_has():
    done = subprocess.run([sys.executable, "-P", "-c", WITHOUT_UNIX], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


@pytest.mark.parametrize(
    "error", [MemoryError("8 TB"), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 TB")]
)
def test_seeds_fail_with_the_reason_where_memory_runs_out(error, tmp_path):
    def greedy(settings, seeds, record):
        for seed in seeds:
            if seed == 2:
                raise error  # before its block
            with record.seed(seed):
                record.add(0, {"error": 1.0})
                if seed == 1:
                    raise error

    cell = toy_cell()
    assert cells.run(cell, cell.folder(tmp_path), greedy, fingerprint="f") == "failed"
    endings = cells.read(cell.folder(tmp_path))["endings"]
    assert [ending["seed"] for ending in endings] == [1, 2] and all("8 TB" in ending["reason"] for ending in endings)
    rows = Results("toy", [cell], tmp_path).rows
    assert rows[rows.quantity == "failed"].seed.tolist() == [1, 2] and rows[rows.quantity == "error"].seed.tolist() == [0, 1]


def test_files_of_an_earlier_run_of_a_cell_do_not_stay(tmp_path):
    cells.run(toy_cell(), tmp_path, run_toy, fingerprint="f")
    cells.run(toy_cell(), tmp_path, lambda settings, seeds, record: record.fail(seeds, "no"), fingerprint="f")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cell.json", "rows.csv"]


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


def test_a_job_requests_at_least_its_time_limit_and_more_at_each_attempt():
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


def test_jobs_of_the_paper_scale_request_the_time_and_memory_of_the_reference():
    table = yaml.safe_load((ROOT / "workflow" / "resources.yaml").read_text())["paper"]
    records = [run.record for runs in Reference(ROOT / "results" / "reference").kept.values() for run in runs]
    assert records
    for record in records:
        measured = table[record["experiment"]]
        free = cells.Cell(record["experiment"], {}, tuple(record["seeds"]), ())
        assert resources.minutes(free, len(free.seeds), measured["seconds"], 1) * 60 >= record["seconds"], record["id"]
        assert resources.memory(measured["memory"], 1) >= (record["peak_memory_mb"] or 0), record["id"]
