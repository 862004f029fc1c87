r"""Sparse coding: T unrolled layers, and the lasso solution that they approach.

Data ``x`` is (n, m), a dictionary ``D`` is (m, p) with atoms as columns, codes ``z`` are (n, p).

.. math::
    z_{t+1} = P_t\bigl(z_t - \alpha D^\top (D z_t - x)\bigr), \qquad z_0 = 0, \quad t = 0, \dots, T - 1

with ``P_t`` the soft threshold at :math:`\alpha\lambda\nu^t` (``lam``, ``decay``) or the hard threshold at ``threshold``. With
``acceleration="fista"`` (Beck & Teboulle, 2009) layers start from :math:`y_t = z_t + \beta_t (z_t - z_{t-1})` in place of :math:`z_t`, with
:math:`\beta_t = (\theta_{t-1} - 1) / \theta_t, \theta_0 = 1, \theta_t = (1 + \sqrt{1 + 4 \theta_{t-1}^2}) / 2`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pudle.errors import PudleError, one_of

ACCELERATIONS = ("none", "fista")


@dataclass(frozen=True, kw_only=True)
class Unrolling:
    """The settings of T unrolled layers, checked once.

    lam : sparsity level λ of soft thresholding (exactly one of ``lam`` and ``threshold`` is given)
    threshold : absolute level b of hard thresholding; not multiplied by the step
    step : step size α
    n_layers : number of layers T
    decay : ν, with λ_t = λ ν^t; only for soft thresholding
    nonnegative : one-sided codes (a ReLU) instead of signed ones
    acceleration : "none", or "fista" for layers with momentum
    """

    lam: float | None = None
    threshold: float | None = None
    step: float
    n_layers: int
    decay: float = 1.0
    nonnegative: bool = False
    acceleration: str = "none"

    def __post_init__(self):
        if (self.lam is None) == (self.threshold is None):
            raise PudleError(
                f"give exactly one of lam (soft) and threshold (hard), not lam={self.lam} and threshold={self.threshold}"
            )
        level = "threshold" if self.hard else "lam"
        if getattr(self, level) < 0:
            raise PudleError(f"{level} must be at least 0, not {getattr(self, level)}")
        if self.step <= 0:
            raise PudleError(f"step must be above 0, not {self.step}")
        if self.n_layers < 1:
            raise PudleError(f"n_layers must be at least 1, not {self.n_layers}")
        one_of(self.acceleration, ACCELERATIONS, "acceleration")
        if not 0 < self.decay <= 1:
            raise PudleError(f"decay must be in (0, 1], not {self.decay}")
        if self.hard and self.decay != 1:
            raise PudleError(f"decay={self.decay} lowers lam and so needs soft thresholding, not threshold={self.threshold}")

    @property
    def hard(self) -> bool:
        return self.threshold is not None

    @property
    def accelerated(self) -> bool:
        return self.acceleration == "fista"

    def momenta(self) -> list[float]:
        """β_t of every layer; 0 without acceleration."""
        momenta, theta = [0.0], 1.0
        for _ in range(self.n_layers - 1):
            following = (1 + math.sqrt(1 + 4 * theta**2)) / 2
            momenta.append((theta - 1) / following if self.accelerated else 0.0)
            theta = following
        return momenta

    def level(self, layer: int) -> float:
        """What layer t compares entries with: α λ ν^t for soft thresholding, b for hard."""
        return self.threshold if self.hard else self.step * self.lam * self.decay**layer

    def shrink(self, u: Tensor, layer: int) -> Tensor:
        """P_t, elementwise."""
        level = self.level(layer)
        if self.hard:
            return torch.where((u if self.nonnegative else u.abs()) >= level, u, torch.zeros_like(u))
        return F.relu(u - level) if self.nonnegative else F.softshrink(u, level)


def iterate(unrolling: Unrolling, codes: Tensor, correlate: Callable[[Tensor], Tensor]) -> Tensor:
    """Run all layers from ``codes``; ``correlate(z)`` is Dᵀ(Dz − x) for whatever linear D the caller has."""
    previous = codes
    for layer, momentum in enumerate(unrolling.momenta()):
        point = codes + momentum * (codes - previous) if momentum else codes
        previous, codes = codes, unrolling.shrink(point - unrolling.step * correlate(point), layer)
    return codes


def encode(
    x: Tensor,
    dictionary: Tensor,
    *,
    lam: float | None = None,
    threshold: float | None = None,
    step: float,
    n_layers: int,
    decay: float = 1.0,
    nonnegative: bool = False,
    acceleration: str = "none",
) -> Tensor:
    """Codes z_T (n, p) of ``x`` (n, m) after T unrolled layers; differentiable in ``x`` and ``dictionary`` (m, p).

    Settings as in :class:`Unrolling`, whose :class:`PudleError` they raise. Source: PUDLE, Algorithm 1.
    """
    unrolling = Unrolling(
        lam=lam,
        threshold=threshold,
        step=step,
        n_layers=n_layers,
        decay=decay,
        nonnegative=nonnegative,
        acceleration=acceleration,
    )
    check_shapes(x, dictionary)
    start = x.new_zeros(x.shape[0], dictionary.shape[1])
    return iterate(unrolling, start, lambda codes: (codes @ dictionary.T - x) @ dictionary)


def lasso(
    x: Tensor,
    dictionary: Tensor,
    lam: float,
    *,
    nonnegative: bool = False,
    tol: float = 1e-6,
    max_iter: int = 2_000,
) -> Tensor:
    """Lasso codes (n, p): argmin_z ½‖x − Dz‖² + λ‖z‖₁ for each row of ``x`` (n, m), to a KKT residual of at most ``tol``.

    Accelerated proximal gradient (Beck & Teboulle, 2009) with restarts (O'Donoghue & Candès, 2015); every 50 iterations the
    linear system on the current signed support is solved exactly, and the samples for which that is optimal are done. Those left
    after ``max_iter`` iterations go to scikit-learn's homotopy (LARS). Computed in float64 and returned in the type of ``x``.
    Raises :class:`PudleError` if ``tol`` is out of reach of float64.
    """
    check_shapes(x, dictionary)
    X, D = x.double(), dictionary.double()
    gram, correlation = D.T @ D, X @ D
    step = 1 / torch.linalg.matrix_norm(D, 2).square().clamp_min(1e-300)
    unrolling = Unrolling(lam=lam, step=float(step), n_layers=1, nonnegative=nonnegative)
    codes = torch.zeros_like(correlation)
    left = torch.arange(len(X), device=x.device)  # samples not yet optimal
    current = codes
    for _ in range(0, max_iter, 50):
        current = _accelerated(current, gram, correlation[left], unrolling, 50)
        polished = _solve_on_support(current, gram, correlation[left], lam)
        better = _kkt(polished, gram, correlation[left], lam, nonnegative) <= tol
        current = torch.where(better[:, None], polished, current)
        optimal = _kkt(current, gram, correlation[left], lam, nonnegative) <= tol
        codes[left[optimal]] = current[optimal]
        left, current = left[~optimal], current[~optimal]
        if not len(left):
            return codes.to(x.dtype)
    for sample in left.tolist():  # the few hard ones
        codes[sample] = _homotopy(gram, correlation[sample], lam, nonnegative)
    residual = float(_kkt(codes, gram, correlation, lam, nonnegative).max())
    if residual > tol:
        raise PudleError(
            f"lasso: the KKT residual is {residual:.1e}, above tol={tol}: beyond the precision of float64 here; raise tol"
        )
    return codes.to(x.dtype)


def kkt_residual(x: Tensor, dictionary: Tensor, codes: Tensor, lam: float, *, nonnegative: bool = False) -> Tensor:
    """How far each sample's codes are from lasso optimality: max_i dist(−D_iᵀ(Dz − x), λ ∂|z_i|), shape (n,)."""
    return _kkt(codes, dictionary.T @ dictionary, x @ dictionary, lam, nonnegative)


def _accelerated(codes: Tensor, gram: Tensor, correlation: Tensor, unrolling: Unrolling, n_iter: int) -> Tensor:
    momentum, point = torch.ones_like(codes[:, :1]), codes  # each sample restarts on its own
    for _ in range(n_iter):
        new = unrolling.shrink(point - unrolling.step * (point @ gram - correlation), 0)
        restart = ((point - new) * (new - codes)).sum(1, keepdim=True) > 0
        momentum = torch.where(restart, 1.0, momentum)
        following = (1 + (1 + 4 * momentum**2).sqrt()) / 2
        point = new + (momentum - 1) / following * (new - codes)
        codes, momentum = new, following
    return codes


def _solve_on_support(codes: Tensor, gram: Tensor, correlation: Tensor, lam: float) -> Tensor:
    """Solve G_SS z_S = (Dᵀx)_S − λ sign(z_S) for each sample; supports are padded to the largest with rows of the identity."""
    width = int((codes != 0).sum(1).max())
    index = codes.abs().topk(width, dim=1).indices
    signs = codes.gather(1, index).sign()
    active = signs != 0
    system = gram[index[:, :, None], index[:, None, :]] * (active[:, :, None] & active[:, None, :])
    system.diagonal(dim1=1, dim2=2).add_((~active).to(gram.dtype))
    target = (correlation.gather(1, index) - lam * signs) * active
    solution, _ = torch.linalg.solve_ex(system, target)
    solution = torch.where(torch.isfinite(solution), solution, torch.zeros_like(solution))
    return torch.zeros_like(codes).scatter(1, index, solution)


def _homotopy(gram: Tensor, correlation: Tensor, lam: float, nonnegative: bool) -> Tensor:
    """One sample's lasso codes (p,) by following the path from λ = ∞."""
    from sklearn.linear_model import lars_path_gram

    _, _, codes = lars_path_gram(
        correlation.cpu().numpy(),
        gram.cpu().numpy(),
        n_samples=1,
        method="lasso",
        alpha_min=lam,
        positive=nonnegative,
        return_path=False,
        max_iter=10_000,
    )
    return torch.as_tensor(codes, device=gram.device)


def _kkt(codes: Tensor, gram: Tensor, correlation: Tensor, lam: float, nonnegative: bool) -> Tensor:
    if not codes.shape[0]:
        return codes.new_zeros(0)
    descent = correlation - codes @ gram  # −∇ of the quadratic: must lie in λ ∂|z|
    off = (descent if nonnegative else descent.abs()) - lam
    violation = torch.where(codes == 0, off.clamp_min(0), (descent - lam * codes.sign()).abs())
    if nonnegative:
        violation = torch.maximum(violation, (-codes).clamp_min(0))
    return violation.amax(1)


def check_shapes(x: Tensor, dictionary: Tensor) -> None:
    """Raise :class:`PudleError` unless ``x`` is (n, m) and ``dictionary`` is (m, p)."""
    if x.ndim != 2 or dictionary.ndim != 2 or x.shape[1] != dictionary.shape[0]:
        raise PudleError(
            f"x must be (n_samples, n_features) and dictionary (n_features, n_atoms), not {tuple(x.shape)} and {tuple(dictionary.shape)}"
        )
