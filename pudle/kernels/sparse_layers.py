"""Unrolled layers on sparse codes for blocks of samples, in threads: the tensor side of :mod:`pudle.kernels.forward`."""

import threading

import numpy as np
import torch

from pudle.kernels import backward, forward, kept_layers, memory, simd, thresholding
from pudle.kernels.backward import run_samples
from pudle.kernels.cache import forget_stale_code
from pudle.kernels.forward import SparseProblem, Tally
from pudle.kernels.kept_layers import pull_back_kept, run_and_keep
from pudle.kernels.memory import KeptLayers, empty, layer_memory, pad, zeros

forget_stale_code(run_samples, simd, memory, thresholding, forward, kept_layers, backward)

KEPT_SHARE = 0.6  # of all codes of all layers, for which kept layers have room


class SparseLayers:
    """The layers of one call of :func:`pudle.core.gradients.unrolled_gradient`, for its blocks of samples one after the other.

    dictionary : (m, p)
    transfer : W (P, P), with rows and columns of zeros up to a multiple P of 16
    lam : λ of the loss
    stop : the layer at which back-propagation ends; it starts from the last layer, or from the ``end`` of a run
    tasks : parts of a block, each with its own memory and its own part of the sums: threads do not change the results
    """

    def __init__(self, dictionary, transfer, unrolling, *, lam, stop, tasks):
        (m, p), n_layers, dtype = dictionary.shape, unrolling.n_layers, dictionary.numpy().dtype
        number = dtype.type
        self._stop, self._m = stop, m
        self._problem = SparseProblem(
            transfer=transfer.numpy(),
            atoms=pad(dictionary.T),
            levels=np.array(unrolling.levels(), dtype),
            hard=unrolling.hard,
            nonnegative=unrolling.nonnegative,
            norms=pad(unrolling.step * dictionary.square().sum(0, keepdim=True))[0],
            epsilon=np.finfo(dtype).eps,
            infinity=number(np.inf),
            lam=number(lam),
            n_atoms=p,
            first=0,
            stop=stop,
            max_active=len(transfer),
            backward=False,
            decoded=False,
            from_adjoint=False,
            weights=True,
            slopes=False,
            rates=np.array([0.0 if unrolling.hard else unrolling.step * unrolling.decay**t for t in range(n_layers)]),
        )
        self._memory = _kept_memory(tasks, n_layers, m, p, dtype)
        self._sums = [zeros((0, 0), dtype)] * tasks
        self._tallies = np.zeros((tasks, len(Tally._fields)), np.int64)

    def sums(self, decoded, weights=True, slopes=False):
        """Let later runs back-propagate and accumulate S, or the decoded sums; returns these sums, (p, p) or (p, m), for each task.

        weights : whether to accumulate these sums
        slopes : whether to accumulate the derivatives with respect to λ and α
        """
        self._problem = self._problem._replace(backward=True, decoded=decoded, weights=weights, slopes=slopes)
        for _, scratch in self._memory:
            scratch.slopes[:] = 0
        if not weights:
            return []
        like, n_atoms = self._problem.atoms if decoded else self._problem.transfer, self._problem.n_atoms
        self._sums = [zeros(like.shape, like.dtype) for _ in self._memory]  # padded: NaN of one entry reaches the padding too
        return [torch.from_numpy(part)[:n_atoms, : self._m if decoded else n_atoms] for part in self._sums]

    def slopes(self):
        """The derivatives with respect to λ, and to α times α, added up so far."""
        return sum(scratch.slopes for _, scratch in self._memory).tolist()

    def rows(self, x, drive, pool):
        """Rows of D that decoded sums would read per sample, estimated from the layers of a few samples."""
        return self._trial_tally(x, drive, pool).rows

    def dense_from(self, x, drive, share, pool):
        """The layer from which on more than ``share`` of all entries are active, estimated from a few samples; T if there is none."""
        return round(self._trial_tally(x, drive, pool, max_active=int(share * self._problem.n_atoms)).layers)

    def _trial_tally(self, x, drive, pool, max_active=None):
        """The tally of a forward pass, averaged over samples."""
        before = self._tallies.copy()
        self.run(x, drive, torch.zeros_like(drive), 0, pool, backward=False, max_active=max_active)
        tally, self._tallies[:] = Tally(*(self._tallies - before).sum(0) / len(x)), before
        return tally

    @property
    def counts(self):
        """How many full and restricted layers ran so far, and how many working sets were chosen."""
        return dict(zip(Tally._fields[:3], self._tallies.sum(0).tolist(), strict=False))

    def run(self, x, drive, codes, first, pool, *, end=None, adjoint=None, backward=True, max_active=None):
        """The residual D z_T − x (n, m) of a block and, from back-propagation, z̄ (n, p) at layer ``first`` and Σ ū (n, p).

        x : (n, m); drive : α x D (n, p); codes : z_first (n, p), which becomes z_T; pool : threads, or None
        end : the last layer; None means T
        adjoint : z̄ (n, p) after the last layer, which replaces that of the loss; the residual is then not computed
        backward : whether to back-propagate
        max_active : a sample with more active entries stops, with its codes and residual unchanged
        """
        settings = self._problem
        problem = settings._replace(
            first=first,
            stop=max(first, self._stop),
            levels=settings.levels[:end],
            backward=settings.backward and backward,
            from_adjoint=adjoint is not None,
            max_active=settings.max_active if max_active is None else max_active,
        )
        n_atoms, rows = problem.n_atoms, len(x) if problem.backward else 0
        residual, back = torch.empty_like(x), x.new_empty(rows if first else 0, n_atoms)
        back, errors = back if adjoint is None else adjoint.clone(), x.new_zeros(rows, len(problem.transfer))
        arrays = [tensor.numpy() for tensor in (x, drive, codes, residual, back, errors)]
        cuts = self.cuts(len(x))

        def run(task):
            block = [array[cuts[task]] for array in arrays]
            run_samples(*block, problem, *self._memory[task], self._sums[task], self._tallies[task])

        self._run_tasks(run, pool)
        return residual, back, errors[:, :n_atoms]

    def keep(self, drive, codes, first, pool):
        """All layers of the samples from z_first in ``codes`` (n, p), which become z_T; returns tensors for :meth:`pull_back`.

        drive : α x D (n, p)
        """
        problem = self._problem._replace(backward=True, first=first)
        number, n, rows = problem.levels.dtype, len(drive), len(problem.levels) + 1
        tasks, cuts = len(self._memory), self.cuts(n)
        room = round(KEPT_SHARE * rows * problem.n_atoms * -(-n // tasks)) + 4 * len(problem.transfer)
        # what is never written occupies no memory
        layers = (
            empty((tasks, room), number),
            empty((tasks, room // 2), np.uint8),
            empty((tasks, room // 2), np.int16),
            *(empty((n, rows), np.int32) for _ in range(2)),
            empty((n, 3), np.int64),
            empty((tasks, 1), np.int64),
        )

        def run(task):
            some = cuts[task]
            arrays = drive[some].numpy(), codes[some].numpy()
            run_and_keep(*arrays, problem, *self._memory[task], _kept_of(layers, task, some), self._tallies[task])

        self._run_tasks(run, pool)
        return tuple(map(torch.from_numpy, layers))

    def pull_back(self, layers, drive, codes, first, adjoint, pool):
        """z̄_first (n, p) and Σ ū (n, p) from z̄_T = ``adjoint`` (n, p) through the layers that :meth:`keep` returned.

        drive : α x D (n, p); codes : z_first (n, p)
        """
        problem, n = self._problem._replace(from_adjoint=True, first=first, stop=max(first, self._stop)), len(drive)
        arrays, cuts = [array.numpy() for array in layers], self.cuts(n)
        back, errors = adjoint.clone(), drive.new_zeros(n, len(problem.transfer))

        def run(task):
            some = cuts[task]
            block = [array[some].numpy() for array in (drive, codes, back, errors)]
            kept = _kept_of(arrays, task, some)
            pull_back_kept(*block, problem, *self._memory[task], kept, self._sums[task], self._tallies[task])

        self._run_tasks(run, pool)
        return back, errors[:, : problem.n_atoms]

    def _run_tasks(self, run, pool):
        tasks = range(len(self._memory))
        list(map(run, tasks) if len(tasks) == 1 or pool is None else pool.map(run, tasks))

    def cuts(self, n):
        """The samples of each task, of n."""
        edges = np.linspace(0, n, len(self._memory) + 1).astype(int).tolist()
        return list(map(slice, edges[:-1], edges[1:]))


def _kept_of(layers, task, some):
    """The :class:`KeptLayers` of a task with the samples ``some``."""
    values, marks, places, rows, widths, starts, held = layers
    return KeptLayers(values[task], marks[task], places[task], rows[some], widths[some], starts[some], held[task])


_kept = threading.local()


def _kept_memory(tasks, *sizes):
    """Memory for each task. A call with the sizes of this thread's last call reuses its memory, since allocation would dominate small calls."""
    if getattr(_kept, "sizes", None) != sizes:
        _kept.sizes, _kept.memory = sizes, []
    _kept.memory += [layer_memory(*sizes) for _ in range(tasks - len(_kept.memory))]
    return _kept.memory[:tasks]
