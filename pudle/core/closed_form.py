r"""The gradients of :mod:`pudle.core.gradients` in closed form, in blocks of samples: sparse layers in compiled loops, others dense.

With :math:`W = I − αDᵀD`, layer t computes
:math:`u_t = z_t W + α x D`, :math:`z_{t+1} = P_t(u_t)`. Back through it, row by row,

.. math::
    \bar u_t = \bar z_{t+1} ⊙ 1[z_{t+1} ≠ 0], \qquad \bar z_t = \bar u_t W, \qquad
    \bar D = −α \bigl( D (S + Sᵀ) − xᵀ \textstyle\sum_t \bar u_t \bigr), \quad S = \textstyle\sum_t z_tᵀ \bar u_t,

plus the direct term (D z_T − x) z_Tᵀ; where few entries are active, D (S + Sᵀ) is added up itself. With FISTA layers u_t and S have
y_t in the place of z_t, and :math:`\bar z_t` is :math:`(1 + β_t) \bar u_t W - β_{t+1} \bar u_{t+1} W`.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from pudle.core.unrolling import Unrolling
from pudle.kernels.dense_layers import DenseLayers, share_active

# What follows was measured, and changes the time and the memory only.
CACHE = 500_000  # bytes of W up to which it stays in the second-level cache
SHARE_CACHED, SHARE_FAR = 0.8, 0.4  # of non-zeros in codes up to which loops over them are faster, with W in that cache or not
PROBE, SAMPLES = (
    64,
    4,
)  # samples that show whether the first codes are sparse, and through whose layers it is estimated how many are active
SPARSE_BLOCKS = 10  # blocks in one where no layer is dense, and none needs memory for a block
BLOCK_CPU, BLOCK_GPU = (
    100_000,
    10_000_000,
)  # codes of a block: 400 kB a layer in float32 on a CPU, so that one layer stays in the cache
TASKS = 8  # parts of a block at most, each with sums of its own
TASK_CODES = 8_000  # codes of all samples that are worth a task
TASK_SUMS = 4_000_000  # entries of the sums (p, p) of all tasks together, about


class Gradient(NamedTuple):
    """A dictionary gradient (m, p) with what was computed on the way: codes z_T (n, p) and the estimator's loss."""

    gradient: Tensor
    codes: Tensor
    loss: float


class Pullback(NamedTuple):
    """What derivatives z̄_T with respect to codes become: those with respect to x (n, m), D (m, p) or None, λ and α."""

    x: Tensor
    dictionary: Tensor | None
    lam: float
    step: float


def pull_back(x: Tensor, dictionary: Tensor, unrolling: Unrolling, given: Tensor, *, weights: bool, slopes: bool) -> Pullback:
    """Back through all layers from ``given`` z̄_T (n, p). Without ``weights`` or ``slopes``, None for D, or 0 for λ and α, saves time."""
    return gradient_in_closed_form(
        x, dictionary, "ae-ls", unrolling, 0, crowds=False if slopes else None, given=given, weights=weights, slopes=slopes
    )[0]


