"""Train a dictionary on images of digits with weight decay; then compute how much each training image contributes to atoms and outputs."""

import sys
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from tqdm import trange

from pudle.core.encoding import encode
from pudle.core.gradients import unrolled_gradient
from pudle.core.interpretation import atom_contributions, explained_dictionary, output_contributions, relation_residual
from pudle.core.random import stream
from pudle.core.unrolling import Unrolling
from pudle.data.catalogue import data_root
from pudle.data.digits import load_digits
from pudle.harness.record import Record

TOP = 10  # number of contributors whose classes are counted
FEW = 0.05  # share of the training images that we call a few per cent
BINS = 40  # of the histograms of the similarity of codes
KEPT = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)  # numbers of contributors that outputs are rebuilt from


def run(
    settings: Mapping,
    seeds: Sequence[int],
    record: Record,
    start_of: Callable | None = None,
    order: Callable = Tensor.argsort,
) -> None:
    """Run one cell. Only negative controls override ``start_of``, which maps (settings, x, seed) to D, and ``order``, of contributors."""
    (train, labels), (test, new_labels) = load_digits(settings["data_set"], settings["classes"], data_root())
    shape = train.shape[1:]
    x, new = (torch.as_tensor(images.reshape(len(images), -1)) for images in (train, test))
    for seed in seeds:
        with record.seed(seed):
            dictionary = train_dictionary(settings, x, seed, record, start_of and start_of(settings, x, seed))
            _interpret(settings, dictionary, (x, labels), (new, new_labels), shape, seed, record, order)


def _unrolling(settings: Mapping) -> Unrolling:
    return Unrolling(lam=settings["lam"], step=settings["step"], n_layers=settings["n_layers"], nonnegative=True)


def train_dictionary(settings: Mapping, x: Tensor, seed: int, record: Record, start: Tensor | None = None) -> Tensor:
    """Train with Adam on the loss with weight decay, from D = ``start`` or a random one.

    The residual of the relation on all training images is recorded over epochs.
    """
    decay, unrolling = settings["weight_decay"], _unrolling(settings)
    drawn = stream(seed, "initial dictionary").standard_normal((x.shape[1], settings["n_atoms"]), dtype=np.float32)
    dictionary = torch.as_tensor(drawn)
    dictionary /= dictionary.norm(dim=0)
    if start is not None:
        dictionary.copy_(start)
    adam = torch.optim.Adam([dictionary], settings["learning_rate"], eps=settings["adam_eps"])
    schedule = torch.optim.lr_scheduler.MultiStepLR(adam, settings["drop_epochs"])
    batches = stream(seed, "batches")
    for epoch in trange(settings["epochs"] + 1, desc=f"seed {seed}", mininterval=10, file=sys.stderr):
        if epoch % settings["evaluate_every"] == 0 or epoch == settings["epochs"]:
            codes = encode(x, dictionary, **vars(unrolling))
            residual = relation_residual(dictionary, x, codes, len(x) * decay or settings["ridge"])
            loss = 0.5 * float((codes @ dictionary.T - x).square().sum()) / len(x)
            squared = float(torch.linalg.matrix_norm(dictionary, 2)) ** 2  # layers may diverge if α‖D‖₂² is above 2
            record.add(epoch, {"relation_residual": residual, "reconstruction_loss": loss})
            record.add(epoch, {"step_times_squared_norm": settings["step"] * squared})
        if epoch == settings["epochs"]:
            return dictionary
        order = torch.as_tensor(batches.permutation(len(x)))
        for chosen in order.split(settings["batch"]):
            gradient, _, loss = unrolled_gradient(x[chosen], dictionary, settings["estimator"], unrolling)
            record.check(epoch, loss=loss)
            dictionary.grad = gradient.add_(dictionary, alpha=decay)
            adam.step()
        schedule.step()


