"""Training of denoisers: it resumes to the same numbers, learns what it should and keeps to its constraints."""

import json
import os
import signal
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pudle.core.convolution import operator_norm
from pudle.core.networks import network_gradient
from pudle.core.optimization import ConstrainedDescent, normalize_atoms
from pudle.errors import PudleError
from pudle.experiments._shared import training
from pudle.harness import cells, checkpoints
from pudle.harness.record import Record

SETTINGS = {
    "n_filters": 4,
    "kernel": 5,
    "stride": 2,
    "n_layers": 3,
    "step": 0.1,
    "lam": 0.2,
    "sigma": 25,
    "estimator": "ae-ls",
    "crop": 11,
    "batch": 2,
    "updates": 9,
    "evaluate_every": 2,
    "learning_rate": 0.01,
    "adam_eps": 1e-3,
    "schedule": "cosine",
}
FREE = {"untied": True, "learn_thresholds": True, "scaling": "operator-norm"}


def images():
    draw = np.random.default_rng(0)
    return {name: draw.random((20, 24), np.float32) for name in "ab"}


def experiment(settings, seeds, record, gradient=network_gradient):
    test = {name: torch.from_numpy(image[:19, :23]) for name, image in images().items()}
    for seed in seeds:
        noisy = training.with_noise(test, settings["sigma"], seed)
        with record.seed(seed):
            training.score(test, noisy, 0, record, prefix="noisy_")

            def evaluate(denoiser, update, noisy=noisy):
                training.score(test, {name: denoiser(image) for name, image in noisy.items()}, update, record)

            denoiser = training.train(settings, images(), seed, record, evaluate, gradient)
            for name, array in denoiser.network._asdict().items():
                if array is not None:
                    record.array(name, array)


class Stopped(Exception):
    pass


def stopping(after: int):
    """A gradient that ends the run at the call after ``after``."""
    left = iter(range(after))

    def gradient(*arguments, **options):
        if next(left, None) is None:
            raise Stopped
        return network_gradient(*arguments, **options)

    return gradient


@pytest.mark.parametrize("changes", [{}, FREE], ids=["tied", "free"])
def test_a_run_that_is_stopped_twice_ends_with_the_same_bytes(changes, tmp_path, monkeypatch):
    cell = cells.Cell("toy", SETTINGS | changes, (0, 1), ())
    cells.run(cell, tmp_path / "complete", experiment, fingerprint="f")
    monkeypatch.setattr(checkpoints, "EVERY", 0)
    for after in (4, 9):  # in the first seed; in the second
        with pytest.raises(Stopped):
            cells.run(cell, tmp_path / "parts", partial(experiment, gradient=stopping(after)), fingerprint="f")
        assert list((tmp_path / "parts").glob("checkpoint-*.pt")) and not (tmp_path / "parts" / "cell.json").exists()
    calls = []

    def counted(*arguments, **options):
        calls.append(1)
        return network_gradient(*arguments, **options)

    cells.run(cell, tmp_path / "parts", lambda *a: experiment(*a, counted), fingerprint="f")
    assert len(calls) < 9, "the second seed must go on where it was, and the first must not run again"
    for name in ("rows.csv", "arrays.npz"):
        assert (tmp_path / "complete" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == [
        "arrays.npz",
        "cell.json",
        "rows.csv",
        "timings.csv",
    ]


def test_a_state_of_other_code_or_settings_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "EVERY", 0)
    cell = cells.Cell("toy", SETTINGS, (0,), ())
    with pytest.raises(Stopped):
        cells.run(cell, tmp_path, lambda *a: experiment(*a, stopping(5)), fingerprint="f")
    found = checkpoints.Checkpoints(tmp_path, json.dumps([SETTINGS, "f", "cpu", {}], sort_keys=True, separators=(",", ":")))
    assert found.load(0)["update"] == 5
    assert checkpoints.Checkpoints(tmp_path, "other").load(0) is None and found.load(1) is None


