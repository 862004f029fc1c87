"""pyproject.toml, requirements.txt and environment.yml say the same."""

import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
NOT_INSTALLED = {"bm3d"}  # its licence is for non-commercial use
CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib"}


def _pins() -> dict[str, str]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line), f"requirements.txt: not a plain pin: {line}"
    return {name.lower().replace("_", "-"): version for name, version in (line.split("==") for line in lines)}


def _direct() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for extra, lines in project["optional-dependencies"].items() for line in lines if extra not in NOT_INSTALLED]
    return [Requirement(line) for line in project["dependencies"] + extras]


def test_every_direct_dependency_is_pinned_within_its_range():
    pins = _pins()
    for requirement in _direct():
        assert requirement.specifier.contains(pins[requirement.name]), requirement
    assert pins["torch"] == "2.13.0"


def test_conda_has_the_same_direct_dependencies_at_the_same_versions():
    entries = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    conda = dict(entry.split("=") for entry in entries)
    assert conda.pop("python") == "3.11"
    pins = _pins()
    assert {CONDA_NAMES.get(name, name): version for name, version in conda.items()} == {
        requirement.name: pins[requirement.name] for requirement in _direct()
    }