def _interpret(
    settings: Mapping, dictionary: Tensor, train: tuple, test: tuple, shape: tuple, seed: int, record: Record, order: Callable
) -> None:
    """Record all measurements of a trained dictionary. Those without a natural index have step 0."""
    draw, unrolling = stream(seed, "interpretation"), _unrolling(settings)
    every = len(train[0])
    explained = explained_dictionary(
        train[0], encode(train[0], dictionary, **vars(unrolling)), every * settings["weight_decay"] or settings["ridge"]
    )
    (x, labels), (new, new_labels) = (
        _some(*part, settings[count], draw) for part, count in ((train, "n_contributors"), (test, "n_outputs"))
    )
    ridge = settings["ridge"] or len(x) * settings["weight_decay"]
    codes, new_codes = (encode(part, dictionary, **vars(unrolling)) for part in (x, new))
    beta = output_contributions(codes, new_codes, ridge)
    outputs = new_codes @ dictionary.T
    # Xᵀβ = XᵀC z is over all training images, as the relation is; β below is over those that n_contributors selects
    record.add(0, {"output_gap": (new_codes @ explained.T - outputs).norm() / outputs.norm()})
    record.add(0, {"chance": np.mean([np.mean(labels == label) for label in new_labels])})
    for name, some in _variants(codes, draw).items():
        of_some = output_contributions(some, _normalised(new_codes) if name == "normalised" else new_codes, ridge)
        record.add(0, {"purity": _purity(of_some, labels, new_labels), "mass": _mass(of_some)}, codes=name)
    likeness = _normalised(new_codes) @ _normalised(codes).T
    record.add(0, {"purity": _purity(likeness, labels, new_labels)}, codes="similarity")
    for k in (k for k in KEPT if k < len(x)):
        record.add(k, {"rebuilt": _rebuilt(beta, x, outputs, k)})
    for i, value in enumerate(torch.linalg.svdvals(codes.double()).tolist(), start=1):
        record.add(i, {"singular_value": value})
    _remove(x, codes, ridge, draw, record, order)
    _keep_pictures(settings, dictionary, explained, train, test, shape, record)
    _keep_histograms((labels, codes), new_labels, beta, likeness, record)


def _some(x: Tensor, labels: np.ndarray, count: int | None, draw: np.random.Generator) -> tuple[Tensor, np.ndarray]:
    """At most ``count`` images and their labels, drawn without replacement."""
    if count is None or count >= len(x):
        return x, labels
    chosen = np.sort(draw.choice(len(x), count, replace=False))
    return x[torch.as_tensor(chosen)], labels[chosen]


def _variants(codes: Tensor, draw: np.random.Generator) -> dict[str, Tensor]:
    """The codes, unchanged, divided by their norms, and shuffled: each atom's entries are permuted across images, as a chance level."""
    shuffled = torch.stack([column[torch.as_tensor(draw.permutation(len(column)))] for column in codes.T], 1)
    return {"raw": codes, "normalised": _normalised(codes), "shuffled": shuffled}


def _normalised(codes: Tensor) -> Tensor:
    return codes / codes.norm(dim=1, keepdim=True).clamp_min(1e-12)


def _purity(weights: Tensor, labels: np.ndarray, new_labels: np.ndarray) -> float:
    """Share of the ``TOP`` training images with the largest ``weights`` (q, n) that are of the class of the new image, mean over new images."""
    best = weights.topk(min(TOP, weights.shape[1]), dim=1).indices.numpy(force=True)
    return float((labels[best] == new_labels[:, None]).mean())


def _mass(beta: Tensor) -> float:
    """Share of Σ|β| in the ``FEW`` largest |β| of each output, mean over outputs."""
    size = beta.abs().sort(dim=1, descending=True).values
    few = max(1, round(FEW * beta.shape[1]))
    return float((size[:, :few].sum(1) / size.sum(1).clamp_min(1e-30)).mean())


def _rebuilt(beta: Tensor, x: Tensor, outputs: Tensor, k: int) -> float:
    """‖Xᵀβ' − Dz‖ / ‖Dz‖ over all outputs, where β' keeps the k largest |β| of each output."""
    chosen = beta.abs().topk(k, dim=1).indices
    kept = torch.zeros_like(beta).scatter(1, chosen, beta.gather(1, chosen))
    return float((kept @ x - outputs).norm() / outputs.norm())


