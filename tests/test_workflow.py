"""The workflow as a user runs it: from a copy of the repository, at toy size."""

import json
import os
import subprocess
import sys
import sysconfig
import time
import venv

import numpy as np
import pandas as pd
import pytest
import yaml
from skimage.io import imsave
from workflows import TOY, Workflow, pudle

from pudle.experiments import EXPERIMENTS

pytestmark = pytest.mark.slow


def test_it_makes_everything_and_then_has_nothing_to_do(finished):
    made = finished.outputs()
    assert {"cells.csv", "claims.csv", "claims.md", "tables/learning.csv", "tables/unrolling.csv"} <= set(made)
    for name in ("unrolling/code_convergence", "unrolling/gradient_error_local", "learning/dictionary_error"):
        assert {f"figures/{name}.{kind}" for kind in ("pdf", "png", "csv")} <= set(made)
    assert (finished.folder / "results" / "toy" / "report" / "index.html").stat().st_size > 100_000
    assert finished.jobs() == {}
    assert not [path for path in finished.folder.rglob("*.log") if "rule" not in path.name and "Warning" in path.read_text()]


def test_a_changed_setting_runs_exactly_its_cells(finished):
    finished.configure(
        TOY | {"experiments": TOY["experiments"] | {"learning": TOY["experiments"]["learning"] | {"n_layers": [3, 4, 5]}}}
    )
    jobs = finished.jobs()
    finished.configure(TOY)
    assert jobs["cell_learning"] == 2 and "cell_unrolling" not in jobs
    assert {"tables", "figures_learning", "verdicts", "coverage"} <= set(jobs) and "figures_unrolling" not in jobs


def test_rows_that_are_missing_are_computed_again_with_all_that_reads_them(finished):
    rows = next(finished.root.glob("cells/learning/*/rows.csv"))
    moved = rows.rename(rows.with_name("moved"))
    jobs = finished.jobs()
    moved.rename(rows)
    assert jobs["cell_learning"] == 1 and "cell_unrolling" not in jobs
    assert {"tables", "figures_learning", "verdicts", "published"} <= set(jobs) and "figures_unrolling" not in jobs
    assert finished.jobs() == {}


def test_the_command_line_changes_settings_inside_of_braces(finished):
    jobs = finished.jobs("--config", "experiments={learning: {n_layers: [3, 4, 5]}, unrolling: null}")
    assert jobs["cell_learning"] == 2 and "cell_unrolling" not in jobs and "figures_unrolling" not in jobs
    said = finished("--dry-run", "--config", "experiments={learning: {lam: -1}}", status=1)
    assert "--config: 'experiments.learning.lam' is -1" in said
    assert finished.jobs() == {}


def test_another_device_runs_the_same_cells_again(finished):
    finished.configure(TOY | {"device": "cuda"})
    jobs = finished.jobs()
    finished.configure(TOY)
    assert (jobs["cell_learning"], jobs["cell_unrolling"]) == (4, 1)
    assert finished.jobs() == {}


@pytest.mark.parametrize(
    ("module", "runs", "spares"),
    [
        ("experiments/learning/figures.py", {"figures_learning"}, {"cell_learning", "verdicts", "figures_unrolling", "tables"}),
        ("experiments/learning/claims.py", {"verdicts"}, {"cell_learning", "figures_learning", "tables"}),
        (
            "experiments/learning/run.py",
            {"cell_learning", "tables", "figures_learning", "verdicts"},
            {"cell_unrolling", "figures_unrolling"},
        ),
        ("core/unrolling.py", {"cell_learning", "cell_unrolling", "figures_unrolling"}, set()),
        ("analysis/style.py", {"figures_learning", "figures_unrolling"}, {"cell_learning", "cell_unrolling", "verdicts"}),
    ],
)
def test_a_change_of_code_runs_exactly_what_depends_on_it(finished, checkout, module, runs, spares):
    path = checkout / "pudle" / module
    source = path.read_text()
    try:
        path.write_text(source + "\nCHANGED = True\n")
        jobs = set(finished.jobs())
        path.write_text(source + "\n# only a comment\n")
        untouched = finished.jobs()
    finally:
        path.write_text(source)
    assert runs <= jobs and not spares & jobs
    assert untouched == {}


