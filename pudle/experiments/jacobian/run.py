r"""Compute ∂z_t/∂D after each layer, by forward recursion, and compare it with that of the lasso's codes.

For one sample, with r = Dz − x and :math:`∂z/∂D_{lj}` as a p-vector, a soft-thresholded layer gives

.. math:: J_{t+1} = 1[z_{t+1} ≠ 0] ⊙ \bigl(J_t − α (DᵀD J_t + G_t)\bigr), \qquad (G_t)_{i,lj} = D_{li} z_j + 1[i = j] r_l .

Truncated to the last K layers, the recursion starts from 0 at layer t − K. Source: Malézieux, Moreau & Kowalski (ICLR 2022).
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from pudle.core import theory
from pudle.core.initialization import unit_norm
from pudle.core.lasso import lasso
from pudle.core.random import stream
from pudle.core.unrolling import Unrolling, iterate
from pudle.harness.record import Record


def run(
    settings: Mapping,
    seeds: Sequence[int],
    record: Record,
    target: Callable = theory.lasso_jacobian,
    settled: int | None = None,
    rate_of: Callable = theory.contraction_rate,
) -> None:
    """Run one cell. Only negative controls override ``target``, ``settled`` (the layer at which supports settle) and ``rate_of``."""
    for seed in seeds:
        with record.seed(seed):
            _measure(settings, seed, record, target, settled, rate_of)


def _measure(settings: Mapping, seed: int, record: Record, target: Callable, settled: int | None, rate_of: Callable) -> None:
    dictionary, samples = _problem(settings, seed)
    lam, n_layers = settings["lam"], settings["n_layers"]
    step = settings["step"] * theory.largest_step(dictionary) / 2
    ends = lasso(samples, dictionary, lam, tol=1e-10)
    codes = _history(samples, dictionary, Unrolling(lam=lam, step=step, n_layers=1), n_layers)
    differs = (codes.sign() != ends.sign()).any(2)  # (T + 1, n)
    shown = sorted(t for t in _rounded(n_layers) if t <= n_layers)
    distances: dict[tuple[str, int], list] = {}
    for k, x in enumerate(samples):
        if not ends[k].any():  # its Jacobian is zero
            continue
        wanted = target(x, dictionary, ends[k]).flatten(1)
        last = int(differs[:, k].nonzero().max()) + 1 if differs[-1, k] == 0 else n_layers + 1
        at = min(n_layers, settled or last)
        errors = _errors(x, dictionary, codes[:, k], step, wanted, 0, {*shown, at, min(n_layers, last)})
        if last <= n_layers:
            record.add(k, {"settled": last, "at_settling": errors[at], "at_end": errors[n_layers]})
            rate = float(rate_of(dictionary, ends[k][None] != 0, step))
            left = n_layers - last
            if left > 10 and errors[n_layers] > 1e-9:
                record.add(k, {"rate": (errors[n_layers] / errors[last]) ** (1 / left), "predicted_rate": rate})
                off = torch.linalg.vector_norm(codes[:, k] - ends[k], dim=1)
                record.add(k, {"code_rate": (off[n_layers] / off[last]) ** (1 / left)})
        for t in shown:
            group = "settled" if last <= t else "unsettled"
            distances.setdefault((group, t), []).append(errors[t])
            for depth in settings["truncations"]:
                if depth <= t and last <= n_layers:
                    truncated = _errors(x, dictionary, codes[:, k], step, wanted, t - depth, {t})
                    distances.setdefault((f"last {depth}", t), []).append(truncated[t])
    for (group, t), values in distances.items():
        record.add(t, {"jacobian_error": sum(values) / len(values), "count": len(values)}, group=group)


def _problem(settings: Mapping, seed: int) -> tuple[Tensor, Tensor]:
    """A Gaussian dictionary (m, p) with atoms of norm 1, and noisy samples (n, m) of Bernoulli-Gaussian codes, in float64."""
    n, m, p = (settings[key] for key in ("n_samples", "n_features", "n_atoms"))
    dictionary = unit_norm(torch.as_tensor(stream(seed, "dictionary").standard_normal((m, p))))
    draw = stream(seed, "codes")
    codes = torch.as_tensor((draw.random((n, p)) < settings["active"]) * draw.standard_normal((n, p)))
    noise = torch.as_tensor(stream(seed, "noise").standard_normal((n, m)))
    return dictionary, codes @ dictionary.T + settings["noise"] * noise


def _history(x: Tensor, dictionary: Tensor, layer: Unrolling, n_layers: int) -> Tensor:
    """The codes after every layer, (T + 1, n, p)."""
    codes = [x.new_zeros(len(x), dictionary.shape[1])]
    for _ in range(n_layers):
        codes.append(iterate(layer, codes[-1], lambda z: (z @ dictionary.T - x) @ dictionary))
    return torch.stack(codes)


def _errors(x, dictionary, codes, step: float, wanted: Tensor, start: int, layers: set[int]) -> dict[int, float]:
    """‖J_t − J*‖ / ‖J*‖ after each t of ``layers``, from J = 0 at ``start``. J has non-zero rows on the support only."""
    gram, jacobian, scale = dictionary.T @ dictionary, torch.zeros_like(wanted), float(wanted.norm().clamp_min(1e-12))
    before, errors = torch.arange(0), {}  # the support so far
    for t in range(start, max(layers)):
        z, support = codes[t], codes[t + 1].nonzero()[:, 0]
        inner = dictionary.T[support][:, :, None] * z  # (|S|, m, p)
        inner[torch.arange(len(support)), :, support] += dictionary @ z - x
        rows = jacobian[support] - step * (gram[support][:, before] @ jacobian[before] + inner.flatten(1))
        jacobian[before] = 0
        jacobian[support], before = rows, support
        if t + 1 in layers:
            errors[t + 1] = float((jacobian - wanted).norm()) / scale
    return errors


def _rounded(n_layers: int) -> set[int]:
    """About eight layers per decade, and the last layer."""
    return {round(10 ** (i / 8)) for i in range(8 * 6)} | {n_layers}
