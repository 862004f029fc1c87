r"""The lasso's codes, :math:`\arg\min_z ½‖x − Dz‖² + λ‖z‖_1`, exactly: what unrolled layers approach.

Layers find the signed support of most samples, and then a linear system has the codes. Whether they are optimal is always checked:
the KKT residual is how far −∇ of the quadratic term is from λ ∂‖z‖₁.
"""

import math
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor

from pudle.core.gradients import unrolled_codes
from pudle.core.unrolling import Unrolling, check_shapes
from pudle.errors import PudleError

LAYERS = 100  # before the first linear systems
SET = 64  # atoms of a working set to begin with
ROUNDS = 20  # of working sets
BATCH = 32  # samples whose working sets are gathered at a time


def lasso(
    x: Tensor,
    dictionary: Tensor,
    lam: float,
    *,
    nonnegative: bool = False,
    tol: float = 1e-6,
    max_iter: int = 2_000,
    start: Tensor | None = None,
) -> Tensor:
    """Lasso codes (n, p): argmin_z ½‖x − Dz‖² + λ‖z‖₁ for each row of ``x`` (n, m), to a KKT residual of at most
    ``tol`` times the sample's largest |⟨D_i, x⟩|, so that scaling x and λ scales the codes.

    start : codes (n, p) near the wanted ones, such as those of a dictionary that has changed little since: they save time

    On a CPU an active-set method (:mod:`pudle.kernels.active_set`) solves every sample, and its KKT residual, to a hundredth of ``tol``,
    says which are done. Those left, and all on other devices, go through unrolled layers and accelerated proximal gradient (Beck &
    Teboulle, 2009) with restarts (O'Donoghue & Candès, 2015), of at most ``max_iter`` iterations; every 50 of these the linear system on
    the current signed support is solved exactly. The last few go to scikit-learn's homotopy (LARS), and where that loses its way to its
    coordinate descent. Computed in float64, but for the layers, and returned in the type of ``x``; differentiable in ``x`` and
    ``dictionary`` for the signed support that is found. Raises :class:`PudleError` if none of them comes to ``tol``.
    """
    check_shapes(x, dictionary)
    X, D = x.double(), dictionary.double()
    with torch.no_grad():
        correlation = X @ D
        if not correlation.isfinite().all():
            raise PudleError("lasso: x or dictionary holds values that are not finite, for which there are no codes")
        scale = _power_of_two(correlation)
        lam = Unrolling(lam=lam, step=1.0, n_layers=1).lam / scale
        codes = _start(x, dictionary, start) / scale
        if not len(x):
            return codes.to(x.dtype)
        samples, correlation = X.detach() / scale, correlation / scale  # exactly the same problem, in its own units
        tols = tol * correlation.abs().amax(1)
        left = torch.arange(len(x), device=x.device)  # samples not yet optimal
        if x.device.type == "cpu":
            left = left[~(_by_active_sets(codes, samples, D.detach(), correlation, lam, nonnegative, tols) <= tols)]
        if len(left):
            some = (part[left] for part in (x.detach() / scale, samples, correlation, tols))
            codes[left] = _by_layers(*some, dictionary.detach(), D.detach(), lam, nonnegative, tol, max_iter)
    if torch.is_grad_enabled() and (x.requires_grad or dictionary.requires_grad):
        codes = _solve_on_support(codes, D.T @ D, X @ D / scale, lam)
    return (codes * scale).to(x.dtype)


def _start(x: Tensor, dictionary: Tensor, start: Tensor | None) -> Tensor:
    """A copy of ``start`` in float64, or zeros (n, p)."""
    shape = (len(x), dictionary.shape[1])
    if start is None:
        return x.new_zeros(shape, dtype=torch.float64)
    if start.shape != shape or not start.isfinite().all():
        raise PudleError(f"start must be {shape} and finite, one row of codes for each sample, not {tuple(start.shape)}")
    return start.detach().to(x.device, torch.float64, copy=True)


