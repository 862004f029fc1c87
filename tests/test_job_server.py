"""The workflow's jobs as forks of one process: they must be what a process of their own would have been."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from workflows import configured

SCRIPT = Path(__file__).parents[1] / "workflow" / "job_server.py"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The environment in which jobs find a server, and the server's process."""
    sys.path.insert(0, str(SCRIPT.parent))
    import job_server

    folder = str(tmp_path_factory.mktemp("s"))
    process = job_server.start(folder, job_server.COMPUTE, job_server.DRAW)
    assert job_server.ADDRESS not in os.environ  # jobs that are submitted elsewhere get this environment
    environment = os.environ | {job_server.ADDRESS: job_server.address(folder)}
    sys.path.remove(str(SCRIPT.parent))
    yield environment, process
    process.stdin.close()
    assert process.wait(10) == -signal.SIGKILL
    left = client(["--version"], environment)
    assert "version" in left.communicate()[0] and left.returncode == 0  # by a process of its own


def client(arguments, environment, **options) -> subprocess.Popen:
    command = [sys.executable, "-SE", str(SCRIPT), *arguments]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **options
    )


def cell(root, updates=3) -> list[str]:
    tiny = {"n_samples": 30, "n_features": 8, "n_atoms": 10, "sparsity": 2, "n_layers": [4], "estimators": ["ae-ls"]}
    return ["cell", *configured(root, "learning", updates=updates, **tiny)]


def rows(root) -> Path:
    (path,) = root.glob("cells/learning/*/rows.csv")
    return path


def test_a_fork_writes_what_a_process_of_its_own_writes(server, tmp_path):
    for name, environment in (("fork", server[0]), ("own", dict(os.environ))):
        done = client(cell(tmp_path / name), environment)
        said = done.communicate()
        assert done.returncode == 0, said
        assert "done" in said[1] and not said[0]
    assert rows(tmp_path / "fork").read_bytes() == rows(tmp_path / "own").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [(["claims", "--root", "none"], 2, "Error: none/claims.csv"), (["no"], 2, "No such command")],
)
def test_errors_have_their_status_and_go_to_the_clients_streams(server, tmp_path, arguments, status, says):
    done = client(arguments, server[0], cwd=tmp_path)
    assert says in done.communicate()[1] and done.returncode == status


def forks(server) -> list[int]:
    return [child.pid for child in psutil.Process(server[1].pid).children()]


def wait_for(count, server) -> None:
    deadline = time.monotonic() + 60
    while len(forks(server)) != count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_job_ends_with_its_client_and_a_killed_job_is_told(server, tmp_path):
    endless = cell(tmp_path / "cell", updates=10**6)
    killed = client(endless, server[0])
    wait_for(1, server)
    killed.kill()
    killed.communicate()
    wait_for(0, server)
    alone = client(endless, server[0])
    wait_for(1, server)
    os.kill(forks(server)[0], signal.SIGKILL)
    assert "killed" in alone.communicate()[1] and alone.returncode == 1
    assert not list((tmp_path / "cell").glob("cells/*/*/*"))


SAVING = """
from pudle.harness import checkpoints
from pudle.methods import Method, register

checkpoints.EVERY = 0


@register("none")
class Nothing(Method):
    \"\"\"No method.\"\"\"
    source = "a file of plug-ins must have one"
"""


def test_a_job_whose_client_is_asked_to_end_saves_its_state_first(server, tmp_path):
    tiny = {
        "estimators": ["dec"],
        "n_filters": 2,
        "n_layers": 2,
        "crop": 17,
        "batch": 1,
        "updates": 10**6,
        "evaluate_every": 10**6,
    }
    words = ["cell", *configured(tmp_path / "cell", "denoising", seeds=1, **tiny)]
    (tmp_path / "saving.py").write_text(SAVING)
    job = client([*words, "--plugin", str(tmp_path / "saving.py")], server[0])
    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob("checkpoint-0.pt")):
        assert job.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    job.terminate()
    said = job.communicate()
    assert job.returncode == 128 + signal.SIGTERM, said
    assert [path.name for path in (tmp_path / "cell").glob("cells/*/*/*")] == ["checkpoint-0.pt"]


def test_a_cell_that_the_system_kills_for_memory_is_a_result(server, tmp_path, monkeypatch):
    """By the counter of its own control group, a file here: what is killed elsewhere on the machine does not count."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import job_server

    counters = tmp_path / "jobs" / "memory.events"
    counters.parent.mkdir()
    counters.write_text("max 7\noom_kill 3\n")
    (tmp_path / "membership").write_text("1:cpu:/jobs\n0::/jobs\n")
    monkeypatch.setattr(job_server, "CGROUPS", str(tmp_path))
    monkeypatch.setattr(job_server, "MEMBERSHIP", str(tmp_path / "membership"))
    assert job_server.memory_kills() == 3
    monkeypatch.setenv(job_server.ADDRESS, server[0][job_server.ADDRESS])
    monkeypatch.setenv(job_server.RETRIED, "1")
    words = cell(tmp_path / "cell", updates=10**6)
    with ThreadPoolExecutor() as pool:
        for kills in (4, 5):
            asked = pool.submit(job_server.request, words)
            wait_for(1, server)
            counters.write_text(f"max 9\noom_kill {kills}\n")
            os.kill(forks(server)[0], signal.SIGKILL)
            if kills == 4:  # a scheduler will try again with more memory
                assert asked.result() == 1 and not list((tmp_path / "cell").glob("cells/*/*/*"))
                monkeypatch.delenv(job_server.RETRIED)
        assert asked.result() == 0
    record = json.loads((rows(tmp_path / "cell").parent / "cell.json").read_text())
    assert record["status"] == "failed" and [ending["seed"] for ending in record["endings"]] == [0, 1]
    assert record["endings"][0]["reason"] == "out of memory: the system killed the process of this cell"
    assert rows(tmp_path / "cell").read_text().splitlines() == [
        "seed,step,quantity,value",
        "0,0,failed,1.0",
        "1,0,failed,1.0",
    ]


def test_without_room_for_a_socket_there_is_a_warning_and_no_server(tmp_path, monkeypatch, capfd):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import job_server

    folder = tmp_path / ("x" * 120)  # the path of a socket has 107 characters at most
    folder.mkdir()
    assert job_server.start(str(folder), job_server.COMPUTE) is None
    (line,) = capfd.readouterr().err.splitlines()
    assert str(folder) in line and "TMPDIR" in line


def test_jobs_run_by_themselves_where_the_server_cannot_be_reached(tmp_path):
    done = client(["--version"], os.environ | {"PUDLE_JOBS": str(tmp_path / ("x" * 120))})
    assert "version" in done.communicate()[0] and done.returncode == 0


def test_a_server_that_could_not_import_serves_all_the_same(tmp_path):
    """Here every drawing fails: cells do not care."""
    program = """
import sys; sys.path.insert(0, sys.argv[1]); import job_server
job_server.preload = lambda works: 1 / 0
import socket; job_server.serve(socket.socket(fileno=int(sys.argv[2])), [])
"""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "jobs"))
        listening.listen()
        command = [sys.executable, "-c", program, str(SCRIPT.parent), str(listening.fileno())]
        server = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[listening.fileno()],
            start_new_session=True,
            text=True,
        )
    done = client(["--version"], os.environ | {"PUDLE_JOBS": str(tmp_path / "jobs")})
    assert "version" in done.communicate()[0] and done.returncode == 0
    server.stdin.close()
    server.wait(10)
    assert "ZeroDivisionError" in server.stderr.read()
    server.stderr.close()