def gradient_in_closed_form(
    x,
    dictionary,
    estimator,
    unrolling,
    stop,
    sparse_share: float | None = None,
    lifted: bool | None = None,
    crowds: bool | None = None,
    start: Tensor | None = None,
    given: Tensor | None = None,
    weights: bool = True,
    slopes: bool = False,
):
    """The gradient, or the :class:`Pullback` of ``given`` z̄_T (n, p), and how many layers of samples ran dense, full and restricted.

    sparse_share, lifted : None for what :func:`_sparse_share` and, unless layers end dense, :func:`_lifting_pays` find
    crowds : whether the last layers may be dense again where decay lowers the level; None: where W does not stay in the cache.
        Sparse layers before such then run, and count, twice.
    start : codes (n, p) before the first layer, held constant; None: 0
    """
    (n, (m, p)), n_layers, step = (len(x), dictionary.shape), unrolling.n_layers, unrolling.step
    lam = unrolling.lam if estimator == "ae-lasso" else 0.0
    share = _sparse_share(dictionary) if sparse_share is None else sparse_share
    share = 0.0 if unrolling.accelerated else share  # y_t is as dense as two codes together
    with flushed_denormals(), _workers(share > 0) as pool:
        transfer = _transfer(dictionary, step, pool)
        sparse = _sparse_layers(n, dictionary, transfer, unrolling, lam, stop) if share > 0 else None
        dense = DenseLayers(transfer[:p, :p], unrolling, stop, share, min(n, _block(p, x.device)))
        codes, loss, done = x.new_zeros(n, p) if start is None else start.clone(), 0.0, 0
        drive, end = _add_product(x.new_zeros(n, p), x, dictionary, step, pool), n_layers
        if sparse and unrolling.decay < 1 and (not _cached(dictionary) if crowds is None else crowds):
            end = sparse.crowded(x[:SAMPLES], drive[:SAMPLES], share, pool)
        sums, lifted = _new_sums(x, drive, dictionary, sparse, n_layers, stop, end, lifted, weights, slopes, pool)
        dense.slopes, lasting = [0.0, 0.0] if slopes else None, None if given is None else x.new_empty(n, p)
        total = sums[0].T if lifted else x.new_zeros(m, p)  # (S + Sᵀ)Dᵀ transposed, and the other terms of −D̄ / α
        while done < n:
            few = slice(done, done + PROBE)
            first_codes = unrolling.shrink(drive[few], 0) if start is None else codes[few]
            at_once = share > 0 and share_active(first_codes) <= share
            some = slice(done, done + dense.size * (SPARSE_BLOCKS if at_once and end == n_layers else 1))
            block, last, bar = x[some], codes[some], None if given is None else given[some]
            first = 0 if at_once else dense.forward(drive[some], last)
            residual, back, errors = _run_block(
                sparse, dense, end, block, drive[some], last, dictionary, first, sums, lam, lifted, pool, bar
            )
            if given is None:
                loss += float(residual.square().sum()) / 2 + (lam * float(last.abs().sum()) if lam else 0.0)
                _add_product(total, residual.T, last, -1 / step, pool)  # the direct term
            if stop < n_layers:
                if stop < first:
                    errors = errors + dense.backward(back, first, sums[0] if sums else None, dictionary if lifted else None)
                if weights:
                    _add_product(total, block.T, errors, -1, pool)  # −xᵀ Σ ū
                if given is not None:
                    lasting[some] = errors
            done += len(block)
        counts = {"dense": dense.count, **(sparse.counts if sparse else {})}
        slope = _slopes(dense, sparse) if slopes else [0, 0]
        del transfer, dense, sparse  # what follows needs their memory
        for part in sums[1:]:
            sums[0] += part
        if sums and not lifted:
            _add_product(total, dictionary, sums[0] + sums[0].T, 1, pool)  # D (S + Sᵀ)
        gradient = torch.mul(total, -step / n if given is None else -step, out=x.new_empty(m, p))
        if given is not None:
            back = x.new_zeros(n, m)
            _add_product(back, lasting, dictionary.T, step, pool)
            return Pullback(back, gradient if weights else None, slope[0], slope[1] / step), counts
    return Gradient(gradient, codes, loss / n), counts


def _new_sums(x, drive, dictionary, sparse, n_layers, stop, end, lifted, weights, slopes, pool):
    """Zeros that S is added up in, (p, p), or where it is lifted (S + Sᵀ)Dᵀ, (p, m), for each task; and whether it is lifted.

    lifted : None for whichever takes fewer operations
    """
    if stop == n_layers:
        return [], False
    if not sparse:
        return ([x.new_zeros(drive.shape[1], drive.shape[1])] if weights else []), False
    if lifted is None:  # with W in the cache it makes no difference, and small calls would spend their time on it
        lifted = (
            weights and not _cached(dictionary) and end == n_layers and _lifting_pays(x, drive, sparse, n_layers - stop, pool)
        )
    return sparse.sums(lifted, weights, slopes), lifted


def _run_block(sparse, dense, end, x, drive, codes, dictionary, first, sums, lam, lifted, pool, bar):
    """Layers from ``first`` on of a block whose dense layers up to there have run, and back to ``first``.

    Returns the residual D z_T − x (n, m), z̄ at ``first`` and Σ ū from there on (n, p); ``codes`` become z_T. The residual is not defined where
    ``bar``, z̄_T (n, p), is given.
    """
    n_layers = dense.n_layers
    if first < n_layers and end < n_layers:
        dense.count += len(x) * (n_layers - max(first, end))
        return _sparse_then_dense(
            sparse, dense, max(first, end), x, drive, codes, dictionary, first, sums, lam, lifted, pool, bar
        )
    if first < n_layers:
        return sparse.run(x, drive, codes, first, pool, given=bar)
    if bar is not None:
        return None, bar.clone(), 0.0
    residual = codes @ dictionary.T - x
    return residual, residual @ dictionary + lam * codes.sign() if dense.stop < n_layers else None, 0.0


def _slopes(dense, sparse):
    """The derivatives with respect to λ, and to α times α, of dense and sparse layers together."""
    return [sum(pair) for pair in zip(dense.slopes, sparse.slopes() if sparse else [0, 0], strict=True)]


def _sparse_then_dense(sparse, dense, end, x, drive, codes, dictionary, first, sums, lam, lifted, pool, bar):
    """A block through sparse layers ``first`` to ``end``, and dense ones from there; returns what ``sparse.run`` does.

    bar : z̄_T, or None for that of the loss

    On the way back sparse layers run once more, as they keep the codes of one sample only.
    """
    late = DenseLayers(dense.transfer, dense.unrolling, max(dense.stop, end), 0.0, len(x), begin=end)
    residual, back, errors = torch.empty_like(x), torch.empty_like(codes), torch.empty_like(codes)
    start, cuts = codes.clone(), sparse.cuts(len(x))
    sparse.run(x, drive, codes, first, pool, end=end, backward=False)

    def run(task):
        some = cuts[task]
        torch.set_flush_denormal(True)
        late.forward(drive[some], codes[some], some)
        if bar is None:
            torch.mm(codes[some], dictionary.T, out=residual[some]).sub_(x[some])
        if dense.stop < late.n_layers:
            if bar is None:
                torch.mm(residual[some], dictionary, out=back[some]).add_(codes[some].sign(), alpha=lam)
            else:
                back[some] = bar[some]
            part = sums[task] if sums else None
            errors[some] = late.backward(back[some], late.n_layers, part, dictionary if lifted else None, some)

    _do(run, range(len(cuts)), pool)
    if dense.stop < end:
        _, back, earlier = sparse.run(x, drive, start, first, pool, end=end, given=back)
        errors += earlier
    return residual, back, errors


