# Checks the configuration, plans the cells, and keeps a second run out of the same results folder.
import functools
import gc
import glob
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from filelock import FileLock, Timeout
from snakemake.exceptions import WorkflowError
from snakemake.io import IOFile
from snakemake.logging import logger
from snakemake.settings.types import DeploymentMethod
from snakemake.utils import update_config

if set("{}") & set(str(BASE)):
    raise WorkflowError(
        f"{BASE}: braces in the name of a folder are wildcards to Snakemake; move the checkout, or rename the folder"
    )

sys.path[:0] = [BASE, f"{BASE}/workflow"]
import job_server
from pudle import experiments
from pudle.data import catalogue
from pudle.errors import PudleError
from pudle.harness import files, plan, plugins, provenance, reference, resources, settings, stale

gc.freeze()  # exclude loaded modules from garbage collection, which planning triggers often

# Jobs use the interpreter and the code that planned them. `pudle` runs in a fork of this process's job server, which has imported
# everything. Only commands of this process contain the server's address; jobs on other machines do not use the server.
SOCKET = tempfile.TemporaryDirectory()
HERE = shlex.quote(str(BASE))
# With conda, jobs use the interpreter of its environment, which the server cannot fork.
FORKS = DeploymentMethod.CONDA not in workflow.deployment_settings.deployment_method
PYTHON, PREFIX = "python", f"export PYTHONPATH={HERE}"
if FORKS:
    PYTHON = shlex.quote(sys.executable)  # its folder may have no `python`
    PREFIX = f"export PYTHONPATH={shlex.quote(job_server.search_path(str(BASE)))}"
    PREFIX += f" PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH {job_server.ADDRESS}={shlex.quote(job_server.address(SOCKET.name))}"
if not workflow.is_main_process:
    PREFIX += f" {job_server.RETRIED}=1"
PREFIX += f'; pudle() {{ {PYTHON} -SE {HERE}/workflow/job_server.py "$@"; }}; '
shell.prefix(PREFIX.replace("{", "{{").replace("}", "}}"))  # Snakemake formats the prefix

if workflow.storage_settings.default_storage_provider:
    raise WorkflowError(
        f"default-storage-provider is {workflow.storage_settings.default_storage_provider!r}: results are written and read by their paths, "
        "which a storage provider would change. Leave it out, and set 'results' to a folder on a file system that all nodes share"
    )
OPTIONS = settings.typed(dict(workflow.config_settings.config))
KEPT = Path(os.environ.get("PUDLE_RUN", os.devnull))
# Jobs read the configuration and the plan that the run has saved, even if the overlay has changed since.
SAVED = not workflow.is_main_process and (KEPT / "config.json").is_file() and (KEPT / plan.PLAN).is_file()
if SAVED:
    config.clear()
    config.update(files.read_json(KEPT / "config.json"))
else:
    update_config(config, OPTIONS)
data = config.get("data")
os.environ.setdefault("PUDLE_DATA", str(data.get("root", "data") if isinstance(data, dict) else "data"))
OVERLAYS = [os.path.relpath(f"{BASE}/config/config.yaml"), *workflow.overwrite_configfiles]
if workflow.is_main_process:
    try:
        experiments.validate(config, OVERLAYS, OPTIONS)
    except PudleError as error:
        raise WorkflowError(str(error)) from None

# These affect only how jobs are divided; their results are the same.
SEEDS_APART = config.pop("seeds_apart", False)
BATCHES = config.pop("batches", None)
ROOT = f"{Path(config['results']).expanduser()}/{config['scale']}"
LOCK = FileLock(f"{ROOT}/.lock")  # held from onstart until this process ends for any reason
plugins.load(config.get("plugins", ()))
CELLS = {f"{cell.experiment}/{cell.id}": cell for cell in (plan.read(KEPT) if SAVED else experiments.plan(config))}
PLANNED = [f"{ROOT}/config.json", f"{ROOT}/{plan.PLAN}"]
CONFIGURATION = json.dumps(config, indent=1, ensure_ascii=False) + "\n"
PLUGINS = [glob.escape(str(Path(path).expanduser())) for path in config.get("plugins", [])]
EXPERIMENTS = sorted({cell.experiment for cell in CELLS.values()})
if workflow.is_main_process:
    os.environ["PUDLE_RUN"] = ROOT


envvars:
    "PUDLE_DATA",
    "PUDLE_RUN",


@functools.cache
def planning():
    """Whether this process plans the run. One that was submitted with several jobs starts a job server for them instead."""
    if FORKS and not workflow.is_main_process and len(workflow.dag_settings.target_jobs) > 1:
        SOCKET.server = job_server.start(SOCKET.name, job_server.COMPUTE)
    return workflow.is_main_process


def cell(experiment, wildcards):
    return CELLS[f"{experiment}/{wildcards.cell}"]


