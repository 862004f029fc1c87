"""The workflow on a scheduler: a private SLURM of one node, which these tests bring up where they can."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from workflows import ROOT, TOY, Workflow, pudle

from pudle.experiments import EXPERIMENTS

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).parent / "slurm"
PROFILES = ROOT / "workflow" / "profiles"
# The test's SLURM has no accounting, and its jobs are short.
OPTIONS = {
    "slurm": ["--slurm-no-account", "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "2"],
    "slurm-batches": ["--seconds-between-status-checks", "1"],
}
LEARNING = {"experiments": dict.fromkeys(EXPERIMENTS) | {"learning": TOY["experiments"]["learning"] | {"n_layers": [3]}}}


@pytest.fixture(scope="module")
def slurm(tmp_path_factory) -> Iterator[None]:
    tools = os.environ["PATH"] + ":/usr/sbin"
    lacking = [tool for tool in ("munged", "slurmctld", "slurmd", "sbatch") if not shutil.which(tool, path=tools)]
    if os.geteuid() or lacking:
        pytest.skip("needs root and Debian's slurmctld, slurmd, slurm-client and munge")
    folder = tmp_path_factory.mktemp("slurm")
    started = subprocess.run([SCRIPTS / "up.sh", folder, "2"], capture_output=True, text=True)
    try:
        if started.returncode:
            pytest.skip(f"SLURM does not start here: {started.stderr.strip()[-300:]}")
        os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
        yield
    finally:
        subprocess.run([SCRIPTS / "down.sh", folder], check=True, capture_output=True)
        os.environ.pop("SLURM_CONF", None)


def on(profile: str) -> list[str]:
    return ["--workflow-profile", str(PROFILES / profile), *OPTIONS[profile]]


def queue() -> dict[str, str]:
    """Jobs in the queue, by number, and their states."""
    listed = subprocess.run(["squeue", "--noheader", "--format=%F %T"], capture_output=True, text=True, check=True)
    return dict(line.split() for line in listed.stdout.splitlines())


def wait_until(true: Callable[[], object], seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def rows(workflow: Workflow) -> dict[str, bytes]:
    return {path.relative_to(workflow.root).as_posix(): path.read_bytes() for path in workflow.root.glob("cells/*/*/rows.csv")}


def test_the_profiles_batch_every_cell_and_every_control():
    groups = yaml.safe_load((PROFILES / "slurm-batches" / "profile.yaml").read_text())["groups"]
    controlled = [name for name in EXPERIMENTS if (ROOT / "pudle" / "experiments" / name / "controls.py").exists()]
    assert set(groups) == {f"cell_{name}" for name in EXPERIMENTS} | {f"controls_{name}" for name in controlled}


def test_batches_make_what_a_local_run_makes_in_ten_submissions_at_most(slurm, smoke, checkout, tmp_path):
    batched = Workflow(checkout, tmp_path, yaml.safe_load((ROOT / "config" / "smoke.yaml").read_text()))
    batched(*on("slurm-batches"))
    assert 0 < len(list((tmp_path / ".snakemake" / "slurm").iterdir())) <= 10
    first, second = smoke.outputs(), batched.outputs()
    assert set(first) == set(second) and [name for name in first if first[name] != second[name]] == []
    assert "nothing changed but times" in pudle("diff", smoke.root, batched.root)
    assert batched.jobs() == {}  # on one machine there is nothing more to do


def test_a_job_for_each_seed_makes_what_one_for_a_cell_makes(slurm, finished, checkout, tmp_path):
    apart = Workflow(checkout, tmp_path, TOY | LEARNING)
    jobs = apart.jobs(*on("slurm"))
    assert (jobs["seed_learning"], jobs["cell_learning"]) == (4, 2)
    apart(*on("slurm"), "--until", "cell_learning")
    expected = rows(finished)
    assert len(rows(apart)) == 2 and all(expected[name] == made for name, made in rows(apart).items())
    assert not list(apart.root.rglob("seed-*"))
    assert apart.jobs("--until", "cell_learning") == {}


@pytest.mark.parametrize("profile", OPTIONS)
def test_a_run_whose_jobs_are_still_queued_is_refused_and_an_interrupted_one_leaves_none(profile, slurm, checkout, tmp_path):
    """Another job has all processors, so that those of the run wait. The overlay is edited meanwhile, which no job reads."""
    workflow = Workflow(checkout, tmp_path, TOY | LEARNING)
    hog = subprocess.run(
        ["sbatch", "--parsable", "--cpus-per-task=2", "--output=/dev/null", "--wrap", "sleep 600"],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    ).stdout.strip()  # fmt: skip
    try:
        running = subprocess.Popen(
            workflow.command(*on(profile)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        wait_until(lambda: set(queue()) > {hog})
        time.sleep(2)
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        orphans = set(queue()) - {hog}
        said = workflow(*on(profile), status=1)
        assert "scancel" in said and all(number in said for number in orphans) and "Traceback" not in said
        assert set(queue()) == orphans | {hog}
        subprocess.run(["scancel", *orphans], check=True)
        wait_until(lambda: set(queue()) == {hog})
        running = subprocess.Popen(
            workflow.command(*on(profile)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        wait_until(lambda: set(queue()) > {hog})
        for _ in range(2):
            time.sleep(0.5)
            os.killpg(running.pid, signal.SIGINT)
        assert running.wait(600) != 0
        wait_until(lambda: set(queue()) == {hog})
    finally:
        subprocess.run(["scancel", hog], check=True)
        wait_until(lambda: not queue())