def _block(n_atoms: int, device: torch.device) -> int:
    """Samples of a block."""
    return max(1, (BLOCK_CPU if device.type == "cpu" else BLOCK_GPU) // n_atoms)


def _sparse_share(dictionary: Tensor) -> float:
    """The share of non-zeros in codes up to which compiled loops over them are faster than dense products; 0 where never."""
    if dictionary.device.type != "cpu" or dictionary.dtype not in (torch.float32, torch.float64):
        return 0.0
    return SHARE_CACHED if _cached(dictionary) else SHARE_FAR


def _cached(dictionary: Tensor) -> bool:
    """Whether W stays in the second-level cache."""
    return dictionary.shape[1] ** 2 * dictionary.element_size() < CACHE


@contextmanager
def _workers(wanted: bool):
    """A pool of as many threads as torch has, which has one meanwhile; None if that is one, or none is ``wanted``.

    After each product torch's own threads would wait for the next one in a loop, for milliseconds, on the processors that the workers want.
    """
    threads = torch.get_num_threads()
    if threads == 1 or not wanted:
        yield None
        return
    with ThreadPoolExecutor(threads) as pool, one_thread():
        yield pool


@contextmanager
def one_thread():
    """Torch has one thread meanwhile: where arrays are small, starting others and waiting for them takes longer than the work."""
    threads = torch.get_num_threads()
    if threads > 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if threads > 1:
            torch.set_num_threads(threads)


def _transfer(dictionary: Tensor, step: float, pool, size: int = 128) -> Tensor:
    """W = I − αDᵀD in rows and columns of zeros up to a multiple of 16. On a CPU products are those below the diagonal, as it is symmetric."""
    p = dictionary.shape[1]
    size = size if dictionary.device.type == "cpu" else p
    transfer = dictionary.new_zeros(-(-p // 16) * 16, -(-p // 16) * 16)

    def add_rows(start):
        stop = min(start + size, p)
        transfer[start:stop, :stop].addmm_(dictionary[:, start:stop].T, dictionary[:, :stop], alpha=-step)
        transfer[:start, start:stop] = transfer[start:stop, :start].T

    _do(add_rows, range(0, p, size)[::-1], pool)
    transfer.diagonal()[:p] += 1
    return transfer


def _add_product(out: Tensor, left: Tensor, right: Tensor, factor: float, pool, size: int = 256) -> Tensor:
    """out + factor · left · right, in place; on a CPU in columns, so that threads change nothing but the time."""

    def add_columns(start):
        some = slice(start, start + size)
        out[:, some].addmm_(left, right[:, some], alpha=factor)

    _do(add_columns, range(0, out.shape[1], size if out.device.type == "cpu" else out.shape[1]), pool)
    return out


def _do(task, arguments, pool) -> None:
    list(map(task, arguments) if pool is None or len(arguments) == 1 else pool.map(task, arguments))


def _sparse_layers(n: int, dictionary: Tensor, transfer: Tensor, unrolling: Unrolling, lam: float, stop: int):
    """:class:`pudle.kernels.sparse_layers.SparseLayers` for n samples, in tasks that are worth a thread each."""
    from pudle.kernels.sparse_layers import SparseLayers  # numba is slow to import, and needed here only

    n_atoms = dictionary.shape[1]
    tasks = min(TASKS, max(1, n * n_atoms // TASK_CODES), max(2, TASK_SUMS // n_atoms**2))
    return SparseLayers(dictionary, transfer, unrolling, lam=lam, stop=stop, tasks=tasks)


def _lifting_pays(x: Tensor, drive: Tensor, sparse, n_layers: int, pool) -> bool:
    """Whether (S + Sᵀ)Dᵀ is added up layer by layer, or S: the first takes 4 m operations for an active entry of a layer.

    The second takes p, and m p² at the end. The layers of a few samples show how many entries are active; n_layers : back
    through how many
    """
    (n, m), p = x.shape, drive.shape[1]
    at_the_end = m * p**2 / max(n, 1)
    if 4 * m * n_layers >= p * n_layers + at_the_end:  # even with one active entry a layer
        return False
    rows = sparse.rows(x[:SAMPLES], drive[:SAMPLES], pool)
    return m * rows < p * rows / 4 + at_the_end


@contextmanager
def flushed_denormals():
    """Back-propagated errors decay into denormal numbers, which processors multiply many times slower: treat them as zero."""
    smallest = torch.tensor(5e-324, dtype=torch.float64, device="cpu")
    before = bool(smallest * 1 == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
