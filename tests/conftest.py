"""One thread: problems here are small, and threads that wait for each other on a busy machine make them a hundred times slower."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import shutil
from pathlib import Path

import pytest
import yaml
from workflows import ROOT, TOY, Workflow, copy_of_the_repository, make_small_run

for name in [name for name in os.environ if name.startswith("GIT_")]:
    del os.environ[name]  # as hooks set them: commits of tests would land in the repository of the hook


def pytest_collection_modifyitems(items):
    """Tests marked ``cuda`` are for machines with a GPU."""
    import torch

    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(pytest.mark.skip(reason="torch finds no GPU here"))


@pytest.fixture(scope="session")
def checkout(tmp_path_factory) -> Path:
    """A copy of the repository."""
    return copy_of_the_repository(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="session")
def finished(checkout, tmp_path_factory) -> Workflow:
    """Two experiments at toy size, run to the end."""
    workflow = Workflow(checkout, tmp_path_factory.mktemp("finished"), TOY)
    workflow()
    return workflow


@pytest.fixture(scope="session")
def smoke(checkout, tmp_path_factory) -> Workflow:
    """The smoke scale, run to the end."""
    overlay = yaml.safe_load((ROOT / "config" / "smoke.yaml").read_text())
    workflow = Workflow(checkout, tmp_path_factory.mktemp("smoke"), overlay)
    workflow()
    return workflow


@pytest.fixture(scope="session")
def small_run(tmp_path_factory) -> Path:
    """A finished run of four cells; only to be read."""
    return make_small_run(tmp_path_factory.mktemp("small") / "small")


@pytest.fixture
def copy(small_run, tmp_path) -> Path:
    """A run to tamper with."""
    return shutil.copytree(small_run, tmp_path / "small")
