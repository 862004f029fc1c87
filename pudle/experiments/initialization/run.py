"""Learn a dictionary from one kind of start at several sparsities, with a hard threshold in the encoder and minibatch Adam.

A fixed λ leaves a bias, so that the number of recovered atoms would depend on λ. With a hard threshold the error of recovered atoms goes
to 0.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from pudle.core.encoding import encode
from pudle.core.gradients import unrolled_gradient
from pudle.core.initialization import gaussian_dictionary, pairwise_dictionary, perturb_dictionary, sample_dictionary
from pudle.core.metrics import align_atoms, dictionary_error
from pudle.core.optimization import ConstrainedDescent
from pudle.core.unrolling import Unrolling
from pudle.data.synthetic import SparseData, make_sparse_data
from pudle.harness.record import Record


def run(settings: Mapping, seeds: Sequence[int], record: Record, make: Callable = make_sparse_data) -> None:
    """Run one cell. Only negative controls override ``make``."""
    for seed in seeds:
        for sparsity in settings["sparsity"]:
            data, test = _draw(settings, sparsity, seed, make)
            for labels, dictionary, found in _starts(settings, data, seed):
                with record.seed(seed, sparsity=sparsity, **labels):
                    if found is not None:
                        record.add(0, {"n_atoms": settings["n_atoms"], "n_pairs": found.n_pairs, "n_found": found.n_found})
                    _learn(settings, dictionary, found.n_found if found else 0, data, test, record)


def _draw(settings: Mapping, sparsity: int, seed: int, make: Callable) -> tuple[SparseData, SparseData]:
    """Training samples and test samples."""
    n = settings["n_samples"]
    x, codes, dictionary = make(
        n + settings["test_samples"],
        settings["n_features"],
        settings["n_atoms"],
        sparsity,
        signs=settings["signs"],
        seed=seed,
    )
    return SparseData(x[:n], codes[:n], dictionary), SparseData(x[n:], codes[n:], dictionary)


def _starts(settings: Mapping, data: SparseData, seed: int) -> Iterator[tuple[dict, Tensor, object]]:
    """Labels, initial dictionary (m, p), and the result of the pairwise method or None; atoms that the method found come first."""
    n_features, n_atoms = data.dictionary.shape
    match settings["start"]:
        case "perturbed":
            for init_noise in settings["init_noise"]:
                yield {"init_noise": init_noise}, perturb_dictionary(data.dictionary, init_noise, seed), None
        case "gaussian":
            yield {}, gaussian_dictionary(n_features, n_atoms, seed), None
        case "samples":
            yield {}, sample_dictionary(data.x, n_atoms, seed), None
        case "arora":
            found = pairwise_dictionary(data.x, n_atoms, seed, max_pairs=settings["max_pairs"])
            rest = gaussian_dictionary(n_features, n_atoms, seed)[:, found.n_found :]
            yield {}, torch.cat([found.dictionary, rest], 1), found


def _learn(settings: Mapping, dictionary: Tensor, n_found: int, data: SparseData, test: SparseData, record: Record) -> None:
    """Learn, and record the measurements before the first update (step 0) and after the last."""
    unrolling = Unrolling(threshold=settings["threshold"], step=settings["step"], n_layers=settings["n_layers"])
    adam = torch.optim.Adam([dictionary], lr=settings["learning_rate"], eps=settings["adam_eps"])
    descent = ConstrainedDescent(adam)
    record.add(0, _measure(settings, dictionary, n_found, test, unrolling))
    for step in range(settings["updates"]):
        batch = torch.arange(step * settings["batch"], (step + 1) * settings["batch"]) % len(data.x)
        gradient, _, loss = unrolled_gradient(data.x[batch], dictionary, settings["estimator"], unrolling)
        record.check(step, loss=loss, gradient=float(gradient.norm()))
        descent.update(gradient)
    record.add(settings["updates"], _measure(settings, dictionary, n_found, test, unrolling))


def _measure(settings: Mapping, dictionary: Tensor, n_found: int, test: SparseData, unrolling: Unrolling) -> dict[str, float]:
    """Errors of a dictionary, its fraction of recovered atoms, and the agreement of the signed supports of its codes with the true ones."""
    true = test.dictionary
    aligned = align_atoms(dictionary, true)
    signs, true_signs = encode(test.x, aligned, **vars(unrolling)).sign(), test.codes.sign()
    hits = ((signs == true_signs) & (true_signs != 0)).sum()
    values = {
        "dictionary_error": dictionary_error(dictionary, true),
        "dictionary_error_aligned": dictionary_error(aligned, true),
        "atoms_recovered": _fraction(torch.linalg.vector_norm(aligned - true, dim=0) <= settings["recovered_within"]),
        "support_exact": _fraction((signs == true_signs).all(1)),
        "support_precision": hits / (signs != 0).sum().clamp_min(1),
        "support_recall": hits / (true_signs != 0).sum(),
    }
    if n_found:
        nearest, distances = _to_nearest(dictionary[:, :n_found], true)
        values |= {
            "found_distance": distances.mean(),
            "found_distance_max": distances.max(),
            "n_distinct": len(nearest.unique()),
        }
    return values


def _fraction(hits: Tensor) -> float:
    return float(hits.float().mean())


def _to_nearest(atoms: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """For each of ``atoms`` (m, k), the index of the nearest true ±atom (k,) and the distance to it (k,)."""
    overlap = atoms.T @ true
    nearest = overlap.abs().argmax(1)
    signs = overlap.gather(1, nearest[:, None])[:, 0].sign()
    return nearest, torch.linalg.vector_norm(signs * atoms - true[:, nearest], dim=0)
