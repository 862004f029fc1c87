r"""Theory of when unrolled layers find the true support and keep it, and of how fast they then converge.

Dictionaries are (m, p) with atoms of norm 1, codes are (n, p), and samples x = D* z* are (n, m). A signed support is the set of non-zeros
together with their signs. A sufficient condition implies its conclusion; if it fails, the conclusion may or may not hold.

Derivation of :func:`support_condition`. Let :math:`S = \text{supp}(z^*)` with :math:`|S| \le s`, :math:`a \le |z^*_i| \le b` on S, μ the
coherence of D, and δ the distance of D from D* in its worst atom, so that :math:`|⟨D_k, D^*_j − D_j⟩| \le δ`. For codes z supported in
S with the right signs and an error :math:`|z_j − z^*_j| \le e`, the input of entry k of a layer is

.. math::
    u_k = z_k + α ⟨D_k, D^* z^* − D z⟩, \qquad
    ⟨D_k, D^* z^* − D z⟩ = \sum_{j \in S} ⟨D_k, D_j⟩ (z^*_j − z_j) + ⟨D_k, D^*_j − D_j⟩ z^*_j .

Outside S, :math:`|u_k|` is at most :math:`α s (μ e + δ b)`, so that the entry stays zero if :math:`λ ≥ s (μ e + δ b)`. On S, the term j = k is
separated; then :math:`u_k` times the true sign is at least :math:`(1 − α)|z_k| + α (a − s δ b − (s − 1) μ e)`, so that the entry keeps its
sign if :math:`λ < a − s δ b − (s − 1) μ e` and α ≤ 1. The error after the layer is at most
:math:`(1 − α (1 − (s − 1) μ)) e + α (λ + s δ b)`. From z = 0, where e = b, a fixed λ in

.. math:: s (μ + δ) b \;\le\; λ \;<\; a − s δ b − (s − 1) μ b

therefore recovers the signed support in the first layer, and later layers keep it, since e never exceeds b. The argument is that of PUDLE
(Tolooshams & Ba, TMLR 2022), theory of the forward pass, and of Nguyen, Wong & Hegde (2019); it is extended here to atoms at distance δ.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from pudle.core.units import number, widened
from pudle.core.unrolling import check_codes, check_types
from pudle.errors import PudleError


def _check_dictionaries(**dictionaries: Tensor) -> None:
    """Raise :class:`PudleError` unless all are tensors (m, p) of one floating type and one shape."""
    check_types(**dictionaries)
    shapes = {tuple(dictionary.shape) for dictionary in dictionaries.values()}
    if len(shapes) > 1 or any(len(shape) != 2 or 0 in shape for shape in shapes):
        shapes = " and ".join(str(tuple(dictionary.shape)) for dictionary in dictionaries.values())
        raise PudleError(f"{' and '.join(dictionaries)} must be (n_features, n_atoms), of the same shape, not {shapes}")
    for name, dictionary in dictionaries.items():
        if not dictionary.isfinite().all():
            raise PudleError(f"all values of {name} must be finite")
        if (empty := (dictionary == 0).all(dim=0)).any():
            raise PudleError(f"{name}: atom {int(empty.int().argmax())} is 0; the theory requires atoms with a norm above 0")


class Range(NamedTuple):
    """The range ``low`` ≤ λ < ``high``, which is empty if ``low`` ≥ ``high``. Both are numbers, or tensors (n,) with one range per sample."""

    low: Tensor | float
    high: Tensor | float


class Closeness(NamedTuple):
    """``delta`` is the largest distance of an atom from the true one, and ``kappa`` is ‖D − D*‖₂ / ‖D*‖₂."""

    delta: float
    kappa: float


def coherence(dictionary: Tensor) -> float:
    """The coherence μ of ``dictionary`` (m, p), the largest |⟨D_i, D_j⟩| of two normalised atoms; 0 if there is one atom.

    Raises :class:`PudleError` for an atom that is 0. Source: Donoho & Huo (2001).
    """
    _check_dictionaries(dictionary=dictionary)
    unit = dictionary / torch.linalg.vector_norm(dictionary, dim=0)
    overlaps = (unit.T @ unit).abs().fill_diagonal_(0)
    return float(overlaps.max())


def closeness(dictionary: Tensor, true: Tensor) -> Closeness:
    """The largest distance of an atom and the relative spectral distance of ``dictionary`` D (m, p) from ``true``, D* (m, p).

    Raises :class:`PudleError` if the shapes or types differ, or for an atom that is 0. Source: Arora et al. (2015), (δ, κ)-nearness.
    """
    _check_dictionaries(dictionary=dictionary, true=true)
    dictionary, true = widened(dictionary), widened(true)
    difference = dictionary - true
    return Closeness(
        float(torch.linalg.vector_norm(difference, dim=0).max()),
        float(torch.linalg.matrix_norm(difference, 2) / torch.linalg.matrix_norm(true, 2)),
    )


def largest_step(dictionary: Tensor) -> float:
    """2 / ‖D‖₂² of ``dictionary`` (m, p).

    Soft-thresholded layers converge for all smaller steps and all data. Larger steps may converge if supports stay small.
    Raises :class:`PudleError` for an atom that is 0. Source: Combettes & Wajs (2005).
    """
    _check_dictionaries(dictionary=dictionary)
    return 2 / float(torch.linalg.matrix_norm(widened(dictionary), 2)) ** 2


def contraction_rate(dictionary: Tensor, supports: Tensor, step: float) -> Tensor:
    """ρ (n,) = ‖I − α D_Sᵀ D_S‖₂ for the support S in each row of ``supports`` (n, p), boolean; 0 if S is empty.

    dictionary : D (m, p)
    step : α > 0

    Once the signed support of a sample is constant, each layer multiplies ‖z_t − ẑ‖ by at most ρ. The factor is exactly ρ in the worst
    direction. Raises :class:`PudleError` if shapes or types do not fit. Source: PUDLE, theory of the forward pass; Liang, Fadili & Peyré
    (2014).
    """
    _check_dictionaries(dictionary=dictionary)
    step = number("step", step, above=True)
    if not isinstance(supports, Tensor):
        raise PudleError(f"supports must be a torch tensor, not a {type(supports).__name__}: torch.as_tensor makes one")
    if supports.dtype != torch.bool or supports.ndim != 2 or supports.shape[1] != dictionary.shape[1]:
        raise PudleError(
            f"supports must be boolean and (n_samples, {dictionary.shape[1]}), not {supports.dtype} {tuple(supports.shape)}"
        )
    gram = widened(dictionary).T @ widened(dictionary)
    rates = []
    for support in supports:
        values = torch.linalg.eigvalsh(gram[support][:, support])
        rates.append(float((1 - step * values).abs().max()) if len(values) else 0.0)
    return dictionary.new_tensor(rates)


def first_layer_range(x: Tensor, dictionary: Tensor, codes: Tensor) -> Range:
    """For each sample of ``x`` (n, m), the range of λ for which the first layer has exactly the signed support of ``codes`` (n, p).

    dictionary : D (m, p)

    The condition is necessary and sufficient: |⟨D_i, x⟩| is at most λ outside the support, and above λ with the true sign on the support.
    λ has the units of x times those of the atoms. Raises :class:`PudleError` if shapes or types do not fit. Source: PUDLE, theory of the
    forward pass.
    """
    check_codes(x, dictionary, codes)
    correlation = x @ dictionary
    on = codes != 0
    low = correlation.abs().masked_fill(on, 0).amax(1)
    high = (correlation * codes.sign()).masked_fill(~on, torch.inf).amin(1)
    return Range(low, high)


def support_condition(dictionary: Tensor, true: Tensor, sparsity: int, smallest: float, largest: float) -> Range:
    """The range of fixed λ for which, if α ≤ 1, the first layer recovers the signed support of every sample and later layers keep it.

    The condition is sufficient. It is for true codes with at most ``sparsity`` non-zeros of sizes in [``smallest``, ``largest``] and samples
    without noise; λ has the units of the sizes. ``dictionary`` and ``true`` are D and D* (m, p). Raises :class:`PudleError` if shapes, types
    or numbers do not fit. It is derived above.
    """
    sparsity = number("sparsity", sparsity, least=1, integer=True)
    smallest = number("smallest", smallest, above=True)
    largest = number("largest", largest, least=smallest)
    mu, delta = coherence(dictionary), closeness(dictionary, true).delta
    return Range(
        sparsity * (mu + delta) * largest,
        smallest - sparsity * delta * largest - (sparsity - 1) * mu * largest,
    )


def preserving_lambdas(
    dictionary: Tensor, true: Tensor, sparsity: int, largest: float, step: float, n_layers: int
) -> tuple[list[float], list[float]]:
    """The smallest λ_t for which the argument above preserves the support in each layer, and the corresponding bounds e_t on the codes' error.

    With λ_t = s (μ e_t + δ b) the bounds satisfy e_{t+1} = (1 − α (1 − (2s − 1) μ)) e_t + 2 α s δ b. If (2s − 1) μ < 1, both decrease
    geometrically to limits that depend on δ. The condition is sufficient. ``dictionary`` and ``true`` are D and D* (m, p), ``step`` is α,
    and λ_t and e_t have the units of codes. Raises :class:`PudleError` if shapes, types or numbers do not fit. It is derived above; for
    decaying λ see PUDLE, theory of the forward pass.
    """
    sparsity, n_layers = number("sparsity", sparsity, least=1, integer=True), number("n_layers", n_layers, integer=True)
    largest, step = number("largest", largest, above=True), number("step", step, above=True)
    mu, delta = coherence(dictionary), closeness(dictionary, true).delta
    lambdas, errors = [], [largest]
    for _ in range(n_layers):
        lambdas.append(sparsity * (mu * errors[-1] + delta * largest))
        shrunk = (1 - step * (1 - (sparsity - 1) * mu)) * errors[-1]
        errors.append(shrunk + step * (lambdas[-1] + sparsity * delta * largest))
    return lambdas, errors


def lasso_jacobian(x: Tensor, dictionary: Tensor, codes: Tensor) -> Tensor:
    r"""The Jacobian ∂ẑ/∂D (p, m, p) of one sample's lasso codes, with entries [i, l, j] = ∂ẑ_i/∂D_lj.

    ``x`` is (m,), ``dictionary`` is (m, p), and ``codes`` (p,) are the lasso's. On the support S, with r = Dẑ − x and D_l row l of D,
    :math:`J_S = −(D_Sᵀ D_S)^{-1} (D_l ẑᵀ + r_l I)_S`; outside S it is zero. The formula holds where the support does not change with D.
    Raises :class:`PudleError` if shapes or types do not fit, or if the atoms on S are linearly dependent.
    Source: Malézieux, Moreau & Kowalski (ICLR 2022), Proposition on the Jacobian of the lasso.
    """
    _check_dictionaries(dictionary=dictionary)
    check_types(x=x, dictionary=dictionary, codes=codes)
    if x.shape != dictionary.shape[:1] or codes.shape != dictionary.shape[1:]:
        shapes = f"those of one sample, ({dictionary.shape[0]},) and ({dictionary.shape[1]},)"
        raise PudleError(f"x and codes must be {shapes}, not {tuple(x.shape)} and {tuple(codes.shape)}")
    (m, p), support = dictionary.shape, codes != 0
    jacobian = dictionary.new_zeros(p, m, p)
    if support.any():
        residual = dictionary @ codes - x
        inner = dictionary[:, support].T[:, :, None] * codes  # (|S|, m, p): D_li ẑ_j
        inner += torch.eye(p, dtype=codes.dtype, device=codes.device)[support][:, None] * residual[:, None]
        chosen = dictionary[:, support]
        solution, failed = torch.linalg.solve_ex(widened(chosen.T @ chosen), widened(inner.flatten(1)))
        if failed:
            raise PudleError("the atoms on the support of codes are linearly dependent: the codes have no derivative there")
        jacobian[support] = -solution.reshape(inner.shape).to(jacobian.dtype)
    return jacobian
