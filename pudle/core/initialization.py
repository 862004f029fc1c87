r"""Initial dictionaries: near the true dictionary, random, random samples, or atoms that pairs of samples share.

For pairs (u, v) of samples, the pairwise method of Arora, Ge, Ma & Moitra (COLT 2015, Section 6) uses the matrix

.. math::
    M_{uv} = \frac{1}{n} \sum_x ⟨x, u⟩ ⟨x, v⟩\, x xᵀ
           ≈ \underbrace{\textstyle\sum_i E[z_i^4]\, β_i β'_i\, D_i D_iᵀ}_{\text{atoms}}
           + \underbrace{⟨u, Σ v⟩ Σ + Σ u (Σ v)ᵀ + Σ v (Σ u)ᵀ}_{\text{background}},
    \qquad β = Dᵀu, \quad β' = Dᵀv, \quad Σ = E[x xᵀ],

in which atoms have large weights if both samples contain them. If u and v share exactly one atom i, D_i is the top singular vector,
with σ₁ of the order (s/p) E[z⁴] E[z²], where z is a non-zero code, and all other singular values are smaller. The background is the
matrix that Gaussian data of the same covariance would give. It is smaller by a factor of the order (s²/p)(1 + p/m)² and therefore vanishes
in the theory. In finite problems σ₁ must be compared with the background, which depends on second moments of the data only.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from pudle.core.random import stream
from pudle.core.units import number, power_of_two, widened
from pudle.core.unrolling import check_types
from pudle.errors import PudleError

_ROUNDING = 1e-2  # largest distance of a norm from 1 that counts as rounding, in types of 16 bits too


def unit_norm(dictionary: Tensor) -> Tensor:
    """``dictionary`` (m, p) with atoms rescaled to norm 1. Raises :class:`PudleError` if it is no tensor of a floating type."""
    check_types(dictionary=dictionary)
    return dictionary / torch.linalg.vector_norm(dictionary, dim=0, keepdim=True)


def perturb_dictionary(dictionary: Tensor, init_noise: float, seed: int) -> Tensor:
    """A start near the truth, normalise(D* + ``init_noise`` N(0, 1)) with independent noise on every entry, (m, p). Source: PUDLE, Section 5.

    dictionary : D* (m, p), with atoms of norm 1. The noise of an atom has a norm of about ``init_noise`` √m

    Raises :class:`PudleError` if ``dictionary`` is no matrix of a floating type, if an atom does not have norm 1 (the noise would be larger
    or smaller relative to it), or if ``init_noise`` is below 0 or not finite.
    """
    check_types(dictionary=dictionary)
    if dictionary.ndim != 2:
        raise PudleError(f"dictionary must be (n_features, n_atoms), not {tuple(dictionary.shape)}")
    norms = torch.linalg.vector_norm(dictionary.double(), dim=0)
    if (other := ~((norms - 1).abs() < _ROUNDING)).any():
        atom = int(other.int().argmax())
        raise PudleError(
            f"dictionary: atom {atom} has a norm of {float(norms[atom]):.4g}, not 1: divide atoms by their norms first"
        )
    init_noise = number("init_noise", init_noise)
    noise = torch.from_numpy(stream(seed, "initial dictionary").standard_normal(dictionary.shape))
    return unit_norm(dictionary.double() + init_noise * noise.to(dictionary.device)).to(dictionary.dtype)


def gaussian_dictionary(n_features: int, n_atoms: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A dictionary (m, p) with Gaussian atoms of norm 1."""
    n_features, n_atoms = (
        number(name, value, least=1, integer=True) for name, value in (("n_features", n_features), ("n_atoms", n_atoms))
    )
    return unit_norm(torch.as_tensor(stream(seed, "initial dictionary").standard_normal((n_features, n_atoms)))).to(dtype)


def sample_dictionary(x: Tensor, n_atoms: int, seed: int) -> Tensor:
    """A dictionary (m, p) of ``n_atoms`` random samples of ``x`` (n, m), drawn without replacement and rescaled to norm 1."""
    _check_samples(x)
    if number("n_atoms", n_atoms, least=1, integer=True) > len(x):
        raise PudleError(f"{n_atoms} atoms cannot be drawn from {len(x)} samples without replacement")
    drawn = stream(seed, "initial dictionary").choice(len(x), n_atoms, replace=False)
    atoms = x[torch.from_numpy(drawn).to(x.device)]
    if (empty := (atoms == 0).all(dim=1)).any():
        raise PudleError(f"sample {drawn[int(empty.int().argmax())]} of x is 0, and no atom of norm 1: leave such samples out")
    return unit_norm(atoms.T)