MEASURED = yaml.safe_load(Path(f"{BASE}/workflow/resources.yaml").read_text(encoding="utf-8"))


def measured(experiment):
    return resources.measured(MEASURED, config["scale"], experiment)


def minutes(experiment, wildcards, attempt, n_seeds=None):
    chosen = cell(experiment, wildcards)
    least = 1 if BATCHES else resources.LEAST_MINUTES  # the minutes of the jobs of a batch are summed
    return resources.minutes(chosen, n_seeds or len(chosen.seeds), measured(experiment)["seconds"], attempt, least)


def megabytes(experiment, attempt):
    return resources.memory(measured(experiment)["memory"], attempt)


@functools.cache
def batches():
    """The batch of each job that this run will submit, by the job's rule and wildcards."""
    seconds = {}
    for job in workflow.dag.needrun_jobs():
        kind, _, experiment = job.rule.name.partition("_")
        if kind == "controls":
            seconds[job.rule.name,] = resources.measured(MEASURED, "negative controls", experiment)["seconds"]
        elif kind == ("seed" if SEEDS_APART else "cell"):
            n_seeds = 1 if kind == "seed" else len(cell(experiment, job.wildcards).seeds)
            seconds[job.rule.name, *job.wildcards] = n_seeds * measured(experiment)["seconds"]
    # Snakemake submits unconnected jobs of a group together only up to its number of components.
    workflow.group_settings.group_components = {f"batch-{i}": len(seconds) for i in range(BATCHES)}
    return resources.batches(seconds, BATCHES)


def batch(rule):
    """The group of the jobs of a rule: one for each batch; None without batches."""
    return (lambda wildcards: f"batch-{batches().get((rule, *wildcards), 0)}") if BATCHES else None


def folder_of(chosen):
    return Path(f"{ROOT}/cells/{chosen.experiment}/{chosen.id}")


@functools.cache
def why_stale(name):
    chosen = CELLS[name]
    differing = functools.partial(catalogue.differing, data_sets=experiments.data_sets(chosen), root=catalogue.data_root())
    return stale.reason(chosen, folder_of(chosen), experiments.fingerprint(chosen), config["device"], differing)


# Whether the saved configuration and plan must be written again. If an input of a job is made again, even an `ancient` one, Snakemake 9 does not
# test whether the job itself has a reason to run. So if both are written again, the configuration is `ancient` only for jobs that need not run.
CHANGED = workflow.is_main_process and not all(map(files.holds, PLANNED, (CONFIGURATION, plan.text(CELLS.values()))))


def configuration(again=True):
    """The saved configuration as an input. With ``again`` the job runs if configuration and plan are written again.

    Jobs read the plan, too, which is written with the configuration. It is no input of its own: Snakemake would compute all cells again if
    the plan alone is missing, as in runs of older versions.
    """
    return f"{ROOT}/config.json" if CHANGED and again else ancient(f"{ROOT}/config.json")


@functools.cache
def kept_configuration():
    """The configuration that an earlier run has saved; empty if there is none."""
    try:
        return files.read_json(f"{ROOT}/config.json")
    except PudleError:
        return {}


@functools.cache
def kept_cells():
    """The plan that an earlier run has saved; empty if there is none."""
    try:
        return plan.read(ROOT)
    except PudleError:
        return []


def concerns(experiment):
    """Whether configuration and plan are written again, with a change in a part that affects ``experiment``."""
    parts = (
        [
            {**merged, "experiments": (merged.get("experiments") or {}).get(experiment)},
            [plan.described(cell) for cell in planned if cell.experiment == experiment],
        ]
        for merged, planned in ((kept_configuration(), kept_cells()), (config, CELLS.values()))
    )
    return CHANGED and len({files.canonical_json(part) for part in parts}) > 1


def again_if_stale(experiment, wildcards):
    """Make Snakemake run a cell again if it does not agree with the plan.

    Snakemake itself compares with its records in the working folder, which are not copied with results.
    """
    if not planning():
        return configuration(again=False)
    chosen = cell(experiment, wildcards)
    folder, why = folder_of(chosen), why_stale(f"{experiment}/{wildcards.cell}")
    if why:
        logger.info(f"{folder} is computed again: its {why} changed")
        workflow.dag.forcefiles.add(f"{folder}/cell.json")
    is_complete = all((folder / name).exists() for name in ("rows.csv", "cell.json"))
    return configuration(again=bool(why) or not is_complete)


def again_if_changed(wildcards):
    """Make Snakemake write the saved configuration and plan again if an earlier run saved others."""
    if planning() and CHANGED:
        workflow.dag.forcefiles.update(PLANNED)
    return []


def again_if_unknown(path):
    """Make Snakemake write ``path``, a product of cells, again if it has no record of it, for example after results were copied."""

    def check(wildcards):
        name = path.format(**wildcards)
        if planning() and os.path.exists(name) and not workflow.persistence.metadata(IOFile(name)):
            workflow.dag.forcefiles.add(name)
        return []

    return check


