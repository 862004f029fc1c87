# Checks the configuration, plans the cells, and keeps a second run out of the same results folder.
import functools
import gc
import hashlib
import json
import os
import shlex
import sys
import tempfile
from pathlib import Path

from filelock import FileLock, Timeout
from snakemake.exceptions import WorkflowError
from snakemake.utils import update_config

sys.path[:0] = [workflow.basedir, f"{workflow.basedir}/workflow"]
import job_server
from pudle import experiments
from pudle.data import catalogue
from pudle.errors import PudleError
from pudle.harness import files, provenance, settings

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


def cell_files(experiment=None):
    return [f"{ROOT}/cells/{name}/cell.json" for name, cell in CELLS.items() if experiment in (None, cell.experiment)]


def planned(experiment=None):
    """Changes with the set of cells: Snakemake alone does not see that a cell has left the grid."""
    return hashlib.sha256("\n".join(sorted(cell_files(experiment))).encode()).hexdigest()[:16]


def figure_files(experiment):
    names = [figure.name for figure in experiments.part(experiment, "figures").FIGURES]
    return [f"{ROOT}/figures/{experiment}/{name}.{kind}" for name in names for kind in ("pdf", "png", "svg", "csv")]


def products():
    """Everything that a run makes, but for its manifest."""
    return [
        cell_files(),
        [f"{ROOT}/{name}" for name in ("cells.csv", "claims.md", "published.md", "report/index.html")],
        [f"{ROOT}/tables/{experiment}.csv" for experiment in EXPERIMENTS],
        [f"{ROOT}/controls/{experiment}.csv" for experiment in filter(experiments.has_controls, EXPERIMENTS)],
        [figure_files(experiment) for experiment in EXPERIMENTS],
    ]


def code(*parts):
    """Fingerprint of the given modules of pudle and all that they import."""
    return provenance.fingerprint(*(f"pudle.{name}" for name in parts))


onstart:
    try:
        Path(ROOT).mkdir(parents=True, exist_ok=True)
        LOCK.acquire(timeout=0)
        files.sweep(ROOT)
        # Not a rule: what depends on which part of the configuration is in the `params:` of each rule.
        files.write(f"{ROOT}/config.json", json.dumps(config, indent=1, ensure_ascii=False) + "\n")
    except Timeout:
        raise WorkflowError(f"{ROOT} is in use by another run of this workflow: wait for it to end") from None
    except OSError as error:
        raise WorkflowError(f"{ROOT} cannot be written to: {error.strerror}; nothing was run") from None
    SOCKET.server = job_server.start(SOCKET.name)
    # With a limit of jobs in a second, each round of Snakemake's scheduler starts a timer that starts another round: they pile up.
    workflow.scheduler.job_rate_limiter = None
