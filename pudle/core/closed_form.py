r"""The gradients of :mod:`pudle.core.gradients` in closed form, computed in blocks of samples.

Layers with sparse codes run in compiled loops over their non-zeros, other layers as dense products. With :math:`W = I − αDᵀD`, layer t
computes :math:`u_t = z_t W + α x D` and :math:`z_{t+1} = P_t(u_t)`. Its back-propagation is, for each sample,

.. math::
    \bar u_t = \bar z_{t+1} ⊙ 1[z_{t+1} ≠ 0], \qquad \bar z_t = \bar u_t W, \qquad
    \bar D = −α \bigl( D (S + Sᵀ) − xᵀ \textstyle\sum_t \bar u_t \bigr), \quad S = \textstyle\sum_t z_tᵀ \bar u_t,

and the direct term (D z_T − x) z_Tᵀ is added to D̄. If few entries are active, D (S + Sᵀ) is accumulated directly. With FISTA layers y_t
replaces z_t in u_t and S, and :math:`\bar z_t` is :math:`(1 + β_t) \bar u_t W - β_{t+1} \bar u_{t+1} W`.

Variants of the computation have names. Layers are *dense* (matrix products), *full* (compiled loops over all codes) or *restricted*
(compiled loops over those that may be active). Sums over layers are *decoded* if they accumulate (S + Sᵀ) Dᵀ instead of S. Decay may lower
the level so far that the last layers are dense again.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from pudle.core.unrolling import Unrolling
from pudle.errors import one_of
from pudle.kernels.dense_layers import DenseLayers, share_active

# These constants were measured. They change time and memory, and no result.
CACHE = 500_000  # W is in the second-level cache below this number of bytes
SHARE_CACHED, SHARE_FAR = 0.8, 0.4  # loops over non-zeros are faster below this share of them, with W in that cache and without
PROBE = 64  # samples whose first codes show whether codes are sparse
SAMPLES = 4  # samples whose layers show how many codes are active
SPARSE_BLOCKS = 10  # blocks that are joined if no layer is dense, so that none needs the memory of a dense layer
BLOCK_CPU = 100_000  # codes per block: in float32, 400 kB for each layer, so that one layer stays in the cache
BLOCK_GPU = 10_000_000
TASKS = 8  # the largest number of parts of a block, each with its own sums
TASK_CODES = 8_000  # the smallest number of codes that is worth a task
TASK_SUMS = 4_000_000  # about the largest number of entries in the sums (p, p) of all tasks
MOST_ATOMS = 2**15  # above, layers are not kept: 16-bit integers say which of their codes are not 0


class Loss(NamedTuple):
    """The loss whose derivative with respect to D a gradient is; every loss has the term mean ½‖x − Dz‖².

    through_codes : whether the derivative passes through the codes z_T(D); otherwise they are held constant
    has_l1 : whether the loss has the term λ mean ‖z‖₁
    """

    through_codes: bool
    has_l1: bool


# The closed form reads the gradients from this table, so that a name that is not in it is an error.
LOSSES = {
    "dec": Loss(through_codes=False, has_l1=False),
    "ae-lasso": Loss(through_codes=True, has_l1=True),
    "ae-ls": Loss(through_codes=True, has_l1=False),
}


def loss_of(estimator: str) -> Loss:
    """The loss of the gradient ``estimator``. Raises :class:`PudleError`, which gives the nearest name, if there is none."""
    return LOSSES[one_of(estimator, LOSSES, "estimator")]


class Gradient(NamedTuple):
    """A dictionary gradient (m, p), the codes z_T (n, p) and the loss of the estimator."""

    gradient: Tensor
    codes: Tensor
    loss: float


class Pullback(NamedTuple):
    """Derivatives with respect to x (n, m), D (m, p) or None, λ and α, back-propagated from derivatives z̄_T of the codes."""

    x: Tensor
    dictionary: Tensor | None
    lam: float
    step: float


def run_and_keep(x: Tensor, dictionary: Tensor, unrolling: Unrolling) -> tuple[Tensor, tuple[Tensor, ...]] | None:
    """The codes z_T (n, p) of ``x`` (n, m), and their layers for :func:`pull_back`.

    None, with nothing computed, unless all layers but a few at the start run in compiled loops: if there are dense layers, x must be one block.
    """
    (n, p), share, n_layers = (len(x), dictionary.shape[1]), _sparse_share(dictionary), unrolling.n_layers
    if not n or share == 0 or unrolling.accelerated or p >= MOST_ATOMS:
        return None
    with flushed_denormals(), _workers(True) as pool:
        drive, size = _add_product(x.new_zeros(n, p), x, dictionary, unrolling.step, pool), _block(p, x.device)
        starts = range(0, n, SPARSE_BLOCKS * size)
        at_once = all(share_active(unrolling.shrink(drive[start : start + PROBE], 0)) <= share for start in starts)
        if not at_once and n > size:
            return None
        transfer, codes, first = _transfer(dictionary, unrolling.step, pool), x.new_zeros(n, p), 0
        sparse = _sparse_layers(n, dictionary, transfer, unrolling, 0.0, 0)
        may_end_dense = unrolling.decay < 1 and not _cached(dictionary)
        if may_end_dense and sparse.dense_from(x[:SAMPLES], drive[:SAMPLES], share, pool) < n_layers:
            return None
        dense = DenseLayers(transfer[:p, :p], unrolling, 0, share, min(n, size))
        if not at_once:
            first = dense.forward(drive, codes)
            if 2 * first > n_layers:
                return None
        return codes, (dense.kept(first, n), *sparse.keep(drive, codes, first, pool))


def pull_back(
    x: Tensor,
    dictionary: Tensor,
    unrolling: Unrolling,
    adjoint: Tensor,
    *,
    weights: bool,
    slopes: bool,
    layers: tuple[Tensor, ...] = (),
) -> Pullback:
    """Back-propagate ``adjoint`` z̄_T (n, p) through all layers.

    layers : those of :func:`run_and_keep`; without them the layers run first

    To save time, D is None in the result without ``weights``, and λ and α are 0 without ``slopes``.
    """
    return gradient_in_closed_form(
        x,
        dictionary,
        "ae-ls",
        unrolling,
        0,
        dense_at_end=False if slopes else None,
        adjoint=adjoint,
        weights=weights,
        slopes=slopes,
        layers=layers,
    )[0]


def gradient_in_closed_form(
    x,
    dictionary,
    estimator,
    unrolling,
    stop,
    sparse_share: float | None = None,
    decoded: bool | None = None,
    dense_at_end: bool | None = None,
    start: Tensor | None = None,
    adjoint: Tensor | None = None,
    weights: bool = True,
    slopes: bool = False,
    layers: tuple[Tensor, ...] = (),
):
    """The gradient, or the :class:`Pullback` of ``adjoint`` z̄_T (n, p), and how many layers of samples ran dense, full and restricted.

    The loss is a tensor (), so that no value is read from a GPU.

    sparse_share, decoded : None means the results of :func:`_sparse_share` and, unless the last layers are dense, of :func:`_decoding_pays`
    dense_at_end : whether the last layers may be dense again because decay lowers the level; None means that they may if W does not fit
        into the cache. Sparse layers before dense ones then run twice, and count twice
    start : codes (n, p) before the first layer, held constant; None means 0
    layers : those of :func:`run_and_keep`, through which ``adjoint`` is back-propagated; () means that layers run first
    """
    (n, (m, p)), n_layers, step = (len(x), dictionary.shape), unrolling.n_layers, unrolling.step
    lam = unrolling.lam if loss_of(estimator).has_l1 else 0.0
    share = _sparse_share(dictionary) if sparse_share is None else sparse_share
    share = 0.0 if unrolling.accelerated else share  # y_t has the non-zeros of two codes
    with flushed_denormals(), _workers(share > 0) as pool:
        transfer = _transfer(dictionary, step, pool)
        sparse = _sparse_layers(n, dictionary, transfer, unrolling, lam, stop) if share > 0 else None
        dense = DenseLayers(transfer[:p, :p], unrolling, stop, share, min(n, _block(p, x.device)))
        codes, done = x.new_zeros(n, p) if start is None else start.clone(), 0
        loss = x.new_zeros((), dtype=torch.float64)
        drive, end = _add_product(x.new_zeros(n, p), x, dictionary, step, pool), n_layers
        if (
            sparse
            and not layers
            and unrolling.decay < 1
            and (not _cached(dictionary) if dense_at_end is None else dense_at_end)
        ):
            end = sparse.dense_from(x[:SAMPLES], drive[:SAMPLES], share, pool)
        sums, decoded = _new_sums(x, drive, dictionary, sparse, n_layers, stop, end, decoded, weights, slopes, pool)
        dense.slopes, lasting = [0.0, 0.0] if slopes else None, None if adjoint is None else x.new_empty(n, p)
        total = sums[0].T if decoded else x.new_zeros(m, p)  # (S + Sᵀ)Dᵀ transposed, and the other terms of −D̄ / α
        while done < n:
            few = slice(done, done + PROBE)
            first_codes = unrolling.shrink(drive[few], 0) if start is None else codes[few]
            at_once = share > 0 and share_active(first_codes) <= share
            some = slice(done, n if layers else done + dense.size * (SPARSE_BLOCKS if at_once and end == n_layers else 1))
            block, last, of_block = x[some], codes[some], None if adjoint is None else adjoint[some]
            first = dense.restore(layers[0]) if layers else 0 if at_once else dense.forward(drive[some], last)
            residual, back, errors = _run_block(
                sparse, dense, end, block, drive[some], last, dictionary, first, sums, lam, decoded, pool, of_block, layers
            )
            if adjoint is None:
                loss += residual.square().sum().double() / 2 + (lam * last.abs().sum().double() if lam else 0.0)
                _add_product(total, residual.T, last, -1 / step, pool)  # the direct term
            if stop < n_layers:
                if stop < first:
                    errors = errors + dense.backward(back, first, sums[0] if sums else None, dictionary if decoded else None)
                if weights:
                    _add_product(total, block.T, errors, -1, pool)  # −xᵀ Σ ū
                if adjoint is not None:
                    lasting[some] = errors
            done += len(block)
        counts = {"dense": dense.count, **(sparse.counts if sparse else {})}
        slope = _slopes(dense, sparse) if slopes else [0, 0]
        del transfer, dense, sparse  # the next steps need their memory
        for part in sums[1:]:
            sums[0] += part
        if sums and not decoded:
            _add_product(total, dictionary, sums[0] + sums[0].T, 1, pool)  # D (S + Sᵀ)
        gradient = torch.mul(total, -step / n if adjoint is None else -step, out=x.new_empty(m, p))
        if adjoint is not None:
            back = x.new_zeros(n, m)
            _add_product(back, lasting, dictionary.T, step, pool)
            return Pullback(back, gradient if weights else None, slope[0], slope[1] / step), counts
    return Gradient(gradient, codes, loss / n), counts


def _new_sums(x, drive, dictionary, sparse, n_layers, stop, end, decoded, weights, slopes, pool):
    """Zeros for the sums S (p, p) of each task, or if decoded for (S + Sᵀ)Dᵀ (p, m); and whether they are decoded.

    decoded : None means the choice that takes fewer operations
    """
    if stop == n_layers:
        return [], False
    if not sparse:
        return ([x.new_zeros(drive.shape[1], drive.shape[1])] if weights else []), False
    if decoded is None:  # if W is in the cache, both are equally fast, and the decision would dominate small calls
        decoded = (
            weights and not _cached(dictionary) and end == n_layers and _decoding_pays(x, drive, sparse, n_layers - stop, pool)
        )
    return sparse.sums(decoded, weights, slopes), decoded


def _run_block(sparse, dense, end, x, drive, codes, dictionary, first, sums, lam, decoded, pool, adjoint, layers):
    """Run the layers of a block from ``first``, whose dense layers before it have run, and back-propagate to ``first``.

    Returns the residual D z_T − x (n, m), z̄ at ``first`` and Σ ū from there on (n, p); ``codes`` become z_T. If ``adjoint``, z̄_T (n, p),
    is given, the residual is not defined. If ``layers`` of :func:`run_and_keep` are given, they do not run, and ``codes`` are unchanged.
    """
    n_layers = dense.n_layers
    if layers:
        start = layers[0][first] if first else torch.zeros_like(codes)
        return None, *sparse.pull_back(layers[1:], drive, start, first, adjoint, pool)
    if first < n_layers and end < n_layers:
        dense.count += len(x) * (n_layers - max(first, end))
        return _sparse_then_dense(
            sparse, dense, max(first, end), x, drive, codes, dictionary, first, sums, lam, decoded, pool, adjoint
        )
    if first < n_layers:
        return sparse.run(x, drive, codes, first, pool, adjoint=adjoint)
    if adjoint is not None:
        return None, adjoint.clone(), 0.0
    residual = codes @ dictionary.T - x
    return residual, residual @ dictionary + lam * codes.sign() if dense.stop < n_layers else None, 0.0


def _slopes(dense, sparse):
    """The derivatives with respect to λ, and with respect to α times α, summed over dense and sparse layers."""
    return [sum(pair) for pair in zip(dense.slopes, sparse.slopes() if sparse else [0, 0], strict=True)]


def _sparse_then_dense(sparse, dense, end, x, drive, codes, dictionary, first, sums, lam, decoded, pool, adjoint):
    """Run a block through sparse layers ``first`` to ``end`` and dense layers after them; returns the same as ``sparse.run``.

    adjoint : z̄_T; None means that of the loss

    The backward pass runs the sparse layers again, since they keep the codes of one sample only.
    """
    late = DenseLayers(dense.transfer, dense.unrolling, max(dense.stop, end), 0.0, len(x), begin=end)
    residual, back, errors = torch.empty_like(x), torch.empty_like(codes), torch.empty_like(codes)
    start, cuts = codes.clone(), sparse.cuts(len(x))
    sparse.run(x, drive, codes, first, pool, end=end, backward=False)

    def run(task):
        some = cuts[task]
        late.forward(drive[some], codes[some], some)
        if adjoint is None:
            torch.mm(codes[some], dictionary.T, out=residual[some]).sub_(x[some])
        if dense.stop < late.n_layers:
            if adjoint is None:
                torch.mm(residual[some], dictionary, out=back[some]).add_(codes[some].sign(), alpha=lam)
            else:
                back[some] = adjoint[some]
            part = sums[task] if sums else None
            errors[some] = late.backward(back[some], late.n_layers, part, dictionary if decoded else None, some)

    _run_tasks(run, range(len(cuts)), pool)
    if dense.stop < end:
        _, back, earlier = sparse.run(x, drive, start, first, pool, end=end, adjoint=back)
        errors += earlier
    return residual, back, errors


def _block(n_atoms: int, device: torch.device) -> int:
    """Samples per block. On a CPU one layer has about 400 kB of codes and stays in the cache; blocks are larger on a GPU."""
    return max(1, (BLOCK_CPU if device.type == "cpu" else BLOCK_GPU) // n_atoms)


def _sparse_share(dictionary: Tensor) -> float:
    """The share of non-zeros in codes below which compiled loops over them are faster than dense products; 0 if they never are."""
    if dictionary.device.type != "cpu" or dictionary.dtype not in (torch.float32, torch.float64):
        return 0.0
    return SHARE_CACHED if _cached(dictionary) else SHARE_FAR


def _cached(dictionary: Tensor) -> bool:
    """Whether W fits into the second-level cache."""
    return dictionary.shape[1] ** 2 * dictionary.element_size() < CACHE


@contextmanager
def _workers(wanted: bool):
    """A pool with torch's number of threads, while torch itself uses one; None if torch has one thread or no pool is ``wanted``.

    Its threads flush denormals, as the calling one does in :func:`flushed_denormals`: each thread has its own setting.
    Otherwise torch's own threads would wait actively for the next product, for milliseconds, on the processors that the workers need.
    """
    threads = torch.get_num_threads()
    if threads == 1 or not wanted:
        yield None
        return
    with ThreadPoolExecutor(threads, initializer=torch.set_flush_denormal, initargs=(True,)) as pool, one_thread():
        yield pool


@contextmanager
def one_thread():
    """A context in which torch has one thread. For small arrays, starting and joining other threads takes longer than the work."""
    threads = torch.get_num_threads()
    if threads > 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if threads > 1:
            torch.set_num_threads(threads)


def _transfer(dictionary: Tensor, step: float, pool, size: int = 128) -> Tensor:
    """W = I − αDᵀD, padded with rows and columns of zeros to a multiple of 16.

    Since W is symmetric, only products on and below the diagonal are computed on a CPU.
    """
    p = dictionary.shape[1]
    size = size if dictionary.device.type == "cpu" else p
    transfer = dictionary.new_zeros(-(-p // 16) * 16, -(-p // 16) * 16)

    def add_rows(start):
        stop = min(start + size, p)
        transfer[start:stop, :stop].addmm_(dictionary[:, start:stop].T, dictionary[:, :stop], alpha=-step)
        transfer[:start, start:stop] = transfer[start:stop, :start].T

    _run_tasks(add_rows, range(0, p, size)[::-1], pool)
    transfer.diagonal()[:p] += 1
    return transfer


def _add_product(out: Tensor, left: Tensor, right: Tensor, factor: float, pool, size: int = 256) -> Tensor:
    """out + factor · left · right, in place. On a CPU threads compute blocks of columns, so that the result does not depend on them."""
    size = size if out.device.type == "cpu" else out.shape[1]

    def add_columns(start):
        some = slice(start, start + size)
        out[:, some].addmm_(left, right[:, some], alpha=factor)

    _run_tasks(add_columns, range(0, out.shape[1], size), pool)
    return out


def _run_tasks(task, arguments, pool) -> None:
    list(map(task, arguments) if pool is None or len(arguments) == 1 else pool.map(task, arguments))


def _sparse_layers(n: int, dictionary: Tensor, transfer: Tensor, unrolling: Unrolling, lam: float, stop: int):
    """:class:`pudle.kernels.sparse_layers.SparseLayers` for n samples, in tasks that are large enough for a thread each."""
    from pudle.kernels.sparse_layers import SparseLayers  # importing numba is slow, and only this function needs it

    n_atoms = dictionary.shape[1]
    tasks = min(TASKS, max(1, n * n_atoms // TASK_CODES), max(2, TASK_SUMS // n_atoms**2))
    return SparseLayers(dictionary, transfer, unrolling, lam=lam, stop=stop, tasks=tasks)


def _decoding_pays(x: Tensor, drive: Tensor, sparse, n_layers: int, pool) -> bool:
    """Whether accumulating (S + Sᵀ)Dᵀ over layers is faster than accumulating S.

    The first takes 4 m operations per active entry of a layer. The second takes p operations per active entry, and m p² at the end. The
    number of active entries is estimated from a few samples.

    n_layers : number of layers of the backward pass
    """
    (n, m), p = x.shape, drive.shape[1]
    at_the_end = m * p**2 / max(n, 1)
    if 4 * m * n_layers >= p * n_layers + at_the_end:  # even with one active entry per layer
        return False
    rows = sparse.rows(x[:SAMPLES], drive[:SAMPLES], pool)
    return m * rows < p * rows / 4 + at_the_end


@contextmanager
def flushed_denormals():
    """A context in which denormal numbers are zero. Back-propagated errors decay to them, and processors multiply them much more slowly."""
    smallest = torch.tensor(5e-324, dtype=torch.float64, device="cpu")
    before = bool(smallest * 1 == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
