"""Jobs without start-up: `pudle` in forks of one process that has imported everything.

A job spends seconds on imports, which is longer than many cells take. The workflow therefore starts a server, which imports once. Each job
of the workflow runs this file as a client, for which the server forks:

    python -SE workflow/job_server.py ARGUMENTS...     `pudle ARGUMENTS...` in a fork of the server at $PUDLE_JOBS, or in this process
    python workflow/job_server.py --serve SOCKET WORK  the server, with the imports of jobs that `compute`, `draw` or do both
                                                       (`compute,draw`); when its standard input ends, it ends too, and with it all its jobs

The fork takes over the client's arguments, folder, environment and standard streams. It receives the client's SIGTERM, and ends when
its client does. Only the standard library is imported by a client. Threads come after the fork: pudle's jobs set their number
themselves.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Collection, Mapping

ADDRESS = "PUDLE_JOBS"
COMPUTE, DRAW = "compute", "draw"  # what jobs do: cells and controls compute, figures draw
FOREIGN = ("MPLBACKEND", "MATPLOTLIBRC", "NUMBA_DISABLE_JIT")
OF_PYTHON = (
    "PYTHONPATH",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONPYCACHEPREFIX",
    "PYTHONNOUSERSITE",
    "PYTHONUSERBASE",
)  # variables that jobs keep
RETRIED = "PUDLE_RETRIED"  # set where a scheduler tries a job that failed again, with more memory
CGROUPS, MEMBERSHIP = "/sys/fs/cgroup", "/proc/self/cgroup"


def address(folder: str) -> str:
    """The path of the socket of a server in ``folder``: the value of :data:`ADDRESS` for its jobs."""
    return os.path.join(folder, "jobs")


def start(folder: str, *works: str) -> subprocess.Popen | None:
    """Start a server with its socket in ``folder``. Only commands that receive its :func:`address` use it.

    ``works`` says what most of its jobs do, :data:`COMPUTE` or :data:`DRAW`. Other jobs run as well, but spend time on imports.
    The server runs the package beside this file's folder, and ends with the last reference to the returned process. If no socket can be
    created, for example because the path of the folder is too long, a warning is printed, the result is None, and each job is a process of
    its own.
    """
    listening = socket.socket(getattr(socket, "AF_UNIX", socket.AF_INET))
    try:
        listening.bind(address(folder))
        listening.listen(128)
    except (OSError, TypeError) as error:  # TypeError: the system has no sockets with paths
        listening.close()
        reason = f"no socket in {folder} ({error}); TMPDIR sets the folder"
        print(f"Each job will take seconds longer to start: {reason}", file=sys.stderr)
        return None
    command = [sys.executable, __file__, "--serve", str(listening.fileno()), ",".join(works)]
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    with listening:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            pass_fds=[listening.fileno()],
            start_new_session=True,
            env=own(os.environ) | {"PYTHONPATH": search_path(package)},
        )


def search_path(package: str) -> str:
    """PYTHONPATH of jobs: ``package``, and what the planning process has, so that both find the packages that plug-ins import.

    Empty entries, which mean the working folder, are left out.
    """
    return os.pathsep.join([package, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))])


def own(environment: Mapping[str, str]) -> dict[str, str]:
    """``environment`` without variables that would change what jobs import or draw, with UTF-8 as the encoding of text."""
    kept = (name for name in environment if name not in FOREIGN and (name in OF_PYTHON or not name.startswith("PYTHON")))
    return {name: environment[name] for name in kept} | {"PYTHONUTF8": "1"}


def request(arguments: list[str]) -> int:
    """Let the server run ``pudle ARGUMENTS``; returns the exit status. Raises OSError if there is no server.

    If the system kills the process of a cell because memory is exhausted, and no scheduler will try again with more memory, the cell is
    recorded as failed. Cells that a person kills are not recorded, and run again.
    """
    before = memory_kills()
    status = ask(arguments)
    if status is None and arguments[0] == "cell" and memory_kills() > before and RETRIED not in os.environ:
        status = ask([*arguments, "--failed", "out of memory: the system killed the process of this cell"])
    if status is None:
        print("the process of this job was killed", file=sys.stderr)
    return 1 if status is None else status


def ask(arguments: list[str]) -> int | None:
    """The exit status of ``pudle ARGUMENTS``; None if its process was killed."""
    with socket.socket(socket.AF_UNIX) as server:
        message = json.dumps({"arguments": arguments, "folder": os.getcwd(), "environment": own(os.environ)}).encode()
        try:
            server.connect(os.environ[ADDRESS])
            socket.send_fds(server, [len(message).to_bytes(8, "big")], [0, 1, 2])
            server.sendall(message)
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, lambda *_: pass_on(server))
            status = server.recv(1)
        except OSError as error:  # any kind: there is no server, or it ended before it accepted the job
            raise ConnectionRefusedError(*error.args) from None
    return status[0] if status else None


def pass_on(server: socket.socket) -> None:
    """Send a SIGTERM on to a job, which then ends, after its next saved state if its training saves states. No effect if it has ended."""
    with contextlib.suppress(OSError):
        server.send(b"t")


def memory_kills() -> int:
    """How many processes of this control group Linux has killed because memory was exhausted; 0 if unknown. Jobs belong to the same group."""
    with contextlib.suppress(OSError), open(MEMBERSHIP, encoding="utf-8") as groups:
        for line in groups:
            number, controllers, path = line.rstrip("\n").split(":", 2)
            if number == "0":
                name = f"{CGROUPS}{path}/memory.events"
            elif "memory" in controllers.split(","):
                name = f"{CGROUPS}/memory{path}/memory.oom_control"
            else:
                continue
            with contextlib.suppress(OSError), open(name, encoding="utf-8") as counters:
                return sum(int(counter.split()[1]) for counter in counters if counter.startswith("oom_kill "))
    return 0


def serve(listening: socket.socket, works: Collection[str]) -> None:
    """Fork for each request until standard input ends. The server ignores SIGTERM, which schedulers send to all processes; its forks do not."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        preload(works)
    except Exception as error:  # a job that needs the failed import reports the error in its own log
        print(f"Each job will take seconds longer to start: {type(error).__name__}: {error}", file=sys.stderr)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system removes ended forks, since the server does not wait for them
    while True:
        ready, _, _ = select.select([listening, sys.stdin], [], [])
        if sys.stdin in ready:
            os.killpg(0, signal.SIGKILL)
        client, _ = listening.accept()
        if os.fork() == 0:
            for number in (signal.SIGCHLD, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            listening.close()
            client.sendall(bytes([work(client)]))
            os._exit(0)
        client.close()


def preload(works: Collection[str]) -> None:
    """Import the modules of jobs that do ``works``, and fill the caches of what these modules load when they are first used.

    The packages imported here other than pudle are those that pudle imports inside functions.
    """
    import gc

    import scipy.optimize
    import scipy.stats

    from pudle import cli, experiments
    from pudle.harness import plugins, provenance

    assert cli and scipy.optimize and scipy.stats
    plugins.load([])
    for experiment in experiments.EXPERIMENTS:
        experiments.get(experiment)
    if COMPUTE in works:
        _compute()
    if DRAW in works:
        _draw()
    provenance.packages()
    gc.collect()
    gc.freeze()


def _compute() -> None:
    """Import what cells and controls use, and load the compiled loops."""
    import skimage.metrics
    import sklearn.datasets
    import sklearn.decomposition
    import torch

    from pudle import dictionary_gradient, experiments, lasso
    from pudle.core import networks
    from pudle.core.unrolling import Unrolling
    from pudle.harness import provenance

    assert skimage and sklearn.datasets and sklearn.decomposition
    for experiment in experiments.EXPERIMENTS:
        run = experiments.get(experiment).run
        run.load()
        provenance.fingerprint(run.module)
    torch.set_num_threads(1)  # a fork could not use threads that were started here
    torch.optim.Adam([torch.zeros(1)])
    image, two_layers = torch.ones(1, 1, 2, 2), {"lam": 0.1, "step": 0.1, "n_layers": 2}

    def load_layers(dtype):
        for estimator in ("dec", "ae-ls"):
            dictionary_gradient(torch.eye(2, dtype=dtype), torch.eye(2, dtype=dtype), estimator, **two_layers)

    def load_half():
        networks.filter_gradient(image, image, "ae-ls", Unrolling(**two_layers), stride=1)
        load_layers(torch.float64)

    if not (compiling := os.fork()):  # in parallel with the other half, in case the loops are not compiled yet
        try:
            load_half()
        finally:
            os._exit(0)
    load_layers(torch.float32)
    lasso(torch.eye(2), torch.eye(2), 0.1)
    os.waitpid(compiling, 0)
    load_half()


def _draw() -> None:
    """Draw once, which fills the caches of matplotlib."""
    import io

    from pudle.analysis import style

    figure, (axis,) = style.panels()  # before anything else imports matplotlib, without the user's settings
    import matplotlib.pyplot as plt

    axis.set(yscale="log", xlabel="$x$")
    for kind in ("pdf", "png", "svg"):
        figure.savefig(io.BytesIO(), format=kind)
    plt.close(figure)


def work(client: socket.socket) -> int:
    """Run the command of ``client`` in this process; returns the exit status."""
    size, streams, _, _ = socket.recv_fds(client, 8, 3)
    message = json.loads(client.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL))
    for standard, stream in enumerate(streams):
        os.dup2(stream, standard)
        os.close(stream)
    # The server's own streams remember whether they could seek; the client's may be pipes.
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", closefd=False)
    os.chdir(message["folder"])
    os.environ.clear()
    os.environ.update(message["environment"])
    threading.Thread(target=_end_with, args=[client], daemon=True).start()
    from pudle.cli import main

    try:
        main(message["arguments"], prog_name="pudle")
    except SystemExit as ended:
        status = ended.code
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # the log may be on a full disk
            stream.flush()
    return status if isinstance(status, int) else int(status is not None)


def _end_with(client: socket.socket) -> None:
    """Pass on each SIGTERM that the client receives; end at once when the client does."""
    while client.recv(1):
        os.kill(os.getpid(), signal.SIGTERM)
    os._exit(1)


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        serve(socket.socket(fileno=int(sys.argv[2])), sys.argv[3].split(","))
    # The configuration is written while the server still imports: it needs few imports, and all cells wait for it.
    if ADDRESS in os.environ and sys.argv[1:2] != ["configuration"]:
        with contextlib.suppress(ConnectionRefusedError):
            sys.exit(request(sys.argv[1:]))
    os.execve(sys.executable, [sys.executable, "-P", "-m", "pudle", *sys.argv[1:]], own(os.environ))


if __name__ == "__main__":
    main()
