r"""Exact codes of the lasso, :math:`\arg\min_z ½‖x − Dz‖² + λ‖z‖_1`, to which unrolled layers converge.

An active-set method computes them. If it fails, unrolled layers find the signed support, and a linear system on this support is solved.
Optimality is always tested by the KKT residual, the distance of the negative gradient of the quadratic term from λ ∂‖z‖₁.
"""

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor

from pudle.core.gradients import unrolled_codes
from pudle.core.units import power_below
from pudle.core.unrolling import Unrolling, check_codes, check_shapes, check_types
from pudle.errors import PudleError

LAYERS = 100  # layers before the first linear systems
SET = 64  # approximate number of atoms in a working set
ROUNDS = 20  # largest number of enlargements of a working set
LANES = 16  # compiled loops need widths that are multiples of this number


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
    """Lasso codes (n, p), argmin_z ½‖x − Dz‖² + λ‖z‖₁ for each row of ``x`` (n, m).

    The KKT residual of a sample is at most ``tol`` times its largest |⟨D_i, x⟩|, so that scaling x and λ scales the codes.

    dictionary : D (m, p); its atoms can have any norm
    lam : λ ≥ 0, in the units of x times those of the atoms
    start : codes (n, p) near the solution, such as those of a dictionary that has changed little since; they save time

    On a CPU an active-set method (:mod:`pudle.kernels.active_set`; Osborne, Presnell & Turlach, 2000) solves all samples to a hundredth of
    ``tol``. The samples whose KKT residual is still above ``tol``, and all samples on other devices, are solved by unrolled layers and at
    most ``max_iter`` iterations of accelerated proximal gradient (Beck & Teboulle, 2009) with restarts (O'Donoghue & Candès, 2015). Every 50
    iterations the linear system on the current signed support is solved exactly. Remaining samples are solved by scikit-learn's homotopy
    (LARS) and, if this fails, by its coordinate descent. All steps except the layers use float64. Codes have the type of ``x`` and are
    differentiable in ``x`` and ``dictionary`` with the signed support held fixed. Raises :class:`PudleError` if shapes or types do not fit,
    if values are not finite, or if no method reaches ``tol``.
    """
    check_shapes(x, dictionary)
    with torch.no_grad():
        X, D = x.double(), torch.empty(dictionary.T.shape, dtype=torch.float64, device=x.device).copy_(dictionary.T).T
        correlation = X @ D
        largest = correlation.abs().amax(1) if len(x) else X.new_zeros(0)
        if not largest.isfinite().all():
            raise PudleError("lasso: all values of x and dictionary must be finite")
        scale = power_below(float(largest.max()) if len(x) else 0.0)
        lam = Unrolling(lam=lam, step=1.0, n_layers=1).lam / scale
        codes = _start(x, dictionary, start, scale)
        if not len(x):
            return codes.to(x.dtype)
        samples, correlation = X / scale, correlation.div_(scale)  # the same problem in other units; the division is exact
        largest = largest / scale
        tols = tol * largest
        left = torch.arange(len(x), device=x.device)  # samples not yet optimal
        if x.device.type == "cpu":
            goals = largest * max(tol / 100, 16 * torch.finfo(tols.dtype).eps)
            left = left[~(_by_active_sets(codes, samples, D, correlation, lam, nonnegative, goals) <= tols)]
        if len(left):
            some = (part[left] for part in (x.detach() / scale, samples, correlation, tols))
            codes[left] = _by_layers(*some, dictionary.detach(), D, lam, nonnegative, tol, max_iter)
    if torch.is_grad_enabled() and (x.requires_grad or dictionary.requires_grad):
        X, D = x.double(), dictionary.double()
        codes = _solve_on_support(codes, D.T @ D, X @ D / scale, lam)
    return codes.mul_(scale).to(x.dtype)


