# Checks the configuration, plans the cells, and keeps a second run out of the same results folder.
import functools
import gc
import glob
import hashlib
import json
import os
import re
import shlex
import sys
import tempfile
from pathlib import Path

from filelock import FileLock, Timeout
from snakemake.exceptions import WorkflowError
from snakemake.io import IOFile
from snakemake.logging import logger
from snakemake.utils import update_config

sys.path[:0] = [workflow.basedir, f"{workflow.basedir}/workflow"]
import job_server
from pudle import experiments
from pudle.data import catalogue
from pudle.errors import PudleError
from pudle.harness import files, provenance, reference, settings, stale

gc.freeze()  # what is loaded by now stays: planning makes much that is collected soon, each time past all of that

# Jobs use the interpreter and the code that planned them; `pudle` is a fork of the job server, which saves its imports.
BIN, HERE = (
    shlex.quote(str(path)).replace("{", "{{").replace("}", "}}") for path in (Path(sys.executable).parent, workflow.basedir)
)  # a prefix is a format
shell.prefix(
    f"export PATH={BIN}:$PATH PYTHONPATH={HERE}; " f'pudle() {{{{ python -SE {HERE}/workflow/job_server.py "$@"; }}}}; '
)

OPTIONS = settings.typed(dict(workflow.config_settings.config))
update_config(config, OPTIONS)
data = config.get("data")
os.environ.setdefault("PUDLE_DATA", str(data.get("root", "data") if isinstance(data, dict) else "data"))
try:
    experiments.validate(
        config, [os.path.relpath(f"{workflow.basedir}/config/config.yaml"), *workflow.overwrite_configfiles], OPTIONS
    )
except PudleError as error:
    raise WorkflowError(str(error)) from None

ROOT = f"{Path(config['results']).expanduser()}/{config['scale']}"
LOCK = FileLock(f"{ROOT}/.lock")  # held from onstart to the end of this process, however it ends
CELLS = {f"{cell.experiment}/{cell.id}": cell for cell in experiments.plan(config)}
SOCKET = tempfile.TemporaryDirectory()  # the job server's
CONFIGURATION = json.dumps(config, indent=1, ensure_ascii=False) + "\n"
PLUGINS = [glob.escape(str(Path(path).expanduser())) for path in config.get("plugins", [])]
EXPERIMENTS = sorted({cell.experiment for cell in CELLS.values()})


def cell(experiment, wildcards):
    return CELLS[f"{experiment}/{wildcards.cell}"]


def plugin(cell):
    """The option that names the file of a user's plug-in, for the cells that need one."""
    file = experiments.source_file(cell)
    return [f"--plugin={path}" for path in config.get("plugins", []) if file == Path(path).expanduser().resolve()]


@functools.cache
def digest(data_set):
    return catalogue.digest(data_set, catalogue.data_root())


@functools.cache
def digest_of_file(name):
    """SHA-256 of an input of a cell, by its name in cell.json, now; None where it is not there."""
    root, _, inside = name.partition("/")
    path = catalogue.roots().get(root, Path(os.devnull)) / inside
    return files.sha256(path) if path.is_file() else None


def folder_of(chosen):
    return Path(f"{ROOT}/cells/{chosen.experiment}/{chosen.id}")


def why_stale(chosen):
    return stale.reason(chosen, folder_of(chosen), experiments.fingerprint(chosen), config["device"], digest_of_file)


def again_if_stale(experiment, wildcards):
    """No input, but a cell that does not agree with the plan is put on Snakemake's list of jobs that it is made to run.

    Snakemake compares with what it remembers in the working folder, and that does not travel with results.
    """
    chosen = cell(experiment, wildcards)
    folder, why = folder_of(chosen), why_stale(chosen)
    if why:
        logger.info(f"{folder} is computed again: its {why} changed")
        workflow.dag.forcefiles.add(f"{folder}/cell.json")
    return []


def again_if_changed(wildcards):
    """The same for the configuration that is kept: that of an earlier run may stand there."""
    if not files.holds(f"{ROOT}/config.json", CONFIGURATION):
        workflow.dag.forcefiles.add(f"{ROOT}/config.json")
    return []


def again_if_unknown(path):
    """The same for what is made from cells, where Snakemake does not know what made it: results that were copied, say."""

    def check(wildcards):
        name = path.format(**wildcards)
        if os.path.exists(name) and not workflow.persistence.metadata(IOFile(name)):
            workflow.dag.forcefiles.add(name)
        return []

    return check


def cell_files(experiment=None):
    return [f"{ROOT}/cells/{name}/cell.json" for name, cell in CELLS.items() if experiment in (None, cell.experiment)]


def planned(experiment=None):
    """Changes with the set of cells: Snakemake alone does not see that a cell has left the grid."""
    return hashlib.sha256("\n".join(sorted(cell_files(experiment))).encode()).hexdigest()[:16]


def figure_files(experiment):
    names = [figure.name for figure in experiments.get(experiment).figures]
    return [f"{ROOT}/figures/{experiment}/{name}.{kind}" for name in names for kind in ("pdf", "png", "svg", "csv")]


def products():
    """Everything that a run makes, but for its manifest."""
    return [
        f"{ROOT}/config.json",
        cell_files(),
        [f"{ROOT}/{name}" for name in ("cells.csv", "claims.md", "published.md", "report/index.html")],
        [f"{ROOT}/tables/{experiment}.csv" for experiment in EXPERIMENTS],
        [f"{ROOT}/controls/{experiment}.csv" for experiment in filter(experiments.has_controls, EXPERIMENTS)],
        [figure_files(experiment) for experiment in EXPERIMENTS],
    ]


def contents(*patterns):
    """SHA-256 of the files that match: sources count by what is in them, never by their time stamps."""
    paths = sorted(path for pattern in patterns for path in glob.glob(pattern))
    return hashlib.sha256("\n".join(map(files.sha256, paths)).encode()).hexdigest()[:16]


def code(*parts):
    """Fingerprint of the given modules of pudle and all that they import."""
    return provenance.fingerprint(*(f"pudle.{name}" for name in parts))


onstart:
    try:
        Path(ROOT).mkdir(parents=True, exist_ok=True)
        LOCK.acquire(timeout=0)
        files.sweep(ROOT)
    except Timeout:
        raise WorkflowError(f"{ROOT} is in use by another run of this workflow: wait for it to end") from None
    except OSError as error:
        raise WorkflowError(f"{ROOT} cannot be written to: {error.strerror}; nothing was run") from None
    SOCKET.server = job_server.start(SOCKET.name)
    # With a limit of jobs in a second, each round of Snakemake's scheduler starts a timer that starts another round: they pile up.
    workflow.scheduler.job_rate_limiter = None
