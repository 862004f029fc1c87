"""What is run and recorded does not depend on the folder that one stands in, or on a repository above."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pudle.audit import rerun
from pudle.cli import doctor
from pudle.harness import provenance

ROOT = Path(__file__).parents[1]
ASK = "from pudle.harness import provenance; print(provenance._git())"


def _git(folder, *words):
    """Without the person's settings, such as signatures of commits."""
    environment = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull}
    command = ["git", "-c", "user.name=n", "-c", "user.email=e@x", *words]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, env=environment)


def _recorded_commit(home, **environment) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = [sys.executable, "-P", "-c", ASK]
    environment = clean | {"PYTHONPATH": str(home)} | environment
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    """The package in a repository of its own, inside of a repository of others."""
    _git(tmp_path, "init", "-q")
    _git(tmp_path, "commit", "-q", "--allow-empty", "-m", "theirs")
    home = tmp_path / "mine"
    shutil.copytree(ROOT / "pudle", home / "pudle", ignore=shutil.ignore_patterns("__pycache__"))
    return home


def test_the_commit_is_that_of_the_checkout_alone(checkout):
    assert _recorded_commit(checkout) == "None"
    _git(checkout, "init", "-q")
    _git(checkout, "commit", "-q", "--allow-empty", "-m", "empty")
    assert _recorded_commit(checkout) == "None"  # not tracked
    _git(checkout, "add", "pudle")
    _git(checkout, "commit", "-q", "-m", "all")
    commit = _recorded_commit(checkout)
    assert "'clean': True" in commit
    assert _recorded_commit(checkout, GIT_DIR=str(checkout.parent / ".git"), GIT_WORK_TREE=str(checkout.parent)) == commit


def test_cells_are_run_again_beside_files_with_names_of_modules(tmp_path, monkeypatch):
    """As `pudle audit --rerun` runs them."""
    (tmp_path / "json.py").write_text("raise SystemExit(3)", encoding="utf-8")
    (tmp_path / "pudle").mkdir()
    monkeypatch.chdir(tmp_path)
    environment = os.environ | {"PYTHONPATH": str(rerun.HOME)}
    done = subprocess.run([sys.executable, "-P", "-m", "pudle", "--version"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "version" in done.stdout, done.stderr


def test_an_editable_install_is_an_entry_of_the_path(tmp_path):
    """A finder for the package alone would come after a folder `pudle` of the working folder."""
    pytest.importorskip("setuptools")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "pudle").mkdir()
    (tmp_path / "pudle" / "__init__.py").touch()
    program = "from setuptools import build_meta; print(build_meta.build_editable('.'))"
    done = subprocess.run([sys.executable, "-P", "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(tmp_path / done.stdout.split()[-1]) as wheel:
        (entry,) = (name for name in wheel.namelist() if name.endswith(".pth"))
        assert Path(wheel.read(entry).decode().strip()).samefile(tmp_path)


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make")
def test_make_sees_that_an_environment_was_moved(tmp_path):
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    scripts = tmp_path / ".venv" / "bin"
    scripts.mkdir(parents=True)
    for home, said in ((scripts, False), (Path("/of/another/.venv/bin"), True)):
        (scripts / "pip").write_text(f"#!{home}/python\n", encoding="utf-8")
        (tmp_path / ".venv" / "complete").touch()
        plan = subprocess.run(["make", "-n", "setup"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        assert ("venv --clear" in plan) == said


def test_of_a_package_that_is_installed_twice_the_version_that_is_imported_counts(tmp_path, monkeypatch):
    """As with an environment that also sees the packages of the system."""
    (tmp_path / "numpy-0.0.1.dist-info").mkdir()
    (tmp_path / "numpy-0.0.1.dist-info" / "METADATA").write_text("Name: numpy\nVersion: 0.0.1\n", encoding="utf-8")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    provenance.packages.cache_clear()
    assert provenance.packages()["numpy"] == importlib.metadata.version("numpy") != "0.0.1"
    (tmp_path / "requirements.txt").write_text(f"numpy=={importlib.metadata.version('numpy')}\n", encoding="utf-8")
    assert doctor._packages(tmp_path / "requirements.txt").how == "ok"
    provenance.packages.cache_clear()


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make")
def test_make_installs_every_package_into_the_environment(tmp_path):
    """pip leaves out what PYTHONPATH has, and installs where its own variables say."""
    foreign = {
        "PYTHONPATH": str(tmp_path),
        "PYTHONHOME": "/usr",
        "PIP_TARGET": str(tmp_path),
        "PIP_PREFIX": "/opt",
        "PIP_USER": "1",
    }
    command = ["make", "-f", ROOT / "Makefile", "--eval=environment: ; @env", "environment"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | foreign, capture_output=True, text=True, check=True)
    seen = dict(line.split("=", 1) for line in done.stdout.splitlines() if line.split("=")[0] in foreign)
    assert seen == {"PIP_USER": "0"}