def _start(x: Tensor, dictionary: Tensor, start: Tensor | None, scale: float) -> Tensor:
    """``start`` / scale in float64, or zeros (n, p)."""
    shape = (len(x), dictionary.shape[1])
    if start is None:
        return x.new_zeros(shape, dtype=torch.float64)
    check_types(start=start)
    if start.shape != shape:
        raise PudleError(f"start must be {shape}, one row of codes for each sample, not {tuple(start.shape)}")
    if not start.isfinite().all():
        raise PudleError("all values of start must be finite")
    return start.detach().to(x.device, torch.float64) / scale


def _by_active_sets(
    codes: Tensor, x: Tensor, dictionary: Tensor, correlation: Tensor, lam: float, nonnegative: bool, goals: Tensor
) -> Tensor:
    """Replace ``codes``, the start, by lasso codes with KKT residuals of at most ``goals`` (n,) if possible; returns the residuals (n,).

    If there are many samples, DᵀD of all atoms is computed; otherwise each sample has a working set of atoms.
    """
    n, p = codes.shape
    if n * (4 * SET**2 + 4 * p) >= p**2:
        return _solve(codes, correlation, (dictionary.T @ dictionary)[None], lam, nonnegative, goals)
    return _in_working_sets(codes, x, dictionary, correlation, lam, nonnegative, goals)