def random_filters(n_filters: int, kernel: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Gaussian filters (p, 1, k, k) of norm 1."""
    n_filters, kernel = (
        number(name, value, least=1, integer=True) for name, value in (("n_filters", n_filters), ("kernel", kernel))
    )
    filters = torch.as_tensor(stream(seed, "initial dictionary").standard_normal((n_filters, 1, kernel, kernel)))
    return (filters / torch.linalg.vector_norm(filters, dim=(1, 2, 3), keepdim=True)).to(dtype)


def _check_samples(x: Tensor) -> None:
    check_types(x=x)
    if x.ndim != 2:
        raise PudleError(f"x must be (n_samples, n_features), not {tuple(x.shape)}")
    if not x.isfinite().all():
        raise PudleError("all values of x must be finite")


class PairwiseStart(NamedTuple):
    """The atoms found (m, ``n_found``), of norm 1 and with arbitrary signs, and the number of pairs of samples that were tried."""

    dictionary: Tensor
    n_found: int
    n_pairs: int


def pairwise_dictionary(
    x: Tensor, n_atoms: int, seed: int, *, max_pairs: int, n_iter: int = 8, block: int = 256
) -> PairwiseStart:
    """At most ``n_atoms`` atoms that Arora et al.'s pairwise method finds in samples ``x`` (n, m), from at most ``max_pairs`` pairs.

    Pairs come from one half of the samples, and M_uv from the other half. The top singular vector of M_uv becomes an atom if

    - σ₁ > 2 B_uv, where B_uv = \\|⟨u, Σv⟩\\| ‖Σ‖ + ‖Σu‖ ‖Σv‖ + \\|⟨Σu, Σv⟩\\| bounds the norm of the background, so that atoms which the
      pair shares account for most of σ₁;
    - σ₂ < σ₁ / log m;
    - its distance from every ±atom found before is more than 1 / log m.

    Each singular value is computed by ``n_iter`` power iterations, the second one after deflation, for ``block`` pairs at once, without
    forming M_uv. Power iterations approach singular values from below, so that errors make acceptance more likely. An accepted pair has
    σ₂ / σ₁ < 1 / log m, so that its top singular vector is exact to about (log m)^−n_iter. Source: Arora et al., Algorithm 3.
    """
    _check_samples(x)
    m, n_atoms, max_pairs = (
        x.shape[1],
        number("n_atoms", n_atoms, least=1, integer=True),
        number("max_pairs", max_pairs, integer=True),
    )
    n_iter, block = number("n_iter", n_iter, least=1, integer=True), number("block", block, least=1, integer=True)
    if len(x) < 4 or m < 3:
        raise PudleError(f"the pairwise method needs at least 4 samples of 3 features, not {len(x)} of {m}")
    draw, near, dtype = stream(seed, "pairs"), 1 / math.log(m), x.dtype
    x = widened(x) / power_of_two(x)
    samples, x = x[: len(x) // 2], x[len(x) // 2 :]
    covariance = x.T @ x / len(x)
    spread = torch.linalg.matrix_norm(covariance, 2)
    atoms, n_pairs = x.new_empty(0, m), 0
    while n_pairs < max_pairs and len(atoms) < n_atoms:
        size = min(block, max_pairs - n_pairs)
        first = draw.integers(len(samples), size=size)
        second = (first + draw.integers(1, len(samples), size=size)) % len(samples)  # a different sample
        u, v = (samples[torch.from_numpy(chosen).to(x.device)] for chosen in (first, second))
        starts = torch.from_numpy(draw.standard_normal((2, size, m))).to(x)
        large, top = top_singular(pair_product(x, u, v), starts[0], n_iter)
        keep = large > 2 * background(u, v, covariance, spread)
        second_largest, _ = top_singular(pair_product(x, u[keep], v[keep]), starts[1, keep], n_iter, orthogonal_to=top[keep])
        for atom in top[keep][second_largest < near * large[keep]]:
            if len(atoms) < n_atoms and (2 - 2 * (atoms @ atom).abs() > near**2).all():
                atoms = torch.cat([atoms, atom[None]])
        n_pairs += size
    return PairwiseStart(atoms.T.contiguous().to(dtype), len(atoms), n_pairs)


def pair_product(x: Tensor, u: Tensor, v: Tensor) -> Callable[[Tensor], Tensor]:
    """The function ``w`` (B, m) → M_uv w (B, m), with one pair (``u``, ``v``), both (B, m), per row and the mean over ``x`` (n, m)."""
    weights = (x @ u.T) * (x @ v.T) / len(x)
    return lambda w: ((x @ w.T) * weights).T @ x


def top_singular(
    product: Callable[[Tensor], Tensor], start: Tensor, n_iter: int, orthogonal_to: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Largest singular values (B,) and unit singular vectors (B, m) of B symmetric matrices, by power iteration from ``start`` (B, m).

    orthogonal_to : unit singular vectors (B, m) by which the matrices are deflated before
    """

    def deflate(w: Tensor) -> Tensor:
        return w if orthogonal_to is None else w - (w * orthogonal_to).sum(1, keepdim=True) * orthogonal_to

    w, size = deflate(start), None
    for _ in range(n_iter):
        w = w / torch.linalg.vector_norm(w, dim=1, keepdim=True)
        w = deflate(product(w))
        size = torch.linalg.vector_norm(w, dim=1, keepdim=True)
    return size[:, 0], w / size


def background(u: Tensor, v: Tensor, covariance: Tensor, spread: Tensor) -> Tensor:
    """A bound (B,) on the norm of the background of M_uv for pairs ``u``, ``v`` (B, m).

    ``covariance`` is Σ (m, m), of norm ``spread``. The matrix a bᵀ + b aᵀ has norm ‖a‖ ‖b‖ + |⟨a, b⟩|.
    """
    a, b = u @ covariance, v @ covariance
    norms = torch.linalg.vector_norm(a, dim=1) * torch.linalg.vector_norm(b, dim=1)
    return (a * v).sum(1).abs() * spread + norms + (a * b).sum(1).abs()