def _by_active_sets(
    codes: Tensor, x: Tensor, dictionary: Tensor, correlation: Tensor, lam: float, nonnegative: bool, tols: Tensor
) -> Tensor:
    """Codes in place of those that are the start; returns their KKT residuals (n,).

    With DᵀD where samples are many. Where they are few, in working sets: those atoms that correlate most with x − Dz, and those in use,
    until no other atom violates the KKT conditions. Source: Massias, Gramfort & Salmon, ICML 2018, without their dual extrapolation.
    """
    (n, p), size = codes.shape, SET
    if n * (4 * size**2 + 4 * p) >= p**2:
        return _solve(codes, correlation, (dictionary.T @ dictionary)[None], lam, nonnegative, tols)
    atoms, residuals, left = dictionary.T.contiguous(), torch.full_like(tols, torch.inf), torch.arange(n)
    descent = correlation if not codes.any() else (x - codes @ atoms) @ dictionary
    for _ in range(ROUNDS):
        score = torch.where(codes[left] != 0, torch.inf, descent if nonnegative else descent.abs())
        members = score.topk(min(size, p), dim=1).indices
        found = torch.cat(
            [
                _in_working_sets(codes[some], some_members, correlation[some], atoms, lam, nonnegative, tols[some])
                for some, some_members in zip(left.split(BATCH), members.split(BATCH), strict=True)
            ]
        )
        codes[left] = found
        descent = (x[left] - found @ atoms) @ dictionary
        residuals[left] = _violation(found, descent, lam, nonnegative)
        again = residuals[left] > tols[left]
        if not again.any():
            break
        most = int((found[again] != 0).sum(1).max())
        size = 2 * size if 2 * most > size else size
        left, descent = left[again], descent[again]
    return residuals


def _in_working_sets(codes, members, correlation, atoms, lam, nonnegative, tols):
    """Codes (n, p) whose entries outside ``members`` (n, K) are 0."""
    chosen = atoms[members]
    grams, inside = torch.bmm(chosen, chosen.mT), codes.gather(1, members)
    _solve(inside, correlation.gather(1, members), grams, lam, nonnegative, tols)
    return torch.zeros_like(codes).scatter_(1, members, inside)


def _solve(codes: Tensor, correlation: Tensor, grams: Tensor, lam: float, nonnegative: bool, tols: Tensor) -> Tensor:
    """Codes (n, p), in place of those that are the start, by :mod:`pudle.kernels.active_set`, in threads; KKT residuals (n,).

    correlation : (n, p); grams : (n, p, p), or (1, p, p) for all samples
    """
    from pudle.kernels.active_set import LANES, solve_in_threads  # numba is slow to import, and needed here only

    if padding := -codes.shape[1] % LANES:
        correlation, grams = F.pad(correlation, (0, padding)), F.pad(grams, (0, padding, 0, padding))
    residuals = torch.empty_like(tols)
    goals = (tols / 100).clamp_min(8 * torch.finfo(tols.dtype).eps * correlation.abs().amax(1))
    arrays = [tensor.numpy() for tensor in (codes, residuals, correlation, grams, goals)]
    solve_in_threads(*arrays, lam, nonnegative, torch.get_num_threads())
    return residuals


def _by_layers(
    x: Tensor,
    X: Tensor,
    correlation: Tensor,
    tols: Tensor,
    dictionary: Tensor,
    D: Tensor,
    lam: float,
    nonnegative: bool,
    tol: float,
    max_iter: int,
) -> Tensor:
    """Codes of the samples that active sets do not solve; ``x`` and ``dictionary`` are in the type of the call, the others in float64."""
    gram = D.T @ D
    unrolling = Unrolling(lam=lam, step=1 / _squared_norm(gram), n_layers=LAYERS, nonnegative=nonnegative)
    codes = unrolled_codes(x, dictionary, unrolling).double()
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
            return codes
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
    return codes


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
    return _violation(codes, correlation - codes @ gram, lam, nonnegative)


def _violation(codes: Tensor, descent: Tensor, lam: float, nonnegative: bool) -> Tensor:
    """How far ``descent``, −∇ of the quadratic term, is from λ ∂‖z‖₁ (n,)."""
    off = (descent if nonnegative else descent.abs()) - lam
    violation = torch.where(codes == 0, off.clamp_min(0), (descent - lam * codes.sign()).abs())
    if nonnegative:
        violation = torch.maximum(violation, (-codes).clamp_min(0))
    return violation.amax(1)