def _in_working_sets(
    codes: Tensor, x: Tensor, dictionary: Tensor, correlation: Tensor, lam: float, nonnegative: bool, goals: Tensor
) -> Tensor:
    """:func:`_by_active_sets` for few samples, with DᵀD of a working set of K atoms for each sample.

    A working set holds the atoms that correlate most with x − Dz and those of the start. It is enlarged as long as atoms outside violate
    the KKT conditions. Source: Massias, Gramfort & Salmon, ICML 2018, without their dual extrapolation.
    """
    atoms, p = dictionary.T, codes.shape[1]
    descent = correlation - _times(codes, atoms) @ dictionary if codes.any() else correlation
    score = descent if nonnegative else descent.abs()
    likely = ((score > (score.amax(1, keepdim=True) / 2).clamp_min(lam)) | (codes != 0)).sum(1)
    size = max(SET // 2, int(likely.max()))
    joining = score.masked_fill(codes != 0, torch.inf).topk(min(p, size), dim=1).indices
    grams, members = x.new_empty(len(x), 0, 0), joining[:, :0]
    left, residuals = torch.arange(len(x)), torch.full_like(goals, torch.inf)
    for k in range(ROUNDS):
        members = torch.cat([members, joining], 1)
        grams = _larger(grams, members, joining.shape[1], atoms)
        inside = codes[left].gather(1, members)
        _solve(inside, correlation[left].gather(1, members), grams, lam, nonnegative, goals[left])
        codes[left] = found = torch.zeros_like(codes[left]).scatter_(1, members, inside)
        descent = (x[left] - _times(found, atoms)) @ dictionary
        residuals[left] = _violation(found, descent, lam, nonnegative)
        again = residuals[left] > 10 * goals[left]
        if not again.any() or members.shape[1] == p:
            break
        left, members, grams = (array[again] for array in (left, members, grams))
        score = (descent if nonnegative else descent.abs())[again].scatter_(1, members, -1)
        joining = score.topk(min(p - members.shape[1], LANES << k), dim=1).indices
    return residuals


def _larger(grams: Tensor, members: Tensor, n_new: int, atoms: Tensor) -> Tensor:
    """DᵀD of the working sets ``members`` (n, K), of which ``grams`` has all but the last ``n_new`` rows and columns."""
    n_old, new = grams.shape[1], grams.new_empty(len(members), n_new, members.shape[1])
    chosen = atoms.new_empty(members.shape[1], atoms.shape[1])
    for row, out in zip(members, new, strict=True):  # one sample after the other, so that its atoms stay in the cache
        torch.index_select(atoms, 0, row, out=chosen)
        torch.mm(chosen[n_old:], chosen.T, out=out)
    return torch.cat([torch.cat([grams, new[:, :, :n_old].mT], 2), new], 1)


def _times(codes: Tensor, atoms: Tensor) -> Tensor:
    """Dz (n, m) for sparse codes (n, p)."""
    return torch.sparse.mm(codes.to_sparse(), atoms)


def _solve(codes: Tensor, correlation: Tensor, grams: Tensor, lam: float, nonnegative: bool, goals: Tensor) -> Tensor:
    """Replace ``codes`` (n, p), the start, by those that :mod:`pudle.kernels.active_set` finds, in threads; returns KKT residuals (n,).

    correlation : Dᵀx, (n, p)
    grams : DᵀD, (n, p, p), or (1, p, p) for all samples
    """
    from pudle.kernels.active_set import solve_in_threads  # importing numba is slow, and only this function needs it

    if padding := -codes.shape[1] % LANES:
        correlation, grams = F.pad(correlation, (0, padding)), F.pad(grams, (0, padding, 0, padding))
    residuals = torch.empty_like(goals)
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
    """Codes of samples that active sets do not solve. ``x`` and ``dictionary`` have the type of the call, all other tensors float64."""
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
    for sample in left.tolist():  # few and hard samples remain
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
    """The KKT residual max_i dist(−D_iᵀ(Dz − x), λ ∂|z_i|) of each sample, shape (n,); it is 0 for optimal codes.

    It has the units of x times those of the atoms. Raises :class:`PudleError` if shapes or types do not fit.
    """
    check_codes(x, dictionary, codes)
    return _kkt(codes, dictionary.T @ dictionary, x @ dictionary, lam, nonnegative)


def _squared_norm(gram: Tensor) -> float:
    """An estimate of ‖D‖₂² from DᵀD, by the power method from 8 directions.

    It is at most a tenth too large, or slightly too small; layers converge up to twice the step 1 / ‖D‖₂².
    """
    directions = torch.randn(len(gram), 8, generator=torch.Generator().manual_seed(0), dtype=gram.dtype, device="cpu").to(
        gram.device
    )
    for _ in range(20):
        directions = gram @ (directions / directions.norm(dim=0).clamp_min(1e-300))
    return 1.1 * max(float(directions.norm(dim=0).max()), 1e-300)


def _accelerated(codes: Tensor, gram: Tensor, correlation: Tensor, unrolling: Unrolling, n_iter: int) -> Tensor:
    momentum, point = torch.ones_like(codes[:, :1]), codes  # each sample has its own restarts
    for _ in range(n_iter):
        new = unrolling.shrink(point - unrolling.step * (point @ gram - correlation), 0)
        restart = ((point - new) * (new - codes)).sum(1, keepdim=True) > 0
        momentum = torch.where(restart, 1.0, momentum)
        following = (1 + (1 + 4 * momentum**2).sqrt()) / 2
        point = new + (momentum - 1) / following * (new - codes)
        codes, momentum = new, following
    return codes


def _solve_on_support(codes: Tensor, gram: Tensor, correlation: Tensor, lam: float) -> Tensor:
    """Solve G_SS z_S = (Dᵀx)_S − λ sign(z_S) for each sample. Rows of the identity pad supports to the size of the largest."""
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
    """Lasso codes (p,) of one sample, by following the path of solutions from λ = ∞."""
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
    """Lasso codes (1, p) of one sample by coordinate descent, which is slower and more reliable than homotopy."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import lasso_path

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the caller tests the KKT residual
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
    """The distance (n,) of ``descent``, the negative gradient of the quadratic term, from λ ∂‖z‖₁."""
    off = (descent if nonnegative else descent.abs()) - lam
    violation = torch.where(codes == 0, off.clamp_min(0), (descent - lam * codes.sign()).abs())
    if nonnegative:
        violation = torch.maximum(violation, (-codes).clamp_min(0))
    return violation.amax(1)
