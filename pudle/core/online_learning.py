r"""Online dictionary learning from the lasso's codes. It minimises, in closed form and over all batches so far, the objective whose
gradient is ``dec`` at exact codes.

The gradient of the lasso objective with respect to D is (Dz − x) zᵀ at the lasso's codes z, since they are optimal: there ``dec`` and
``ae-lasso`` are the same, the limit of both for T → ∞ layers. As a function of D with codes held constant, the objective over many batches is

.. math:: ½ tr(D A Dᵀ) − tr(D B) + constant, \quad A = \sum w_i z_i z_iᵀ, \quad B = \sum w_i z_i x_iᵀ,

an upper bound of the lasso objective of these samples. Each batch adds to A and B, and each atom in turn moves to the minimiser.
Source: Mairal, Bach, Ponce & Sapiro, "Online learning for matrix factorization and sparse coding", JMLR 2010 (arXiv 0908.0050), Algorithms 1
and 2, and Section 3.4.
"""

import numpy as np
import torch
from torch import Tensor

from pudle.core.closed_form import one_thread
from pudle.core.lasso import lasso

# ρ: D depends on codes of older D. If a step from all samples reduces an error of D by a share of 1 / (2ρ + 2) or more, forgetting lets it
# fall as fast as the noise does, as 1 / √N. Larger ρ keep more noise. Of 5, 10 and 20, 20 had the lowest objective on patches of
# scikit-image's coins and brick.
FORGETTING = 20
USES = 100  # an atom that no sample used while the mean atom was used so often has less than 3 % of the mean use, with 95 % probability


class OnlineLearning:
    """Weighted sums over the batches so far, by which :meth:`update` learns. They are in float64, on the CPU.

    n_features, n_atoms : m and p
    """

    def __init__(self, n_features: int, n_atoms: int):
        self.n_seen, self.n_uses, self.weight = 0, 0.0, 0.0
        self.gram = torch.zeros(n_atoms, n_atoms, dtype=torch.float64)  # A
        self.target = torch.zeros(n_atoms, n_features, dtype=torch.float64)  # B
        self.idle = torch.zeros(n_atoms, dtype=torch.float64)  # uses of the mean atom since this one was used

    def update(
        self,
        x: Tensor,
        dictionary: Tensor,
        lam: float,
        *,
        nonnegative: bool = False,
        weight_decay: float | None = None,
        random: np.random.RandomState,
    ) -> float:
        """Learn from the samples ``x`` (n, m): change ``dictionary`` (m, p), float64, in place, and return the mean objective before.

        weight_decay : w of w/2 ‖D‖², which is added to the mean objective; None means that atoms have norm 1 or less instead

        An atom that no sample used while the mean atom was used 100 times is replaced by a sample of the batch. Samples are drawn without
        replacement, with probabilities proportional to their objectives. Raises :class:`PudleError` where :func:`pudle.lasso` does.
        """
        codes = lasso(x, dictionary, lam, nonnegative=nonnegative)
        with one_thread():
            objective = (x - codes @ dictionary.T).square().sum(1) / 2 + lam * codes.abs().sum(1)
            self._add(x, codes)
            self._replace(x, dictionary, objective, random)
            self._descend(dictionary, weight_decay)
        return float(objective.mean())

    def _add(self, x: Tensor, codes: Tensor) -> None:
        """Multiply the sums by (1 − n / (N + N₀))^ρ, with N samples so far, and add the batch.

        This is (1 − 1/t)^ρ of Mairal et al., Section 3.4.2, with t = (N + N₀) / n. The sums then hold about (N + N₀) / ρ samples.
        N₀ = ρ m p / s, where a sample uses s atoms, so that from the start there is room for m uses of the mean atom: an atom has m entries.
        """
        uses = (codes != 0).sum(0).double()
        self.n_seen += len(x)
        self.n_uses += float(uses.mean())  # of the mean atom
        kept = 0.0
        if self.n_uses:
            delay = FORGETTING * self.target.shape[1] * self.n_seen / self.n_uses
            kept = (1 - len(x) / (self.n_seen + delay)) ** FORGETTING
        self.weight = kept * self.weight + len(x)
        self.gram.mul_(kept).addmm_(codes.T, codes)
        self.target.mul_(kept).addmm_(codes.T, x)
        self.idle.add_(uses.mean()).masked_fill_(uses > 0, 0)

    def _replace(self, x: Tensor, dictionary: Tensor, objective: Tensor, random: np.random.RandomState) -> None:
        idle = (self.idle > USES).nonzero()[:, 0].tolist()
        n_new = min(len(idle), int((objective > 0).sum()))
        drawn = random.choice(len(x), n_new, replace=False, p=(objective / objective.sum()).numpy()) if n_new else []
        for j, i in zip(idle, drawn, strict=False):
            dictionary[:, j] = x[i] / x[i].norm()
            self.gram[j], self.gram[:, j], self.target[j], self.idle[j] = 0, 0, 0, 0

    def _descend(self, dictionary: Tensor, weight_decay: float | None) -> None:
        from pudle.kernels.atoms import descend  # importing numba is slow, and only this function needs it
        from pudle.kernels.simd import padded

        m, p = dictionary.shape
        atoms, target = np.zeros((2, p, padded(m)))
        atoms[:, :m], target[:, :m] = dictionary.T, self.target
        penalty = (weight_decay or 0.0) * self.weight
        descend(atoms, self.gram.numpy(), target, penalty, weight_decay is None, np.arange(p, dtype=np.int32), np.empty(p))
        dictionary.copy_(torch.from_numpy(atoms[:, :m]).T)
