"""Measure, for each λ, the error of the codes at the true dictionary, or the final error of a learned dictionary."""

from collections.abc import Callable, Mapping, Sequence

import torch

from pudle.core.encoding import encode
from pudle.core.gradients import unrolled_gradient
from pudle.core.initialization import perturb_dictionary
from pudle.core.metrics import dictionary_error
from pudle.core.optimization import ConstrainedDescent
from pudle.core.unrolling import Unrolling
from pudle.data.synthetic import SparseData, make_sparse_data
from pudle.harness.record import Record


def run(
    settings: Mapping,
    seeds: Sequence[int],
    record: Record,
    gradient: Callable = unrolled_gradient,
    encoder: Callable = encode,
) -> None:
    """Run one cell. Only negative controls override ``gradient`` and ``encoder``."""
    for seed in seeds:
        for lam in settings["lams"]:
            with record.seed(seed, lam=lam):
                sizes = (settings[key] for key in ("n_samples", "n_features", "n_atoms", "sparsity"))
                dtype = torch.float64 if settings["learner"] == "codes" else torch.float32
                data = make_sparse_data(*sizes, signs=settings["signs"], seed=seed, dtype=dtype)
                if settings["learner"] == "codes":
                    codes = encoder(data.x, data.dictionary, **vars(_unrolling(settings, lam, settings["n_layers"])))
                    record.add(0, _errors(codes, data.codes))
                else:
                    _learn(settings, lam, data, seed, record, gradient)


def _errors(codes: torch.Tensor, true_codes: torch.Tensor) -> dict[str, torch.Tensor]:
    """The mean error of (n, p) codes: of all samples, and of those whose support is the true one, if there are any, with their share."""
    errors = torch.linalg.vector_norm(codes - true_codes, dim=1)
    kept = ((codes != 0) == (true_codes != 0)).all(dim=1)
    found = {"code_error": errors.mean(), "on_support": kept.double().mean()}
    return found | ({"code_error_on_support": errors[kept].mean()} if kept.any() else {})


def _unrolling(settings: Mapping, lam: float, n_layers: int) -> Unrolling:
    level = {
        "fixed": {"lam": lam},
        "decayed": {"lam": lam, "decay": settings["decay"]},
        "hard": {"threshold": settings["step"] * lam},
    }[settings["forward"]]
    return Unrolling(step=settings["step"], n_layers=n_layers, **level)


def _learn(settings: Mapping, lam: float, data: SparseData, seed: int, record: Record, of: Callable) -> None:
    unrolling = _unrolling(settings, lam, settings["learning_layers"])
    dictionary = perturb_dictionary(data.dictionary, settings["init_noise"], seed)
    descent = ConstrainedDescent(torch.optim.Adam([dictionary], lr=settings["learning_rate"]))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(descent.optimizer, settings["updates"])
    for step in range(settings["updates"] + 1):
        if step % max(1, settings["updates"] // 10) == 0 or step == settings["updates"]:
            record.add(step, {"dictionary_error": dictionary_error(dictionary, data.dictionary)})
        descent.update(of(data.x, dictionary, settings["learner"], unrolling).gradient)
        schedule.step()