def test_seeds_computed_apart_and_merged_are_the_bytes_of_one_run(tmp_path):
    """As jobs of a cluster compute them, in any order; what was computed for other code or another device is not taken."""
    cell = cells.Cell("toy", SETTINGS, (3, 1), ())
    cells.run(cell, tmp_path / "one", experiment, fingerprint="f")
    folder = tmp_path / "apart"
    for seed in (1, 3):
        cells.keep(cell, folder, seed, cells.compute(cell, seed, folder, experiment, "f"), "f")
    assert cells.finished(cell, folder, 3, "g") is None and cells.finished(cell, folder, 3, "f", "cuda") is None
    seeds = [cells.finished(cell, folder, seed, "f") for seed in cell.seeds]
    (folder / ".seed-3.7.partial.pt").touch()  # of a job that was killed and tried again
    cells.merge(cell, folder, seeds, "f")
    assert sorted(path.name for path in folder.iterdir()) == ["arrays.npz", "cell.json", "rows.csv", "timings.csv"]
    for name in ("rows.csv", "arrays.npz"):
        assert (folder / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    record = cells.read(folder)
    assert record["seconds"] == round(sum(seed["seconds"] for seed in seeds), 3) and record["seeds"] == [3, 1]


def test_seconds_are_those_of_all_legs_of_a_run(tmp_path, monkeypatch):
    clock = SimpleNamespace(now=100.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(checkpoints, "time", clock)
    first = checkpoints.Checkpoints(tmp_path, "key")
    clock.now += 30
    first.save(0, {"update": 1})
    clock.now += 1000  # lost, as nothing was kept of it
    second = checkpoints.Checkpoints(tmp_path, "key")
    assert second.load(0) == {"update": 1}
    clock.now += 12
    assert second.seconds == 42


def test_a_process_that_is_asked_to_end_keeps_its_state_first(tmp_path):
    found = checkpoints.Checkpoints(tmp_path, "key")
    with pytest.raises(SystemExit), found.ending_on_request():  # nothing that could be kept: at once
        os.kill(os.getpid(), signal.SIGTERM)
    assert not found.due()
    with found.ending_on_request():
        os.kill(os.getpid(), signal.SIGTERM)
        assert found.due()
        with pytest.raises(SystemExit):
            found.save(0, {"update": 7})
    assert checkpoints.Checkpoints(tmp_path, "key").load(0) == {"update": 7}


def test_constraints_hold_after_every_update():
    norms, thresholds = [], []

    def evaluate(denoiser, update):
        norms.append(torch.linalg.vector_norm(torch.stack(denoiser.network[:3]), dim=(2, 3, 4)))
        thresholds.append(denoiser.network.thresholds.clone())

    settings = SETTINGS | {"untied": True, "learn_thresholds": True, "learning_rate": 0.1, "evaluate_every": 1}
    training.train(settings, images(), 0, Record(), evaluate)
    torch.testing.assert_close(torch.stack(norms), torch.ones(10, 3, 4))
    assert (thresholds[0] == 0.02).all() and not torch.equal(thresholds[0], thresholds[-1])
    assert all((level >= 0).all() for level in thresholds) and (torch.stack(thresholds) == 0).any()


def test_operator_norm_scaling_starts_from_a_norm_of_one_and_is_free_afterwards():
    denoiser = training.untrained(SETTINGS | FREE, 0)
    assert float(operator_norm(denoiser.network.filters, stride=2)) == pytest.approx(1)
    assert all(torch.equal(array, denoiser.network.filters) for array in denoiser.network[1:3])
    trained = training.train(SETTINGS | FREE, images(), 0, Record(), lambda *_: None)
    norms = torch.linalg.vector_norm(trained.network.filters, dim=(1, 2, 3))
    assert (norms - norms.mean()).abs().max() > 1e-3


@pytest.mark.parametrize("level", [{"lam": 0.2}, {"lam": None, "threshold": 0.05}])
def test_training_lowers_the_loss(level):
    losses = []

    def recorded(*arguments, **options):
        found = network_gradient(*arguments, **options)
        losses.append(found.loss)
        return found

    training.train(SETTINGS | level | {"updates": 60}, images(), 0, Record(), lambda *_: None, recorded)
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])


def test_hard_thresholds_are_not_learned():
    with pytest.raises(PudleError, match="learned thresholds are soft"):
        settings = SETTINGS | {"lam": None, "threshold": 0.05, "learn_thresholds": True}
        training.train(settings, images(), 0, Record(), lambda *_: None)


def test_evaluations_come_at_the_updates_asked_for_and_change_nothing():
    at, record, without = [], Record(), Record()
    settings = SETTINGS | {"updates": 7, "evaluate_every": 4}
    learned = training.train(settings | {"evaluate_at": [1, 3]}, images(), 0, record, lambda _, update: at.append(update))
    plain = training.train(settings, images(), 0, without, lambda *_: None)
    assert at == [0, 1, 3, 4, 7]
    assert torch.equal(learned.network.filters, plain.network.filters)


def test_a_constrained_update_is_a_step_of_the_optimiser_and_then_the_constraint():
    draw = torch.Generator().manual_seed(0)
    start, gradient = (torch.randn(5, 7, generator=draw) for _ in range(2))
    plain, constrained, free = (start.clone() for _ in range(3))
    adam = torch.optim.Adam([plain], lr=0.1)
    plain.grad = gradient.clone()
    adam.step()
    ConstrainedDescent(torch.optim.Adam([constrained], lr=0.1)).update(gradient.clone())
    ConstrainedDescent(torch.optim.Adam([free], lr=0.1), None).update(gradient.clone())
    assert torch.equal(free, plain)
    torch.testing.assert_close(constrained, plain / plain.norm(dim=0))
    torch.testing.assert_close(constrained.norm(dim=0), torch.ones(7))


def test_an_atom_without_a_direction_stays_as_it_is():
    dictionary = torch.tensor([[3.0, 0.0], [4.0, 0.0]])
    normalize_atoms(dictionary)
    assert dictionary.tolist() == [[pytest.approx(0.6), 0.0], [pytest.approx(0.8), 0.0]]
