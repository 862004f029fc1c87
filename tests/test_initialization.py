"""Starts: singular values without a matrix, atoms found in the data alone, and the same draws for the same seed."""

import inspect
import math

import numpy as np
import pandas as pd
import pytest
import torch

from pudle.core.initialization import (
    background,
    gaussian_dictionary,
    pair_product,
    pairwise_dictionary,
    perturb_dictionary,
    sample_dictionary,
    top_singular,
    unit_norm,
)
from pudle.data.synthetic import make_sparse_data
from pudle.errors import PudleError
from pudle.experiments.initialization.claims import CLAIMS


@pytest.fixture
def pairs():
    """Data (n, m), pairs u, v (B, m), and their M_uv as an explicit (B, m, m) array, in float64."""
    x, *_ = make_sparse_data(120, 12, 16, 2, seed=0, signs="independent", dtype=torch.float64)
    u, v, x = x[:6], x[6:12], x[12:]
    explicit = torch.einsum("ni,bi,nj,bj,nk,nl->bkl", x, u, x, v, x, x) / len(x)
    return x, u, v, explicit


def test_products_are_those_of_the_matrix(pairs):
    x, u, v, explicit = pairs
    w = torch.randn(6, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(pair_product(x, u, v)(w), torch.einsum("bkl,bl->bk", explicit, w))


def test_singular_values_are_those_of_an_svd(pairs):
    x, u, v, explicit = pairs
    start = torch.randn(2, 6, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    product = pair_product(x, u, v)
    first, top = top_singular(product, start[0], 3000)
    second, other = top_singular(product, start[1], 3000, orthogonal_to=top)
    expected = torch.linalg.svdvals(explicit)
    torch.testing.assert_close(torch.stack([first, second], 1), expected[:, :2], rtol=1e-6, atol=0)
    torch.testing.assert_close((top * other).sum(1), torch.zeros(6, dtype=torch.float64), rtol=0, atol=1e-10)
    few, _ = top_singular(product, start[0], 3)
    assert (few <= first).all(), "power iteration approaches from below"


def test_the_background_is_bounded_and_is_all_there_is_in_gaussian_data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(100_000, 4, dtype=torch.float64, generator=generator) * torch.tensor([1.0, 0.5, 2.0, 1.0])
    u, v = torch.randn(2, 5, 4, dtype=torch.float64, generator=generator)
    covariance = x.T @ x / len(x)
    largest, _ = top_singular(pair_product(x, u, v), torch.ones(5, 4, dtype=torch.float64), 300)
    assert (largest < 1.04 * background(u, v, covariance, torch.linalg.matrix_norm(covariance, 2))).all()


def _easy(n_samples: int = 6000) -> tuple[torch.Tensor, torch.Tensor]:
    """Orthonormal atoms, two of them in a sample, independent signs."""
    _, codes, dictionary = make_sparse_data(n_samples, 24, 24, 2, signs="independent", seed=0)
    dictionary, _ = torch.linalg.qr(dictionary)
    return codes @ dictionary.T, dictionary


def test_all_atoms_of_an_easy_problem_are_found():
    x, dictionary = _easy()
    found = pairwise_dictionary(x, 24, 0, max_pairs=20_000)
    overlap = (found.dictionary.T @ dictionary).abs()
    assert found.n_found == 24 and found.n_pairs < 20_000
    assert overlap.argmax(1).unique().numel() == 24
    assert ((2 - 2 * overlap.amax(1)).clamp_min(0).sqrt() < 1 / math.log(24)).all()
    torch.testing.assert_close(found.dictionary.norm(dim=0), torch.ones(24))


def test_a_budget_ends_the_search_and_the_count_is_told():
    x, _ = _easy()
    found = pairwise_dictionary(x, 24, 0, max_pairs=40, block=16)
    assert found.n_pairs == 40 and found.dictionary.shape == (24, found.n_found) and found.n_found < 24
    gaussian = torch.randn(2000, 24, generator=torch.Generator().manual_seed(0))
    assert pairwise_dictionary(gaussian, 24, 0, max_pairs=500).n_found == 0, "there are no atoms in Gaussian data"


def test_found_atoms_do_not_depend_on_the_scale_of_the_data():
    x, _ = _easy(2000)
    small, large = (pairwise_dictionary(scale * x, 24, 0, max_pairs=400) for scale in (1.0, 64.0))
    assert small.n_found == large.n_found > 0
    torch.testing.assert_close(small.dictionary, large.dictionary)


def test_only_the_perturbed_start_knows_the_truth():
    for start in (gaussian_dictionary, sample_dictionary, pairwise_dictionary):
        names = set(inspect.signature(start).parameters)
        assert not {name for name in names if "true" in name or "codes" in name or "dictionary" in name}, start


@pytest.mark.parametrize(
    "start",
    [
        lambda x, seed: gaussian_dictionary(24, 30, seed),
        lambda x, seed: sample_dictionary(x, 30, seed),
        lambda x, seed: perturb_dictionary(unit_norm(x[:30].T), 0.1, seed),
        lambda x, seed: pairwise_dictionary(x, 24, seed, max_pairs=300).dictionary,
    ],
)
def test_starts_are_of_unit_norm_and_repeat_with_the_seed(start):
    x, _ = _easy(2000)
    before = x.clone()
    first = start(x, 0)
    assert torch.equal(first, start(x, 0)) and torch.equal(x, before)
    other = start(x, 1)
    assert first.shape != other.shape or not torch.equal(first, other)
    torch.testing.assert_close(first.norm(dim=0), torch.ones(first.shape[1]))


def test_samples_as_atoms_are_samples():
    x, _ = _easy(50)
    atoms = sample_dictionary(x, 50, 0)
    cosines = torch.nn.functional.normalize(x) @ atoms
    assert sorted(cosines.argmax(0).tolist()) == list(range(50))
    with pytest.raises(PudleError, match="51 atoms cannot be drawn from 50 samples"):
        sample_dictionary(x, 51, 0)
    with pytest.raises(PudleError, match="at least 4 samples"):
        pairwise_dictionary(x[:3], 5, 0, max_pairs=1)


def _recovered(basins: dict[int, float]) -> pd.DataFrame:
    """Rows of three seeds that recover all atoms up to a δ for each sparsity, and none beyond."""
    labels = {"start": "perturbed", "signs": "shared", "quantity": "atoms_recovered", "step": 9}
    return pd.DataFrame(
        [
            labels | {"seed": seed, "sparsity": s, "init_noise": noise, "value": float(noise <= basin)}
            for seed in range(3)
            for s, basin in basins.items()
            for noise in (0.1, 0.2, 0.3, 0.4)
        ]
    )


@pytest.mark.parametrize(
    ("basins", "effect", "verdict"),
    [
        ({2: 0.3, 4: 0.2, 8: 0.1}, 0.15 / 0.35, "SUPPORTED"),
        ({2: 0.1, 8: 0.3}, 0.35 / 0.15, "CONTRADICTED"),
        ({2: 1.0, 8: 1.0}, 1.0, "INCONCLUSIVE"),
        ({2: 1.0, 8: 0.0}, 0.1 / 0.4, "SUPPORTED"),
    ],
)
def test_the_claim_on_the_basin(basins, effect, verdict):
    judged = next(claim for claim in CLAIMS if claim.id == "basin-shrinks").judge(_recovered(basins))
    np.testing.assert_allclose(judged["effect"], effect)
    assert judged["verdict"] == verdict
