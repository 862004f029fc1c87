"""MOD and K-SVD, which use codes of orthogonal matching pursuit and differ in the update of the dictionary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pudle.methods import Field, Method, Settings, register
from pudle.methods.full_batch import FullBatchMethod

if TYPE_CHECKING:
    from torch import Tensor


class Pursuit(Method):
    """The base of methods with codes of orthogonal matching pursuit."""

    class Settings(Settings):
        sparsity: int | None = Field(None, ge=1, description="Non-zeros of every code; null: `tolerance` decides.")
        tolerance: float = Field(
            0.1, gt=0, lt=1, description="Without `sparsity`: pursuit stops when ‖x − Dz‖ ≤ tolerance ‖x‖."
        )

    def encode(self, x: Tensor) -> Tensor:
        from pudle.core.pursuit import pursue

        sparsity, tolerance = self.settings.sparsity, self.settings.tolerance
        norms = x.double().norm(dim=1, keepdim=True).clamp_min(1e-300)
        codes = pursue(x.double() / norms, self.dictionary.double(), sparsity=sparsity, residual=0 if sparsity else tolerance)
        return (codes * norms).to(x)


@register("mod")
class Mod(Pursuit):
    """Method of optimal directions, D = XZᵀ(ZZᵀ)⁻¹, over the batch and a decaying memory of earlier batches."""

    source = "Engan, Aase & Husøy, ICASSP 1999"

    class Settings(Pursuit.Settings):
        samples_per_atom: float = Field(
            5.0, ge=0, description="Memory: about this many samples for each atom count; a batch of that many stands alone."
        )

    def __init__(self, dictionary, settings, generator):
        super().__init__(dictionary, settings, generator)
        self._memory = max(1.0, settings.samples_per_atom * dictionary.shape[1])
        self._xz, self._zz = None, None  # XZᵀ (m, p) and ZZᵀ (p, p)

    def update(self, batch):
        import torch

        x, z, dictionary = batch.double(), self.encode(batch).double(), self.dictionary.double()
        power = z.square().mean()
        if self._zz is None:  # as if earlier samples had used one atom of the initial dictionary each
            self._zz = self._memory * power * torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
            self._xz = self._memory * power * dictionary
        kept = max(0.0, 1 - len(x) / self._memory)
        self._xz = kept * self._xz + x.T @ z
        self._zz = kept * self._zz + z.T @ z
        ridge, system = 1e-6 * len(x) * power.where(power > 0, torch.ones_like(power)), self._zz.clone()
        system.diagonal().add_(ridge)  # keeps atoms that are not used or not distinguishable
        self.move_to(torch.linalg.solve(system, self._xz + ridge * dictionary, left=False).to(batch.dtype))


@register("k-svd")
class KSvd(FullBatchMethod, Pursuit):
    """K-SVD, which updates each atom by the best rank-one fit to the residual, without this atom, of the samples that use it."""

    source = "Aharon, Elad & Bruckstein, IEEE TSP 2006"

    class Settings(FullBatchMethod.Settings, Pursuit.Settings):
        pass

    def learn(self, x):
        import torch

        dictionary, codes = self.dictionary.clone(), self.encode(x)
        residual = x - codes @ dictionary.T
        for atom in range(dictionary.shape[1]):
            users = codes[:, atom].nonzero()[:, 0]
            if len(users):  # unused atoms are kept
                left = residual[users] + torch.outer(codes[users, atom], dictionary[:, atom])
                new = leading_vector(left, dictionary[:, atom])
                codes[users, atom] = left @ new
                residual[users] = left - torch.outer(codes[users, atom], new)
                dictionary[:, atom] = new
        self.move_to(dictionary)


def leading_vector(matrix: Tensor, start: Tensor) -> Tensor:
    """The right singular vector (m,) of ``matrix`` (n, m) for the largest singular value, with the sign of its inner product with ``start``.

    For large matrices it is computed by Lanczos steps from ``start`` (m,) (ARPACK) instead of a full decomposition.
    """
    import torch
    from scipy.sparse.linalg import aslinearoperator, eigsh

    image, scale = matrix @ start, matrix.norm()
    if min(matrix.shape) < 64 or not (image.any() and scale.isfinite()):
        row = torch.linalg.svd(matrix, full_matrices=False).Vh[0]
    else:
        array, few = aslinearoperator((matrix / scale).double().cpu().numpy()), len(image) < len(start)
        product, first = (array @ array.T, image) if few else (array.T @ array, start)
        _, vectors = eigsh(product, k=1, v0=first.double().cpu().numpy(), rng=0)
        row = torch.from_numpy(array.rmatvec(vectors[:, 0]) if few else vectors[:, 0]).to(matrix)
        row = row / row.norm()
    return row * torch.sign(row @ start + 1e-30)
