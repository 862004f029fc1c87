"""The comparison of the estimator with scikit-learn's, at toy size."""

from pathlib import Path

import numpy as np
import pytest
import torch

import pudle


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    return pytest.importorskip("estimator")


def test_all_models_learn_from_the_same_start(benchmark):
    x = pudle.make_sparse_data(300, 10, 12, 2, seed=0, noise=0.05, dtype=torch.float64).x.numpy()
    table = benchmark.curves(x, 0.2, 12, seconds=0.1)
    assert list(table.columns) == ["model", "seconds", "objective"]
    assert list(table.model.unique()) == ["dec", "ae-lasso", "ae-ls", benchmark.THEIRS]
    starts = [model.dict_init for _, model, _ in benchmark.learners(x, 0.2, 12)]
    before = benchmark.objective(x, starts[0], 0.2)
    assert all(np.array_equal(start, starts[0]) for start in starts)
    for model, rows in table.groupby("model"):
        assert rows.seconds.is_monotonic_increasing
        assert rows.objective.iloc[-1] < before or model in ("dec", "ae-ls")  # which lower another loss


def test_the_objective_is_the_lassos(benchmark):
    """In one orthonormal atom the code is the softened product: ½(x − z)² + λ|z| with z = x − λ is λx − λ²/2."""
    assert benchmark.objective(np.array([[2.0]]), np.array([[1.0]]), 0.5) == pytest.approx(0.5 * 2 - 0.5**2 / 2)


def test_the_data_are_centred_and_have_the_sizes_that_are_told(benchmark):
    sets = benchmark.data_sets()
    assert {name: x.shape for name, (x, _, _) in sets.items()} == {"digits": (1797, 64), "patches": (benchmark.PATCHES, 64)}
    assert np.abs(sets["digits"][0].mean(axis=0)).max() < 1e-12 and np.abs(sets["patches"][0].mean(axis=1)).max() < 1e-12
