"""Each benchmark runs at toy size; the comparisons of the estimator with others are of the same start and the same objective."""

import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import pudle

FOLDER = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(path.name for path in FOLDER.glob("*.py") if path.name != "measuring.py")


@pytest.fixture
def learning(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("learning")


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_each_benchmark_prints_and_writes_its_table_at_toy_size(script, tmp_path):
    copied = shutil.copytree(FOLDER, tmp_path / "benchmarks", ignore=shutil.ignore_patterns("out", "__pycache__"))
    done = subprocess.run([sys.executable, copied / script, "--toy"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^\|.*\|\n\|[-:|]+\|\n(\|.*\|\n)*\|.*\d.*\|$", done.stdout, re.M), done.stdout
    assert (copied / "out" / script).with_stem(f"{Path(script).stem}-toy").with_suffix(".csv").exists()


def test_the_benchmarks_are_listed_on_their_page():
    listed = re.findall(r"^python benchmarks/(\w+\.py)", (FOLDER / "README.md").read_text(encoding="utf-8"), re.M)
    assert sorted(listed) == SCRIPTS


def test_all_models_learn_from_the_same_start(learning):
    x = pudle.make_sparse_data(300, 10, 12, 2, seed=0, noise=0.05, dtype=torch.float64).x.numpy()
    problem = learning._drawn(x, 0.2, 12)
    curves = learning.curves(problem, 0.1, threads=1, clock="processor")
    before = learning.objective(problem.x, problem.start, problem.lam)
    assert list(dict.fromkeys(curves.model))[:5] == ["lasso", *learning.ESTIMATORS, learning.THEIRS]
    for model, rows in curves.groupby("model"):
        assert rows.objective.iloc[-1] < before or model in ("dec", "ae-ls")  # which lower another loss


def test_the_objective_is_the_lassos(learning):
    """In one orthonormal atom the code is the softened product: ½(x − z)² + λ|z| with z = x − λ is λx − λ²/2."""
    assert learning.objective(np.array([[2.0]]), np.array([[1.0]]), 0.5) == pytest.approx(0.5 * 2 - 0.5**2 / 2)


def test_learners_begin_at_one_start_and_the_table_has_the_last_dictionary_by_then(learning):
    problem = learning.problems(toy=True)["synthetic"]
    small = problem._replace(x=problem.x[:64])
    curves = learning.curves(small, 0.02, threads=1, clock="processor").assign(data="synthetic")
    assert list(dict.fromkeys(curves.model)) == list(learning.learners(small, 1))
    start = pudle.dictionary_error(torch.from_numpy(problem.start.T), torch.from_numpy(problem.truth.T))
    for _, rows in curves.groupby("model"):
        assert rows["processor s"].is_monotonic_increasing and rows["processor s"].iloc[-1] >= 0.02
        assert 0 < rows.error.iloc[0] < 2 * start
    table = learning.table_of(curves, (0, 1e9), "processor")
    assert table["0 s"].isna().all()
    np.testing.assert_array_equal(table["1e+09 s"], curves.groupby("model", sort=False).objective.last())


def test_the_data_of_learning_have_the_sizes_that_are_told(learning):
    found = learning.problems(toy=False)
    assert {name: (*each.x.shape, len(each.start)) for name, each in found.items()} == {
        "digits": (1797, 64, 64),
        "patches, 100 atoms": (20_000, 64, 100),
        "patches, 256 atoms": (20_000, 64, 256),
        "synthetic": (10_000, 50, 100),
    }
    for each in found.values():
        np.testing.assert_allclose(np.linalg.norm(each.start, axis=1), 1)
    assert np.abs(found["digits"].x.mean(axis=0)).max() < 1e-12
    patches = found["patches, 100 atoms"].x
    assert patches.std() == pytest.approx(1) and np.abs(patches.mean(axis=1)).max() < 1e-12
