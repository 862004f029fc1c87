r"""Online dictionary learning from the lasso's codes. It minimises, in closed form and over all batches so far, the objective whose
gradient is ``dec`` at exact codes.

The gradient of the lasso objective with respect to D is (Dz − x) zᵀ at the lasso's codes z, since they are optimal: there ``dec`` and
``ae-lasso`` are the same, the limit of both for T → ∞ layers. As a function of D with codes held constant, the objective over many batches is

.. math:: ½ tr(D A Dᵀ) − tr(D B) + constant, \quad A = \sum w_i z_i z_iᵀ, \quad B = \sum w_i z_i x_iᵀ,

an upper bound of the lasso objective of these samples. Each batch adds to A and B, and each atom in turn moves to the minimiser.
Source: Mairal, Bach, Ponce & Sapiro, "Online learning for matrix factorization and sparse coding", JMLR 2010 (arXiv 0908.0050), Algorithms 1
and 2, and Section 3.4.

Two rules say which codes the sums hold. Batches that are seen again replace their earlier codes (Section 3.4.1 there). And the sums are a
moving mean: each batch of n samples multiplies them by W / (W + n), so that they hold about W other samples, and D moves by a share
:math:`γ ≈ n / (W + n)` of the way to the minimiser of the batch. W is chosen while learning. Let the minimisers of batches have a variance σ²
around a point that moves by v per batch. Then D lags behind this point by v / γ, and has a variance of γσ²/2. The sum of both errors,
:math:`v²/γ² + γσ²/2`, is smallest where :math:`v² = γ³σ²/4`. Two successive moves of D have the mean inner product :math:`v² − γ³σ²/2` and the
squared length γ²σ², so that there their cosine is −γ/4. A cosine below this means that noise is the larger part of the error, and W
grows by n. This is Kesten's rule ("Accelerated stochastic approximation", Ann. Math. Statist. 1958) with −γ/4 in place of 0.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pudle.core.closed_form import one_thread
from pudle.core.lasso import lasso

USES = 100  # an atom that no sample used while the mean atom was used so often has less than 3 % of the mean use, with 95 % probability


class _Codes(NamedTuple):
    """Codes of a batch in the sums, the number of the update that added them, and the log of the product of all factors until then."""

    codes: Tensor  # sparse (n, p)
    update: int
    kept: float


class _Sums(NamedTuple):
    """Sums at some time, and the log of the product of all factors until then."""

    gram: Tensor
    target: Tensor
    uses: Tensor
    weight: float
    kept: float


class OnlineLearning:
    """Weighted sums over codes of batches, by which :meth:`update` learns. They are in float64, on the CPU.

    n_features, n_atoms : m and p
    """

    def __init__(self, n_features: int, n_atoms: int):
        self.n_seen, self.n_uses, self.n_updates, self.weight = 0, 0.0, 0, 0.0
        self.gram = torch.zeros(n_atoms, n_atoms, dtype=torch.float64)  # A
        self.target = torch.zeros(n_atoms, n_features, dtype=torch.float64)  # B
        self.uses = torch.zeros(n_atoms, dtype=torch.float64)  # codes in the sums that are not 0
        self.idle = torch.zeros(n_atoms, dtype=torch.float64)  # uses of the mean atom since this one was used
        self.growth = 0  # W minus its first value, in samples
        self._kept = 0.0  # log of the product of all W / (W + n)
        self._replaced_at = torch.zeros(n_atoms, dtype=torch.int64)  # the number of the update
        self._move = torch.zeros(n_features, n_atoms, dtype=torch.float64)  # the last move of D
        self._codes: dict[int, _Codes] = {}
        self._earlier: _Sums | None = None
        self._n_samples = 0

    def begin(self, n_samples: int) -> None:
        """Announce that the numbered batches of the following updates make up ``n_samples`` samples.

        What the sums hold so far is of other samples. The first update by each of these batches takes out its share of it.
        """
        self._codes, self._n_samples = {}, n_samples
        sums = [each.clone() for each in (self.gram, self.target, self.uses)]
        self._earlier = _Sums(*sums, self.weight, self._kept) if self.weight else None

    def end(self) -> None:
        """Drop the codes of numbered batches: no more of them come."""
        self._codes, self._earlier = {}, None

    def update(
        self,
        x: Tensor,
        dictionary: Tensor,
        lam: float,
        *,
        batch: int | None = None,
        nonnegative: bool = False,
        weight_decay: float | None = None,
        random: np.random.RandomState,
    ) -> float:
        """Learn from the samples ``x`` (n, m): change ``dictionary`` (m, p), float64, in place, and return the mean objective before.

        batch : number of this batch, if the same samples come again under this number; their codes are then kept, and replaced by new ones
        weight_decay : w of w/2 ‖D‖², which is added to the mean objective; None means that atoms have norm 1 or less instead

        An atom that no sample used while the mean atom was used 100 times is replaced by a sample of the batch. Samples are drawn without
        replacement, with probabilities proportional to their objectives. Raises :class:`PudleError` where :func:`pudle.lasso` does.
        """
        last = self._codes.get(batch)
        codes = lasso(x, dictionary, lam, nonnegative=nonnegative, start=last and last.codes.to_dense())
        with one_thread():
            objective = (x - codes @ dictionary.T).square().sum(1) / 2 + lam * codes.abs().sum(1)
            if batch is not None:
                self._take_out(x, last)
            self._add(x, codes)
            if batch is not None:
                self._codes[batch] = _Codes(codes.to_sparse(), self.n_updates, self._kept)
            before = dictionary.clone()
            self._replace(x, dictionary, objective, random)
            self._descend(dictionary, weight_decay)
            self._adapt(dictionary - before, len(x))
        return float(objective.mean())

    def _take_out(self, x: Tensor, last: _Codes | None) -> None:
        """Take what this batch replaces out of the sums: its ``last`` codes or, the first time, its share of what was there before."""
        if last is not None:
            share = np.exp(self._kept - last.kept)
            codes = last.codes.to_dense().masked_fill_(self._replaced_at >= last.update, 0)
            self.gram.addmm_(codes.T, codes, alpha=-share)
            self.target.addmm_(codes.T, x, alpha=-share)
            self.uses -= (codes != 0).sum(0)
            self.weight -= share * len(x)
        elif self._earlier is not None:
            earlier, part = self._earlier, len(x) / self._n_samples
            share = part * np.exp(self._kept - earlier.kept)
            self.gram.add_(earlier.gram, alpha=-share)
            self.target.add_(earlier.target, alpha=-share)
            self.uses.add_(earlier.uses, alpha=-part)
            self.weight -= share * earlier.weight
        self.weight = max(self.weight, 0.0)  # it may be slightly below 0
        self._clear(self.uses < 0.5)  # what is left there is rounding errors, and no curvature for an atom to move by

    def _clear(self, atoms: Tensor) -> None:
        """Set the sums of these atoms (p,), a mask, to 0."""
        for sums in filter(None, (self, self._earlier)):
            sums.gram[atoms], sums.gram[:, atoms], sums.target[atoms], sums.uses[atoms] = 0, 0, 0, 0

    def _add(self, x: Tensor, codes: Tensor) -> None:
        """Multiply the sums by W / (W + n), and add the batch of n samples.

        The first W is m p / s, where a sample uses s atoms, so that from the start there is room for m uses of the mean atom: an atom has m
        entries.
        """
        uses = (codes != 0).sum(0).double()
        self.n_updates += 1
        self.n_seen += len(x)
        self.n_uses += float(uses.mean())  # of the mean atom
        kept = 1.0
        if self.n_uses:
            window = self.target.shape[1] * self.n_seen / self.n_uses + self.growth
            kept = window / (window + len(x))
        self._kept += np.log(kept)
        self.weight = kept * self.weight + len(x)
        self.gram.mul_(kept).addmm_(codes.T, codes)
        self.target.mul_(kept).addmm_(codes.T, x)
        self.uses += uses
        self.idle.add_(uses.mean()).masked_fill_(uses > 0, 0)

    def _adapt(self, move: Tensor, n: int) -> None:
        """Let W grow by the n samples of the batch if the cosine of the last two moves of D is below −γ/4."""
        product, lengths = float((move * self._move).sum()), float(move.norm() * self._move.norm())
        if product < -n / self.weight / 4 * lengths:
            self.growth += n
        self._move = move

    def _replace(self, x: Tensor, dictionary: Tensor, objective: Tensor, random: np.random.RandomState) -> None:
        idle = (self.idle > USES).nonzero()[:, 0].tolist()
        n_new = min(len(idle), int((objective > 0).sum()))
        drawn = random.choice(len(x), n_new, replace=False, p=(objective / objective.sum()).numpy()) if n_new else []
        for j, i in zip(idle, drawn, strict=False):
            dictionary[:, j] = x[i] / x[i].norm()
            self.idle[j], self._replaced_at[j] = 0, self.n_updates
            self._clear(torch.arange(len(self.idle)) == j)

    def _descend(self, dictionary: Tensor, weight_decay: float | None) -> None:
        from pudle.kernels.atoms import descend  # importing numba is slow, and only this function needs it
        from pudle.kernels.simd import padded

        m, p = dictionary.shape
        atoms, target = np.zeros((2, p, padded(m)))
        atoms[:, :m], target[:, :m] = dictionary.T, self.target
        penalty = (weight_decay or 0.0) * self.weight
        descend(atoms, self.gram.numpy(), target, penalty, weight_decay is None, np.arange(p, dtype=np.int32), np.empty(p))
        dictionary.copy_(torch.from_numpy(atoms[:, :m]).T)