def cell_files(experiment=None):
    """The records of cells."""
    return [f"{ROOT}/cells/{name}/cell.json" for name, cell in CELLS.items() if experiment in (None, cell.experiment)]


def row_files(experiment=None):
    """The inputs of stages that read rows: the rows of cells, and their records, which hold the hashes of rows, timings and arrays."""
    return [path for record in cell_files(experiment) for path in (record, record.replace("cell.json", "rows.csv"))]


def seed_files(experiment, wildcards):
    """The files of a cell's seeds; empty unless each seed is a job."""
    folder = f"{ROOT}/cells/{experiment}/{wildcards.cell}"
    return [f"{folder}/seed-{seed}.pt" for seed in cell(experiment, wildcards).seeds] if SEEDS_APART else []


def planned(experiment=None):
    """A hash of the set of cells. Snakemake itself does not notice that a cell was removed from the grid."""
    return hashlib.sha256("\n".join(sorted(cell_files(experiment))).encode()).hexdigest()[:16]


def figure_files(experiment):
    names = [figure.name for figure in experiments.get(experiment).figures]
    return [f"{ROOT}/figures/{experiment}/{name}.{kind}" for name in names for kind in ("pdf", "png", "svg", "csv")]


def products():
    """All files that a run writes, except the manifest."""
    return [
        PLANNED,
        row_files(),
        [f"{ROOT}/{name}" for name in ("cells.csv", "claims.md", "published.md", "report/index.html")],
        [f"{ROOT}/tables/{experiment}.csv" for experiment in EXPERIMENTS],
        [f"{ROOT}/controls/{experiment}.csv" for experiment in filter(experiments.has_controls, EXPERIMENTS)],
        [figure_files(experiment) for experiment in EXPERIMENTS],
    ]


def contents(*patterns):
    """A hash of the contents of the files that match, since time stamps of sources do not matter."""
    paths = sorted(path for pattern in patterns for path in glob.glob(pattern))
    return hashlib.sha256("\n".join(map(files.sha256, paths)).encode()).hexdigest()[:16]


def code(*parts):
    """Fingerprint of the given modules of pudle and all that they import."""
    return provenance.fingerprint(*(f"pudle.{name}" for name in parts))


SUBMITTED = Path(f"{ROOT}/logs/submitted")  # numbers of the jobs submitted to a scheduler


def refuse_while_queued():
    """Raise WorkflowError if SLURM still has jobs of an earlier run, whose main process was killed: they would be submitted a second time."""
    if not SUBMITTED.exists() or not shutil.which("squeue"):
        return
    listed = subprocess.run(["squeue", "--noheader", "--format=%F"], capture_output=True, text=True).stdout.split()
    queued = " ".join(sorted(set(SUBMITTED.read_text(encoding="utf-8").split()).intersection(listed), key=int))
    if queued:
        raise WorkflowError(
            f"{ROOT}: SLURM still has jobs of an earlier run: {queued}. Wait until they have ended, or cancel them: scancel {queued}"
        )
    SUBMITTED.unlink()


def keep_numbers_of_jobs():
    """Write the number of each job that is submitted to :data:`SUBMITTED`. Snakemake's own record of it is lost when the job starts."""
    started = workflow.persistence.started

    def keep(job, external_jobid=None):
        if external_jobid:
            SUBMITTED.parent.mkdir(exist_ok=True)
            with open(SUBMITTED, "a", encoding="utf-8") as numbers:
                print(re.match(r"\d*", external_jobid)[0], file=numbers)  # for a task of an array, the number of the array
        started(job, external_jobid)

    workflow.persistence.started = keep


onstart:
    try:
        if workflow.local_exec:
            experiments.require_gpu(config, OVERLAYS, OPTIONS)
        Path(ROOT).mkdir(parents=True, exist_ok=True)
        LOCK.acquire(timeout=0)
        refuse_while_queued()
        keep_numbers_of_jobs()
        files.sweep(ROOT)
    except PudleError as error:
        raise WorkflowError(str(error)) from None
    except Timeout:
        raise WorkflowError(f"{ROOT} is in use by another run of this workflow: wait for it to end") from None
    except OSError as error:
        raise WorkflowError(f"{ROOT} cannot be written to: {error.strerror}; nothing was run") from None
    if FORKS:
        computes = workflow.local_exec or SEEDS_APART  # seeds are merged here
        SOCKET.server = job_server.start(SOCKET.name, *[job_server.COMPUTE] * computes, job_server.DRAW)
    if workflow.local_exec:
        # With a limit of jobs per second, each round of Snakemake's scheduler starts a timer that starts another round, and rounds accumulate.
        workflow.scheduler.job_rate_limiter = None
