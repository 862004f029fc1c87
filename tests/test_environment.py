"""What a person has set for other programs changes nothing: matplotlib's settings, the locale, Python's variables."""

import ast
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import click
import pytest
import yaml

from pudle import experiments
from pudle.audit.run import Run
from pudle.cli import main
from pudle.data import catalogue
from pudle.errors import PudleError

DRAW = """
import sys, pandas
from pudle.analysis import style
figure, (axis,) = style.panels()
axis.set(xlabel="λ")
axis.plot([1, 2], label="a")
axis.legend()
style.save(figure, pandas.DataFrame({"a": [1]}), sys.argv[1], "toy")
"""
STYLE = "axes.facecolor: lightyellow\nsvg.fonttype: none\nlegend.fontsize: 20\ntext.usetex: True\nfont.size: 30\n"
ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


def _python(*words, folder=None, **environment) -> str:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MPL", "MATPLOTLIB"))}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=plain | environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_figures_have_the_same_bytes_whatever_matplotlib_is_set_to(tmp_path):
    styled = tmp_path / "styled"
    styled.mkdir()
    (styled / "matplotlibrc").write_text(STYLE, encoding="utf-8")
    latin = tmp_path / "latin"
    for file in ("matplotlibrc", "home/matplotlib/matplotlibrc", "home/matplotlib/stylelib/mine.mplstyle"):
        (latin / file).parent.mkdir(parents=True, exist_ok=True)
        (latin / file).write_text("# Schriftgröße\nfont.size: 30\n", encoding="latin-1")
    backend = "module://of_a_notebook.backend_inline"
    for name, folder, environment in (
        ("plain", tmp_path, {}),
        ("file", styled, {}),
        ("variables", tmp_path, {"MATPLOTLIBRC": str(styled), "MPLBACKEND": backend}),
        ("latin", latin, {}),
        ("home", tmp_path, {"XDG_CONFIG_HOME": str(latin / "home"), "MATPLOTLIBRC": str(latin)}),
    ):
        _python("-c", DRAW, str(tmp_path / name), folder=folder, **environment)
    drawn = ("plain", "file", "variables", "latin", "home")
    for kind in ("pdf", "png", "svg"):
        assert len({(tmp_path / f"{name}.{kind}").read_bytes() for name in drawn}) == 1, kind


def test_configurations_mean_the_same_in_every_locale(tmp_path):
    (tmp_path / "a.yaml").write_text("name: ν–λ\n", encoding="utf-8")
    ask = "import pathlib, sys; from pudle.harness import settings; print(ascii(settings.read(pathlib.Path(sys.argv[1]))))"
    assert _python("-c", ask, str(tmp_path / "a.yaml")) == _python("-c", ask, str(tmp_path / "a.yaml"), **ASCII)


@pytest.mark.parametrize("environment", [ASCII, {"PYTHONIOENCODING": "latin-1"}, {"PYTHONOPTIMIZE": "2"}], ids=str)
def test_the_command_line_works_in_every_locale_and_without_docstrings(environment):
    assert "noodl" in _python("-m", "pudle", "methods", **environment)


def test_jobs_are_given_an_environment_of_their_own(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "workflow"))
    import job_server

    foreign = dict.fromkeys(
        (*job_server.FOREIGN, "PYTHONWARNINGS", "PYTHONOPTIMIZE", "PYTHONHASHSEED", "PYTHONIOENCODING"), "x"
    )
    assert job_server.own({"HOME": "/h", "OMP_NUM_THREADS": "1"} | foreign) == {
        "HOME": "/h",
        "OMP_NUM_THREADS": "1",
        "PYTHONUTF8": "1",
    }


def test_jobs_find_the_packages_that_the_planning_process_finds(monkeypatch, tmp_path):
    """Those of PYTHONPATH too, as modules of clusters set it, but nothing more: an empty entry is the working folder."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "workflow"))
    import job_server

    started = []
    monkeypatch.setattr(job_server.subprocess, "Popen", lambda command, env, **options: started.append(env))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}")
    job_server.start(str(tmp_path))
    assert started[0]["PYTHONPATH"].split(os.pathsep) == [str(Path(__file__).parents[1]), str(tmp_path)]


def test_a_server_that_ends_costs_time_and_no_job(monkeypatch, tmp_path):
    """It takes the connection, and ends before it takes the job."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "workflow"))
    import job_server

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "jobs"))
        listening.listen()
        monkeypatch.setenv(job_server.ADDRESS, str(tmp_path / "jobs"))
        ending = threading.Thread(target=lambda: _reset(listening))
        ending.start()
        with pytest.raises(ConnectionRefusedError):
            job_server.ask(["methods"])
        ending.join()


def _reset(listening) -> None:
    client, _ = listening.accept()
    client.recv(1)  # what is left unread makes the system reset the connection
    client.close()


def test_text_is_utf_8_wherever_it_is_read_or_written():
    """Files inside packages too, whose types the linter does not know."""
    for path in [*Path(catalogue.__file__).parents[1].rglob("*.py"), Path(__file__).parents[1] / "workflow" / "job_server.py"]:
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(getattr(call, "func", None), "attr", "")
            given = {word.arg for word in getattr(call, "keywords", ())}
            assert name not in ("read_text", "write_text") or "encoding" in given, f"{path}, line {call.lineno}"


def test_data_are_looked_for_at_home_where_a_tilde_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PUDLE_DATA", "~/data")
    assert catalogue.data_root() == tmp_path / "data"


def _parameters(command):
    yield from command.params
    for inner in getattr(command, "commands", {}).values():
        yield from _parameters(inner)


def test_a_tilde_is_the_home_folder_in_every_path_of_the_command_line(monkeypatch, tmp_path):
    """Shells expand it in ``--root ~/runs``, but not in ``--root=~/runs``."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "file").touch()
    kinds = [parameter.type for parameter in _parameters(main) if isinstance(parameter.type, click.Path)]
    assert kinds
    for kind in kinds:
        there = "file" if kind.exists and kind.file_okay else ""
        assert kind.convert(f"~/{there}", None, None) == tmp_path / there


def test_an_audit_looks_for_data_at_home_where_the_configuration_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PUDLE_DATA", raising=False)
    config = {"scale": "smoke", "data": {"root": "~/data"}, "experiments": {}}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert Run(tmp_path).data == str(tmp_path / "data")


def test_braces_in_the_folder_of_results_are_refused_with_the_key():
    config = yaml.safe_load((Path(__file__).parents[1] / "config" / "config.yaml").read_text(encoding="utf-8"))
    with pytest.raises(PudleError, match=r"'results' is 'out/\{user\}': Snakemake reads braces"):
        experiments.validate(config | {"results": "out/{user}"})


@pytest.mark.parametrize(("data_set", "name"), [("folder:", "a.png"), ("mnist", "t10k-images-idx3-ubyte.gz")])
def test_what_lies_beside_the_data_does_not_change_their_contents(data_set, name, tmp_path):
    folder = tmp_path / "mnist"
    folder.mkdir()
    data_set = f"folder:{folder}" if data_set == "folder:" else data_set
    (folder / name).write_bytes(b"1")
    before = catalogue.contents(data_set, tmp_path)
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "film.mp4").write_bytes(b"x")
    assert catalogue.contents(data_set, tmp_path) == before
    (folder / name).write_bytes(b"2")
    assert catalogue.contents(data_set, tmp_path) != before