def _remove(x: Tensor, codes: Tensor, ridge: float, draw: np.random.Generator, record: Record, order: Callable) -> None:
    """Record the relative change of the ten most used atoms when D is recomputed without their top contributors or as many random images."""
    full = explained_dictionary(x, codes, ridge)
    count = max(1, round(FEW * len(x)))
    contributions = atom_contributions(codes, ridge)
    for rank, atom in enumerate(codes.sum(0).topk(min(10, codes.shape[1])).indices.tolist()):
        leans_on = order(contributions[:, atom].abs())[-count:]
        for name, gone in (("top", leans_on), ("random", torch.as_tensor(draw.choice(len(x), count, replace=False)))):
            left = torch.ones(len(x), dtype=torch.bool).index_fill(0, gone, False)
            moved = explained_dictionary(x[left], codes[left], ridge)[:, atom] - full[:, atom]
            record.add(rank, {f"moved_{name}": moved.norm() / full[:, atom].norm().clamp_min(1e-12)})


def _keep_pictures(
    settings: Mapping, dictionary: Tensor, explained: Tensor, train: tuple, test: tuple, shape: tuple, record: Record
) -> None:
    """Keep arrays for the figures, with images as (…, h, w). Contributions are those of all training images, which sum to ``explained``."""
    (x, labels), (new, new_labels) = train, test
    unrolling = _unrolling(settings)
    codes, new_codes = (encode(part, dictionary, **vars(unrolling)) for part in (x, new))
    ridge = len(x) * settings["weight_decay"] or settings["ridge"]
    images, usage = x.reshape(-1, *shape), codes.mean(0)
    record.array("dictionary", dictionary.T.reshape(-1, *shape))
    record.array("usage", usage)
    atoms = usage.topk(min(4, len(usage))).indices
    firsts = [int(np.flatnonzero(new_labels == label)[0]) for label in np.unique(new_labels)]
    likeness = _normalised(new_codes[firsts]) @ _normalised(codes).T
    for name, weights, counts in (
        ("atom", atom_contributions(codes, ridge)[:, atoms].T, (5, 5)),
        ("output/beta", output_contributions(codes, new_codes[firsts], ridge), (5, 5)),
        ("output/similarity", likeness, (5, 0)),
    ):
        order = weights.argsort(dim=1, descending=True)
        chosen = torch.cat([order[:, : counts[0]], order[:, order.shape[1] - counts[1] :]], 1)
        record.array(f"{name}/images", images[chosen])
        record.array(f"{name}/weights", weights.gather(1, chosen))
        record.array(f"{name}/labels", labels[chosen.numpy(force=True)])
    record.array("atom/atoms", atoms)
    record.array("atom/estimates", explained.T[atoms].reshape(-1, *shape))
    record.array("output/new", new[firsts].reshape(-1, *shape))
    record.array("output/outputs", (new_codes[firsts] @ dictionary.T).reshape(-1, *shape))
    record.array("output/estimates", (new_codes[firsts] @ explained.T).reshape(-1, *shape))
    record.array("output/labels", new_labels[firsts])


def _keep_histograms(train: tuple, test: tuple, beta: Tensor, likeness: Tensor, record: Record) -> None:
    """Keep histograms of the contributions to all outputs and of the similarities ``likeness`` (q, n) of codes within and between classes."""
    (labels, codes), new_labels = train, test
    counts, edges = np.histogram(beta.numpy(force=True), bins=np.linspace(-1, 1, 2001) * float(beta.abs().max()))
    record.array("histogram/counts", counts)
    record.array("histogram/edges", edges)
    likeness, classes = likeness.clamp(0, 1).numpy(force=True), np.unique(new_labels)
    same = new_labels[:, None] == labels
    by_class = [
        [np.histogram(likeness[rows][same[rows] == alike], bins=BINS, range=(0, 1))[0] for alike in (True, False)]
        for rows in (new_labels == label for label in classes)
    ]
    record.array("histogram/counts_by_class", np.array(by_class))
    record.array("histogram/classes", classes)
    thirty = np.concatenate([np.flatnonzero(labels == label)[:30] for label in np.unique(labels)])
    record.array("sorted/codes", codes[thirty])
    record.array("sorted/labels", labels[thirty])
