"""pyproject.toml, requirements.txt, requirements-docs.txt and environment.yml say the same."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from workflows import copy_of_the_repository

ROOT = Path(__file__).parents[1]
NOT_INSTALLED = {"bm3d"}  # its licence is for non-commercial use
APART = {"docs"}  # make docs installs it
NOT_IN_CONDA = {"ci"}  # wheels of programs that are no Python
CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib"}


def _pins(file: str = "requirements.txt") -> dict[str, str]:
    lines = (ROOT / file).read_text().splitlines()
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line), f"{file}: not a plain pin: {line}"
    return {name.lower().replace("_", "-"): version for name, version in (line.split("==") for line in lines)}


def _direct(without: set[str] = APART) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    left_out = NOT_INSTALLED | without
    extras = [line for extra, lines in project["optional-dependencies"].items() for line in lines if extra not in left_out]
    return [Requirement(line) for line in project["dependencies"] + extras]


def test_every_direct_dependency_is_pinned_within_its_range():
    pins = _pins()
    for requirement in _direct():
        assert requirement.specifier.contains(pins[requirement.name]), requirement
    assert pins["torch"] == "2.13.0"
    docs = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["docs"]
    of_docs = _pins("requirements-docs.txt")
    assert not set(of_docs) & set(pins), "one package, one pin"
    assert {Requirement(line).name for line in docs} <= set(of_docs)


def test_conda_has_the_same_direct_dependencies_at_the_same_versions():
    entries = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    conda = dict(entry.split("=") for entry in entries)
    assert conda.pop("python") == "3.11"
    pins = _pins()
    assert {CONDA_NAMES.get(name, name): version for name, version in conda.items()} == {
        requirement.name: pins[requirement.name] for requirement in _direct(APART | NOT_IN_CONDA)
    }


LIBRARY = """
import sys

sys.modules |= dict.fromkeys({refused})  # importing one of these is an ImportError
import pudle

assert pudle.__file__.startswith({folder!r}), pudle.__file__
public = [getattr(pudle, name) for name in pudle.__all__ if name != "methods"]
data = pudle.make_sparse_data(n_samples=30, n_features=10, n_atoms=12, sparsity=2, seed=0)
learned = pudle.UnrolledDictionaryLearning(n_components=12, max_iter=2).fit(data.x.numpy())
assert learned.components_.shape == (12, 10)
"""


@pytest.mark.slow
def test_a_wheel_has_all_files_and_the_library_needs_no_package_of_the_workflow(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path]
    copy = copy_of_the_repository(tmp_path / "source")
    subprocess.run([*build, copy], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("pudle-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("pudle/")}
        (metadata,) = (archive.read(name).decode() for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        assert {"License-Expression: BSD-3-Clause", "License-File: LICENSE"} <= set(metadata.splitlines())
        assert any(name.endswith(".dist-info/licenses/LICENSE") for name in archive.namelist())
        archive.extractall(tmp_path / "installed")
    assert packed == {path.relative_to(copy).as_posix() for path in (copy / "pudle").rglob("*") if path.is_file()}
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    modules = {
        "pyyaml": "yaml",
        "pywavelets": "pywt",
    }  # scikit-learn imports pandas and threadpoolctl, numba yaml, if they are there
    names = {Requirement(line).name for lines in extras.values() for line in lines} - {"pandas", "pyyaml", "threadpoolctl"}
    program = LIBRARY.format(
        refused={modules.get(name, name.replace("-", "_")) for name in names}, folder=str(tmp_path / "installed")
    )
    environment = {"PYTHONPATH": str(tmp_path / "installed"), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-P", "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
