"""The workflow on a scheduler: a private SLURM of one node, which these tests bring up where they can."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from workflows import ROOT, TOY, Workflow, pudle, saved

from pudle.audit.run import Run
from pudle.experiments import EXPERIMENTS, has_controls

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).parent / "slurm"
PROFILES = ROOT / "workflow" / "profiles"
# The test's SLURM has no accounting, and its jobs are short.
OPTIONS = {
    "slurm": ["--slurm-no-account", "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "2"],
    "slurm-batches": ["--seconds-between-status-checks", "1"],
}
ONE = {"learning": TOY["experiments"]["learning"] | {"n_layers": [3], "estimators": ["dec"]}}
LEARNING = TOY | {"experiments": dict.fromkeys(EXPERIMENTS) | ONE}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[None]:
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


@pytest.fixture
def slurm(cluster) -> Iterator[None]:
    """An empty queue, and again one at the end, however the test ends."""
    yield
    if queue():
        subprocess.run(["scancel", *queue()], check=True)
        wait_until(lambda: not queue())


def on(profile: str) -> list[str]:
    return ["--workflow-profile", str(PROFILES / profile), *OPTIONS[profile]]


def queue() -> dict[str, str]:
    """Jobs in the queue, by number, and their states."""
    listed = subprocess.run(["squeue", "--noheader", "--format=%F %T"], capture_output=True, text=True, check=True)
    return dict(line.split() for line in listed.stdout.splitlines())


def state(job: str) -> str:
    listed = ["squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={job}"]
    return subprocess.run(listed, capture_output=True, text=True, check=True).stdout.strip()


class Running:
    """A run of a workflow that was started; its output is in ``run.log`` beside the overlay."""

    def __init__(self, workflow: Workflow, *words: str):
        self.log = workflow.folder / "run.log"
        with open(self.log, "w", encoding="utf-8") as log:
            command = ["env", "--default-signal=INT", *workflow.command(*words)]  # a shell's background jobs ignore it
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def send(self, number: signal.Signals) -> None:
        os.killpg(self.process.pid, number)

    def end(self) -> int:
        return self.process.wait(600)


@contextmanager
def started(workflow: Workflow, *words: str) -> Iterator[Running]:
    """A run in the background, which is killed if it has not ended by itself."""
    run = Running(workflow, *words)
    try:
        yield run
    finally:
        if run.process.poll() is None:
            run.send(signal.SIGKILL)
        run.process.wait()


def wait_until(true: Callable[[], object], run: Running | None = None, seconds: float = 600) -> None:
    """Wait, as long as the ``run`` that is to make it true has not ended."""
    deadline = time.monotonic() + seconds
    while not true():
        ended = run and run.process.poll() is not None
        assert time.monotonic() < deadline and (not ended or true()), run and run.log.read_text()[-2000:]
        time.sleep(0.2)


def test_the_table_has_a_time_for_each_cell_and_each_control():
    """At both scales that batches are for. An experiment without one would count as an hour."""
    table = yaml.safe_load((ROOT / "workflow" / "resources.yaml").read_text())
    sections = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())["experiments"]
    switched_on = {name for name in EXPERIMENTS if sections[name] is not None}
    assert set(table["smoke"]) == set(table["default"]) == switched_on
    assert set(table["negative controls"]) == {name for name in EXPERIMENTS if has_controls(name)}


def test_batches_make_what_a_local_run_makes_in_as_many_submissions(slurm, smoke, checkout, tmp_path):
    profile = (PROFILES / "slurm-batches" / "profile.yaml").read_text()
    batched = Workflow(checkout, tmp_path, yaml.safe_load((ROOT / "config" / "smoke.yaml").read_text()))
    batched(*on("slurm-batches"))
    assert len(list((tmp_path / ".snakemake" / "slurm").iterdir())) == yaml.safe_load(profile)["config"]["batches"]
    first, second = smoke.outputs(), batched.outputs()
    assert set(first) == set(second) and [name for name in first if first[name] != second[name]] == []
    assert "nothing changed except times" in pudle("diff", smoke.root, batched.root)
    assert batched.jobs() == {}  # on one machine there is nothing more to do


@pytest.mark.parametrize("profile", OPTIONS)
def test_an_interrupted_run_leaves_no_jobs(profile, slurm, checkout, tmp_path):
    """Another job has all processors, so that those of the run wait."""
    hold = ["sbatch", "--parsable", "--cpus-per-task=2", "--output=/dev/null", "--wrap", "sleep 600"]
    hog = subprocess.run(hold, capture_output=True, text=True, check=True, cwd=tmp_path).stdout.strip()
    with started(Workflow(checkout, tmp_path, LEARNING), *on(profile)) as run:
        wait_until(lambda: set(queue()) > {hog}, run)
        for _ in range(2):
            time.sleep(0.5)
            run.send(signal.SIGINT)
        assert run.end() != 0
    wait_until(lambda: set(queue()) == {hog})


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
        given = f"{path.parts[-3]}/{path.name}"
        with open("named", "a") as names:
            names.write(f"{given}\\n")
        count, held = Path("named").read_text().split().count(given), Path("held." + path.parts[-3])
        last, seconds = HOLD.get(given, (0, 0))
        if count <= last and not held.exists():
            time.sleep(seconds)
            if count == last:
                held.write_text(f"{os.getpid()} {os.environ['SLURM_JOB_ID']}\\n")
                signal.pause()


sys.addaudithook(hear)
'''


class Held:
    """A run on a scheduler whose jobs are held until a signal comes. ``hold`` says where, by experiment/name of a file in the folder of
    a cell: about to give the file this name for the n-th time, after some seconds at each; at most once for each experiment. Each name
    that is given is written down."""

    def __init__(self, checkout: Path, folder: Path, section: dict, hold: dict[str, tuple[int, float]]):
        plugin = folder / "hold.py"
        plugin.write_text(f"HOLD = {hold!r}\n{HOLD}")
        experiments = dict.fromkeys(EXPERIMENTS) | section
        self.workflow = Workflow(checkout, folder, TOY | {"experiments": experiments, "plugins": [str(plugin)]})

    def wait(self, experiment: str, run: Running) -> tuple[int, str]:
        """The process that is held, and the number of its job in the queue."""
        held = self.workflow.folder / f"held.{experiment}"
        wait_until(lambda: held.exists() and held.read_text().endswith("\n"), run)
        process, job = held.read_text().split()
        return int(process), job

    def given(self, name: str) -> int:
        """How often a file was given this name."""
        return (self.workflow.folder / "named").read_text().split().count(name)

    def records_as_undisturbed(self, folder: Path) -> dict[str, dict]:
        """The records of the cells by experiment. Their files are those that this process computes in ``folder``, and nothing else."""
        root = self.workflow.root
        saved(folder, json.loads((root / "config.json").read_text()) | {"plugins": []})
        records = {}
        for cell in Run(folder).cells:
            pudle("cell", folder, f"{cell.experiment}/{cell.id}")
            made, expected = ({path.name: path.read_bytes() for path in cell.folder(each).iterdir()} for each in (root, folder))
            assert set(made) == set(expected)
            assert all(made[name] == expected[name] for name in ("rows.csv", "arrays.npz") if name in expected)
            records[cell.experiment] = json.loads(made["cell.json"])
        return records


DENOISING = {
    "seeds": 1, "sigmas": [25], "estimators": ["dec"], "lam": 0.16, "lams": [0.16], "thresholds": [], "n_filters": 4, "n_layers": 2,
    "crop": 33, "batch": 1, "updates": 5, "evaluate_every": 5, "variants": {},
    "denoisers": dict.fromkeys(["noisy", "nlm", "wavelet", "wavelet-shifts", "tv", "patch-dictionary", "cbpdn"]),
}  # fmt: skip


def test_a_job_for_each_seed_and_one_that_was_cancelled_or_out_of_time_is_tried_again(slurm, checkout, tmp_path):
    """A seed is cancelled as it is about to be kept. Another has states: SLURM ends its job by its time limit, which is moved to the
    present as its shortest is a minute, and it goes on from there. Meanwhile the overlay is edited, which no job reads."""
    hold = {"learning/seed-1.pt": (1, 0), "denoising/checkpoint-0.pt": (3, 2)}
    held = Held(checkout, tmp_path, ONE | {"denoising": DENOISING}, hold)
    words = [*on("slurm"), "--until", "cell_learning", "cell_denoising"]
    jobs = held.workflow.jobs(*words)
    assert (jobs["seed_learning"], jobs["cell_learning"], jobs["seed_denoising"]) == (2, 1, 1)
    overlay = held.workflow.overlay.read_text()
    with started(held.workflow, *words) as run:
        job = held.wait("denoising", run)[1]
        held.workflow.configure({"scale": "toy", "experiments": dict.fromkeys(EXPERIMENTS)})
        subprocess.run(["scontrol", "update", f"JobId={job}", "EndTime=now"], check=True)
        wait_until(lambda: state(job) == "TIMEOUT", run)
        job = held.wait("learning", run)[1]
        assert list(held.workflow.root.rglob(".*partial.pt"))
        subprocess.run(["scancel", job], check=True)
        assert run.end() == 0, run.log.read_text()
    held.workflow.overlay.write_text(overlay)
    records = held.records_as_undisturbed(tmp_path / "undisturbed")
    assert (held.given("learning/seed-0.pt"), held.given("learning/seed-1.pt")) == (1, 2)
    assert held.given("denoising/checkpoint-0.pt") == DENOISING["updates"] + 2  # that at which it was ended was kept by both
    assert records["denoising"]["seconds"] > 2 * 2  # those of the job that was ended count
    assert held.workflow.jobs("--until", "cell_learning", "cell_denoising") == {}  # nothing is left for one machine


def test_a_run_whose_main_process_was_killed_is_refused_until_its_jobs_have_ended_and_then_goes_on(slurm, checkout, tmp_path):
    """The job has computed a seed, and runs while the run is started once more by each profile. Then its process is killed, too."""
    held = Held(checkout, tmp_path, ONE, {"learning/rows.csv": (1, 0)})
    words = [*on("slurm-batches"), "--until", "cell_learning"]
    with started(held.workflow, *words) as run:
        process, job = held.wait("learning", run)
        run.send(signal.SIGKILL)
        run.end()
    for profile in OPTIONS:
        said = held.workflow(*on(profile), "--until", "cell_learning", status=1)
        assert f"scancel {job}" in said and "Traceback" not in said
    assert set(queue()) == {job}
    assert list(held.workflow.root.rglob("seed-0.pt")) and list(held.workflow.root.rglob(".*partial.csv"))
    os.kill(process, signal.SIGKILL)
    wait_until(lambda: not queue())
    held.workflow(*words)
    held.records_as_undisturbed(tmp_path / "undisturbed")
    assert (held.given("learning/seed-0.pt"), held.given("learning/rows.csv")) == (1, 2)


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
    Workflow(checkout, tmp_path, LEARNING)("--sdm", "conda", "--until", "configuration")
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
    workflow = Workflow(checkout, tmp_path, LEARNING)
    said = workflow("--dry-run", "--default-storage-provider", "elsewhere", "--default-storage-prefix", "a", status=1)
    assert "default-storage-provider is 'elsewhere'" in said and "Traceback" not in said