BASELINES = {
    "n_samples": 40,
    "n_features": 10,
    "n_atoms": 12,
    "sparsity": [2],
    "signs": "shared",
    "init_noise": 0.05,
    "batch": 10,
    "epochs": 1,
    "evaluate_every": 2,
    "time_limit": 5,
}
PLUGIN = """
import time

from pudle.methods import Field, Method, Settings, register


@register("mine")
class Mine(Method):
    \"\"\"Does nothing, raises, waits or returns NaN.\"\"\"

    source = "this test"

    class Settings(Settings):
        fault: str = Field("none", description="What goes wrong.")

    def update(self, batch):
        if self.settings.fault == "raises":
            raise RuntimeError("boom <b>")
        if self.settings.fault == "stalls":
            time.sleep(60)
        if self.settings.fault == "nan":
            self.dictionary = self.dictionary * float("nan")
"""


def test_a_users_method_runs_exactly_the_new_cells_and_its_faults_are_rows(checkout, tmp_path):
    """The comparison with two methods first; then with a user's file, whose faults leave the others alone."""
    defaults = yaml.safe_load((checkout / "config/config.yaml").read_text())["experiments"]["baselines"]["methods"]
    ours = dict.fromkeys(defaults) | {
        "online": {},
        "mod": {},
    }  # nothing to compile within the limit; null leaves a method of the default scale out

    def configure(methods: dict, **more) -> dict:
        return {
            "scale": "toy",
            "seeds": 2,
            "experiments": dict.fromkeys(EXPERIMENTS) | {"baselines": BASELINES | {"methods": methods}},
        } | more

    workflow = Workflow(checkout, tmp_path, configure(ours))
    workflow()
    assert workflow.jobs() == {}
    (tmp_path / "mine.py").write_text(PLUGIN)
    mine = {"mine": {}} | {fault: {"method": "mine", "fault": fault} for fault in ("raises", "stalls", "nan")}
    workflow.configure(configure(ours | mine, plugins=["mine.py"]))
    jobs = workflow.jobs()
    assert jobs.pop("cell_baselines") == 4
    assert set(jobs) == {
        "configuration",
        "tables",
        "figures_baselines",
        "verdicts",
        "coverage",
        "published",
        "report",
        "manifest",
        "all",
    } and set(jobs.values()) == {1}
    workflow()
    listed = pd.read_csv(tmp_path / "results/toy/cells.csv", keep_default_na=False)
    status = {json.loads(row.settings)["method_name"]: (row.status, row.endings) for row in listed.itertuples()}
    assert status["mine"] == ("done", "") and status["online"][0] == "done"
    assert status["raises"][0] == "failed" and "RuntimeError: boom <b>" in status["raises"][1]
    assert status["stalls"][0] == "stalled" and "time limit of 5 s" in status["stalls"][1]
    assert status["nan"][0] == "diverged"
    drawn = pd.read_csv(tmp_path / "results/toy/figures/baselines/final_errors.csv", keep_default_na=False)
    assert set(drawn.method_name) == set(status)
    (tmp_path / "mine.py").write_text(PLUGIN + "\nCHANGED = True\n")
    assert workflow.jobs()["cell_baselines"] == 4


def test_other_images_in_a_folder_run_its_cells_again_and_copies_of_the_same_do_not(checkout, tmp_path):
    for folder, images in (("seen", ("a", "b")), ("held_out", ("c",))):
        (tmp_path / folder).mkdir()
        for name in images:
            save(tmp_path / folder / f"{name}.png", name)
    defaults = yaml.safe_load((checkout / "config/config.yaml").read_text())["experiments"]["denoising"]
    denoising = {
        "train": "folder:seen",
        "test": ["folder:held_out"],
        "n_filters": 4,
        "kernel": 5,
        "stride": 2,
        "n_layers": 2,
        "crop": 9,
    }
    denoising |= {"sigmas": [25], "lams": [0.16], "thresholds": [], "estimators": ["dec"], "updates": 1, "evaluate_every": 1}
    denoising |= {key: dict.fromkeys(defaults[key]) for key in ("variants", "denoisers")}
    workflow = Workflow(
        checkout, tmp_path, {"scale": "toy", "seeds": 1, "experiments": dict.fromkeys(EXPERIMENTS) | {"denoising": denoising}}
    )
    workflow("--until", "cell_denoising")
    save(tmp_path / "seen" / "a.png", "a")
    assert "cell_denoising" not in workflow.jobs()
    save(tmp_path / "seen" / "a.png", "d")
    assert workflow.jobs()["cell_denoising"] == 1


def save(path, name: str) -> None:
    """An image of noise that is a function of ``name``."""
    imsave(path, np.random.default_rng(ord(name)).integers(0, 255, (24, 24), dtype=np.uint8), check_contrast=False)


