r"""The lasso's codes, :math:`\arg\min_z ½‖x − Dz‖² + λ‖z‖_1`, exactly: what unrolled layers approach.

Layers find the signed support of most samples, and then a linear system has the codes. Whether they are optimal is always checked:
the KKT residual is how far −∇ of the quadratic term is from λ ∂‖z‖₁.
"""

import math
import warnings

import torch
from torch import Tensor

from pudle.core.gradients import unrolled_codes
from pudle.core.unrolling import Unrolling, check_shapes
from pudle.errors import PudleError

LAYERS = 100  # before the first linear systems


def lasso(
    x: Tensor,
    dictionary: Tensor,
    lam: float,
    *,
    nonnegative: bool = False,
    tol: float = 1e-6,
    max_iter: int = 2_000,
) -> Tensor:
    """Lasso codes (n, p): argmin_z ½‖x − Dz‖² + λ‖z‖₁ for each row of ``x`` (n, m), to a KKT residual of at most
    ``tol`` times the sample's largest |⟨D_i, x⟩|, so that scaling x and λ scales the codes.

    After unrolled layers, and then every 50 iterations of accelerated proximal gradient (Beck & Teboulle, 2009) with restarts
    (O'Donoghue & Candès, 2015), the linear system on the current signed support is solved exactly, and the samples for which that is
    optimal are done. Those left after ``max_iter`` iterations go to scikit-learn's homotopy (LARS), and where that loses its way to its
    coordinate descent. Computed in float64, but for the layers, and returned in the type of ``x``. Raises :class:`PudleError` if
    none of them comes to ``tol``.
    """
    check_shapes(x, dictionary)
    X, D = x.double(), dictionary.double()
    gram, correlation = D.T @ D, X @ D
    if not correlation.isfinite().all():
        raise PudleError("lasso: x or dictionary holds values that are not finite, for which there are no codes")
    scale = _power_of_two(correlation)
    lam = Unrolling(lam=lam, step=1.0, n_layers=1).lam / scale
    x, X, correlation = x / scale, X / scale, correlation / scale  # exactly the same problem, in its own units
    tols = tol * correlation.abs().amax(1)
    unrolling = Unrolling(lam=lam, step=1 / _squared_norm(gram), n_layers=LAYERS, nonnegative=nonnegative)
    codes = unrolled_codes(x, dictionary, unrolling).double()
    if not len(x):
        return codes.to(x.dtype)
    left = torch.arange(len(X), device=x.device)  # samples not yet optimal
    current = codes
    for iteration in range(0, max_iter + 1, 50):
        if iteration:
            current = _accelerated(current, gram, correlation[left], unrolling, 50)
        polished = _solve_on_support(current, gram, correlation[left], lam)
        better = _kkt(polished, gram, correlation[left], lam, nonnegative) <= tols[left]
        current = torch.where(better[:, None], polished, current)
        optimal, rest = better.clone(), ~better
        optimal[rest] = _kkt(current[rest], gram, correlation[left[rest]], lam, nonnegative) <= tols[left[rest]]
        codes[left[optimal]] = current[optimal]
        left, current = left[~optimal], current[~optimal]
        if not len(left):
            return (codes * scale).to(x.dtype)
    for sample in left.tolist():  # the few hard ones
        codes[sample] = _homotopy(gram, correlation[sample], lam, nonnegative)
        some = slice(sample, sample + 1)
        if not _kkt(codes[some], gram, correlation[some], lam, nonnegative) <= tols[some]:
            descended = _descended(X[some], D, gram, correlation[some], lam, nonnegative)
            tries = torch.cat([codes[some], descended, _solve_on_support(descended, gram, correlation[some], lam)])
            codes[sample] = tries[_kkt(tries, gram, correlation[some], lam, nonnegative).argmin()]
    residuals = _kkt(codes, gram, correlation, lam, nonnegative)
    if not (residuals <= tols).all():
        worst = float((residuals / tols * tol).max())
        raise PudleError(
            f"lasso: the KKT residual of {int((~(residuals <= tols)).sum())} of {len(x)} samples is up to {worst:.1e}, "
            f"above tol={tol}: neither homotopy nor coordinate descent in float64 comes closer; raise tol"
        )
    return (codes * scale).to(x.dtype)


def kkt_residual(x: Tensor, dictionary: Tensor, codes: Tensor, lam: float, *, nonnegative: bool = False) -> Tensor:
    """How far each sample's codes are from lasso optimality: max_i dist(−D_iᵀ(Dz − x), λ ∂|z_i|), shape (n,)."""
    return _kkt(codes, dictionary.T @ dictionary, x @ dictionary, lam, nonnegative)


def _power_of_two(correlation: Tensor) -> float:
    """The largest that is at most the largest |⟨D_i, x⟩|: dividing by it changes no digit. 1 where all are 0."""
    largest = float(correlation.abs().max()) if correlation.numel() else 0.0
    return math.ldexp(1.0, math.frexp(largest)[1] - 1) if largest else 1.0


def _squared_norm(gram: Tensor) -> float:
    """‖D‖₂² of DᵀD, by the power method from 8 directions: up to a tenth too large, or a little too small (layers stand twice as much)."""
    directions = torch.randn(len(gram), 8, generator=torch.Generator().manual_seed(0), dtype=gram.dtype, device="cpu").to(
        gram.device
    )
    for _ in range(20):
        directions = gram @ (directions / directions.norm(dim=0).clamp_min(1e-300))
    return 1.1 * max(float(directions.norm(dim=0).max()), 1e-300)


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


def _descended(x: Tensor, dictionary: Tensor, gram: Tensor, correlation: Tensor, lam: float, nonnegative: bool) -> Tensor:
    """One sample's lasso codes (1, p) by coordinate descent: slower than homotopy, and surer."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import lasso_path

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the KKT residual tells
        _, codes, _ = lasso_path(
            dictionary.cpu().numpy(),
            x[0].cpu().numpy(),
            alphas=[lam / len(dictionary)],
            precompute=gram.cpu().numpy(),
            Xy=correlation[0].cpu().numpy(),
            positive=nonnegative,
            tol=1e-14,
            max_iter=100_000,
        )
    return torch.as_tensor(codes.T, device=gram.device)


def _kkt(codes: Tensor, gram: Tensor, correlation: Tensor, lam: float, nonnegative: bool) -> Tensor:
    if not codes.shape[0]:
        return codes.new_zeros(0)
    descent = correlation - codes @ gram  # −∇ of the quadratic: must lie in λ ∂|z|
    off = (descent if nonnegative else descent.abs()) - lam
    violation = torch.where(codes == 0, off.clamp_min(0), (descent - lam * codes.sign()).abs())
    if nonnegative:
        violation = torch.maximum(violation, (-codes).clamp_min(0))
    return violation.amax(1)
