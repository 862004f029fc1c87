"""Unrolled layers by dense products, with back-propagation: the first layers, whose codes are not sparse yet, and all layers on a GPU.

The formulas are those of :mod:`pudle.core.gradients`. Layers of a block of samples keep their codes for back-propagation.
"""

import torch
from torch import Tensor

AT_ONCE = 8  # layers whose weight gradients are one product


class DenseLayers:
    """Layers of blocks of at most ``size`` samples by dense products, from layer ``begin`` on; ``count`` of them, times samples, so far."""

    def __init__(self, transfer, unrolling, stop, share, size, begin=0):
        self.transfer, self.unrolling, self.stop, self.share, self.size = transfer, unrolling, stop, share, size
        self.begin, self.n_layers, self.momenta, self.count = begin, unrolling.n_layers, unrolling.momenta(), 0
        assert not (begin and unrolling.accelerated)  # y_t depends on the codes of the layer before
        self.slopes = None  # two numbers, to which back-propagation adds the derivatives with respect to λ, and to α times α
        p, kept = len(transfer), self.n_layers - begin
        self._codes = transfer.new_empty(kept + 1 if stop < self.n_layers else 2 + unrolling.accelerated, size, p)
        self._points = transfer.new_empty(kept, size, p) if unrolling.accelerated and stop < self.n_layers else None
        self._errors = transfer.new_empty(min(AT_ONCE, self.n_layers - stop), size, p)

    def forward(self, drive: Tensor, last: Tensor, part: slice | None = None) -> int:
        """Run layers from ``last`` (n, p) until at most ``share`` of the next codes is not 0; returns the next, and its codes in ``last``.

        part : which rows of the memory are this thread's
        """
        codes = self._codes[:, part or slice(len(drive))]
        codes[0] = last
        for k, t in enumerate(range(self.begin, self.n_layers)):
            z, following = codes[k % len(codes)], codes[(k + 1) % len(codes)]
            point = z
            if self.momenta[t]:
                point = torch.lerp(codes[(k - 1) % len(codes)], z, 1 + self.momenta[t])
            if self._points is not None:
                self._points[k, : len(drive)] = point
            torch.addmm(drive, point, self.transfer, out=following)
            self.unrolling.shrink_in_place(following, t)
            if self.share > 0 and share_active(following) <= self.share:
                last.copy_(z)
                return t
            self.count += len(drive)
        last.copy_(following)
        return self.n_layers

    def kept(self, first: int, n: int) -> Tensor:
        """z_0, …, z_first (first + 1, n, p) of the last ``n`` samples, for :meth:`restore`; none if ``first`` is 0."""
        return self._codes[: first + 1, : n if first else 0].clone()

    def restore(self, codes: Tensor) -> int:
        """Take the layers that :meth:`kept` returned as those of the last samples; returns ``first``."""
        self._codes[: len(codes), : codes.shape[1]] = codes
        return len(codes) - 1

    def backward(
        self, back: Tensor, first: int, sums: Tensor | None, dictionary: Tensor | None, part: slice | None = None
    ) -> Tensor:
        """Back from z̄ (n, p) at layer ``first``: adds to S (p, p), or with D (m, p) to (S + Sᵀ)Dᵀ (p, m), if any; returns Σ ū (n, p)."""
        codes, errors = (kept[:, part or slice(len(back))] for kept in (self._codes, self._errors))
        points = codes if self._points is None else self._points[:, : len(back)]
        carried = None  # what y_{t+1} adds to z̄_t
        total = torch.zeros_like(back)
        for t in reversed(range(self.stop, first)):
            slot = (t - self.stop) % len(errors)
            torch.mul(back, codes[t + 1 - self.begin] != 0, out=errors[slot])
            total += errors[slot]
            if self.slopes is not None:
                after, rate = codes[t + 1 - self.begin], 0.0 if self.unrolling.hard else self.unrolling.decay**t
                self.slopes[0] -= float((after.sign() * errors[slot]).sum()) * rate * self.unrolling.step
                self.slopes[1] += float(((after - points[t - self.begin]) * errors[slot]).sum())
            torch.mm(errors[slot], self.transfer, out=back)
            if self._points is not None:
                beyond = -self.momenta[t] * back
                back *= 1 + self.momenta[t]
                back += 0 if carried is None else carried
                carried = beyond
            if slot == 0 and sums is not None:
                some = slice(t - self.begin, min(t + len(errors), first) - self.begin)
                before, after = points[some].flatten(0, 1), errors[: some.stop - some.start].flatten(0, 1)
                if dictionary is None:
                    sums.addmm_(before.T, after)
                else:
                    sums.addmm_(before.T, after @ dictionary.T).addmm_(after.T, before @ dictionary.T)
        return total


def share_active(codes: Tensor) -> float:
    """The share of entries that are not 0."""
    return int(codes.count_nonzero()) / max(codes.numel(), 1)