def test_divergence_is_a_result(checkout, tmp_path):
    """A step far too large: three layers stay finite, a hundred do not. Everything else goes on, and tables and figures show it."""
    learning = TOY["experiments"]["learning"] | {"n_layers": [3, 100], "step": 1.5}
    workflow = Workflow(checkout, tmp_path, TOY | {"experiments": TOY["experiments"] | {"learning": learning}})
    workflow()
    cells = (tmp_path / "results/toy/cells.csv").read_text().splitlines()[1:]
    assert sum(",diverged," in line for line in cells) == 2 and sum(",done," in line for line in cells) == 3
    assert "loss is nan at step 0" in "".join(cells) or "loss is inf at step 0" in "".join(cells)
    assert workflow.jobs() == {}


def test_where_every_run_diverges_at_the_start_the_workflow_ends_with_report_and_manifest(checkout, tmp_path):
    learning = {"n_samples": 50, "n_features": 10, "n_atoms": 20, "sparsity": 2, "n_layers": [100], "updates": 5, "step": 50}
    workflow = Workflow(checkout, tmp_path, TOY | {"experiments": dict.fromkeys(EXPERIMENTS) | {"learning": learning}})
    workflow()
    assert set(pd.read_csv(workflow.root / "cells.csv").status) == {"diverged"}
    assert "every run ended early" in (workflow.root / "figures/learning/code_error.svg").read_text()
    assert "all is well" in pudle("audit", workflow.root) and workflow.jobs() == {}


def test_the_scheduler_sleeps_until_a_job_ends(checkout, tmp_path):
    said = Workflow(checkout, tmp_path, TOY)("--verbose")
    assert 10 < said.count("Ready jobs: ") <= said.count("Finished jobid") + 1


def test_a_second_run_on_the_same_results_is_refused(checkout, tmp_path):
    workflow = Workflow(checkout, tmp_path, TOY)
    with workflow.start() as first:
        while not (tmp_path / "results/toy/.lock").exists():
            time.sleep(0.05)
        assert "in use by another run" in workflow(status=1)
        assert first.wait() == 0


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"experiments": {"learning": {"estimators": ["ae-lss"]}}}, ["'ae-lss'", "did you mean 'ae-ls'", "toy.yaml, line"]),
        ({"data": None}, ["'data' is None, not of type object", "toy.yaml, line 1"]),
        ({"data": "../mydata"}, ["'data' is '../mydata', not of type object", "toy.yaml, line 1"]),
        ({"experiments": {"baselines": {"methods": {3: {}}}}}, ["has the key 3", "toy.yaml, line"]),
    ],
)
def test_bad_configuration_is_one_paragraph_and_writes_nothing(config, words, checkout, tmp_path):
    workflow = Workflow(checkout, tmp_path, {"scale": "toy"} | config)
    said = workflow(status=1)
    for word in words:
        assert word in said
    assert "Traceback" not in said
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_braces_in_paths_of_the_configuration_are_no_wildcards(checkout, tmp_path):
    (tmp_path / "of{a}").mkdir()
    pudle("new-method", "mine", "--folder", tmp_path / "of{a}")
    paths = {"data": {"root": str(tmp_path / "{d}")}, "reference": str(tmp_path / "of{a}")}
    run = Workflow(checkout, tmp_path, TOY | paths | {"plugins": [str(tmp_path / "of{a}" / "mine.py")]})
    assert run.jobs()["cell_learning"] == 4
    run("--cores", "1", f"results/{TOY['scale']}/config.json")
    assert json.loads((run.root / "config.json").read_text(encoding="utf-8"))["data"] == paths["data"]


def test_a_checkout_in_a_folder_with_braces_is_refused_in_words(checkout, tmp_path):
    (tmp_path / "a{b}").symlink_to(checkout)
    assert "a{b}: braces in the name of a folder" in Workflow(tmp_path / "a{b}", tmp_path, TOY)("--dry-run", status=1)


@pytest.mark.slow
def test_jobs_use_the_interpreter_of_the_workflow_whatever_its_name(checkout, tmp_path):
    """Many systems have `python3` alone, or another `python` first on the path."""
    venv.create(tmp_path / "env", symlinks=True)
    for path in (tmp_path / "env" / "bin").glob("python*"):
        path.unlink()
    (tmp_path / "env" / "bin" / "python3").symlink_to(os.path.realpath(sys.executable))
    (packages,) = (tmp_path / "env").glob("lib/*/site-packages")
    (packages / "all.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    (tmp_path / "python").write_text("#!/bin/sh\nexit 3\n", encoding="utf-8")
    (tmp_path / "python").chmod(0o755)
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(TOY), encoding="utf-8")
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    words = ["-m", "snakemake", "configuration", "-s", checkout / "Snakefile", "--configfile", "toy.yaml"]
    command = [tmp_path / "env" / "bin" / "python3", *words]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
