"""The workflow on a scheduler: a private SLURM of one node, which these tests bring up where they can."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from workflows import ROOT, TOY, Workflow, pudle

from pudle.audit.run import Run
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


def state(job: str) -> str:
    listed = ["squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={job}"]
    return subprocess.run(listed, capture_output=True, text=True, check=True).stdout.strip()


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
    assert "nothing changed except times" in pudle("diff", smoke.root, batched.root)
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
        running = workflow.start(*on(profile), start_new_session=True)
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
        running = workflow.start(*on(profile), start_new_session=True)
        wait_until(lambda: set(queue()) > {hog})
        for _ in range(2):
            time.sleep(0.5)
            os.killpg(running.pid, signal.SIGINT)
        assert running.wait(600) != 0
        wait_until(lambda: set(queue()) == {hog})
    finally:
        subprocess.run(["scancel", hog], check=True)
        wait_until(lambda: not queue())


HOLD = '''
import os
import signal
import sys
import time
from pathlib import Path

from pudle.harness import checkpoints
from pudle.methods import Method, register


@register("none")
class Nothing(Method):
    """No method."""
    source = "a file of plug-ins must have one"


checkpoints.EVERY = 0


def hear(event, arguments):
    path = Path(os.fsdecode(arguments[1])) if event == "os.rename" else Path()
    if path.parts[-4:-3] == ("cells",):
        given = path.name
        with open("named", "a") as names:
            names.write(f"{given}\\n")
        count = Path("named").read_text().split().count(given)
        if given == NAME and count <= COUNT and not Path("held").exists():
            time.sleep(SECONDS)
            if count == COUNT:
                Path("held").write_text(f"{os.getpid()} {os.environ['SLURM_JOB_ID']}\\n")
                signal.pause()


sys.addaudithook(hear)
'''


class Held:
    """A run on a scheduler, with a job held where it is about to give a file in the folder of a cell its ``name`` for the ``count``-th
    time, after ``seconds`` at each, until a signal comes. Each name that is given is written down."""

    def __init__(self, checkout: Path, folder: Path, section: dict, name: str, count: int = 1, seconds: float = 0):
        plugin = folder / "hold.py"
        plugin.write_text(f"NAME, COUNT, SECONDS = {(name, count, seconds)!r}\n{HOLD}")
        experiments = dict.fromkeys(EXPERIMENTS) | section
        self.workflow = Workflow(checkout, folder, TOY | {"experiments": experiments, "plugins": [str(plugin)]})

    def wait(self) -> tuple[int, str]:
        """The process that is held, and the number of its job in the queue."""
        held = self.workflow.folder / "held"
        wait_until(lambda: held.exists() and held.read_text().endswith("\n"))
        process, job = held.read_text().split()
        return int(process), job

    def given(self, name: str) -> int:
        """How often a file was given this name."""
        return (self.workflow.folder / "named").read_text().split().count(name)

    def finish_as_undisturbed(self, folder: Path) -> dict:
        """The record of the only cell, whose files are those of one that this process computes in ``folder``, and nothing else."""
        root = self.workflow.root
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(json.loads((root / "config.json").read_text()) | {"plugins": []}))
        (cell,) = Run(folder).cells
        pudle("cell", folder, f"{cell.experiment}/{cell.id}")
        made, expected = ({path.name: path.read_bytes() for path in cell.folder(each).iterdir()} for each in (root, folder))
        assert set(made) == set(expected)
        assert all(made[name] == expected[name] for name in ("rows.csv", "arrays.npz") if name in expected)
        return json.loads(made["cell.json"])


@pytest.mark.parametrize("profile, name", [("slurm", "seed-1.pt"), ("slurm-batches", "rows.csv")])
def test_a_killed_job_leaves_nothing_half_written_and_finished_seeds_are_not_computed_again(
    profile, name, slurm, checkout, tmp_path
):
    """A job is cancelled and tried again; or its process is killed, nobody tries again, and a second run goes on."""
    words = [*on(profile), "--until", "cell_learning"]
    held = Held(checkout, tmp_path, {"learning": LEARNING["experiments"]["learning"] | {"estimators": ["dec"]}}, name)
    running = held.workflow.start(*words, *([] if profile == "slurm" else ["--retries", "0"]))
    process, job = held.wait()
    wait_until(lambda: list(held.workflow.root.rglob("seed-0.pt")))
    assert list(held.workflow.root.rglob(f".*partial{Path(name).suffix}"))
    if profile == "slurm":
        subprocess.run(["scancel", job], check=True)
        assert running.wait(600) == 0
    else:
        os.kill(process, signal.SIGKILL)
        assert running.wait(600) == 1
        held.workflow(*words)
    held.finish_as_undisturbed(tmp_path / "undisturbed")
    assert (held.given("seed-0.pt"), held.given(name)) == (1, 2)


DENOISING = {
    "seeds": 1, "sigmas": [25], "estimators": ["dec"], "lam": 0.16, "lams": [0.16], "thresholds": [], "n_filters": 4, "n_layers": 2,
    "crop": 33, "batch": 1, "updates": 5, "evaluate_every": 5, "variants": {},
    "denoisers": dict.fromkeys(["noisy", "nlm", "wavelet", "wavelet-shifts", "tv", "patch-dictionary", "cbpdn"]),
}  # fmt: skip


def test_a_job_out_of_time_keeps_its_state_and_goes_on_from_there(slurm, checkout, tmp_path):
    """SLURM ends the job by its time limit, which is moved to the present as its shortest is a minute."""
    held = Held(checkout, tmp_path, {"denoising": DENOISING}, "checkpoint-0.pt", count=3, seconds=2)
    running = held.workflow.start(*on("slurm"), "--until", "cell_denoising")
    job = held.wait()[1]
    subprocess.run(["scontrol", "update", f"JobId={job}", "EndTime=now"], check=True)
    wait_until(lambda: state(job) == "TIMEOUT")
    assert running.wait(600) == 0
    record = held.finish_as_undisturbed(tmp_path / "undisturbed")
    assert record["seconds"] > 2 * 2  # those of the job that was ended count
    assert held.given("checkpoint-0.pt") == DENOISING["updates"] + 2  # that at which it was ended was kept by both


CONDA = """#!/usr/bin/env bash
case "$*" in
    "info --json") echo '{{"conda_prefix": "{folder}", "platform": "linux-64"}}' ;;
    --version) echo "conda 24.7.1" ;;
    config*) echo '{{"get": {{"channel_priority": "strict"}}}}' ;;
    *create*)
        prefix="${{@: -1}}"
        while [ $# -gt 0 ]; do if [ "$1" = --prefix ]; then prefix="$2"; fi; shift; done
        mkdir -p "$prefix/bin"
        printf '#!/bin/sh\\necho "$@" >> {folder}/jobs\\nexec {python} "$@"\\n' > "$prefix/bin/python"
        chmod +x "$prefix/bin/python" ;;
esac
"""


def test_with_conda_jobs_use_the_interpreter_of_its_environment(checkout, tmp_path, monkeypatch):
    """A stand-in for conda makes an environment whose Python writes down what it is asked to do."""
    folder = tmp_path / "conda"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "conda").write_text(CONDA.format(folder=folder, python=sys.executable))
    (folder / "bin" / "conda").chmod(0o755)
    (folder / "bin" / "activate").write_text('export PATH="$1/bin:$PATH"\n')
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    Workflow(checkout, tmp_path, TOY | LEARNING)("--sdm", "conda", "--until", "configuration")
    assert "job_server.py configuration" in (folder / "jobs").read_text()


STORAGE = """
from snakemake_interface_storage_plugins.storage_object import StorageObjectRead, StorageObjectWrite
from snakemake_interface_storage_plugins.storage_provider import StorageProviderBase


class StorageProvider(StorageProviderBase):
    pass


class StorageObject(StorageObjectRead, StorageObjectWrite):
    pass


StorageProvider.__abstractmethods__ = frozenset()
"""


def test_a_storage_provider_is_refused_in_words(checkout, tmp_path, monkeypatch):
    """A stand-in for one of Snakemake's plug-ins, of which nothing is ever called."""
    (tmp_path / "plugins" / "snakemake_storage_plugin_elsewhere").mkdir(parents=True)
    (tmp_path / "plugins" / "snakemake_storage_plugin_elsewhere" / "__init__.py").write_text(STORAGE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "plugins"))
    workflow = Workflow(checkout, tmp_path, TOY | LEARNING)
    said = workflow("--dry-run", "--default-storage-provider", "elsewhere", "--default-storage-prefix", "a", status=1)
    assert "default-storage-provider is 'elsewhere'" in said and "Traceback" not in said
