"""Orthogonal matching pursuit, all samples side by side: what scikit-learn's ``orthogonal_mp_gram`` gives, without its loop over samples."""

import torch
from torch import Tensor

from pudle.coding import check_shapes

_BLOCK = 64  # samples at a time: bounds the memory


def pursue(x: Tensor, dictionary: Tensor, *, sparsity: int | None = None, residual: float = 0.0) -> Tensor:
    """Codes (n, p) of samples ``x`` (n, m) by orthogonal matching pursuit, in a ``dictionary`` (m, p) that need not have norm 1.

    The atom of largest |D_iᵀ(x − Dz)| joins the others, z becomes the least-squares fit on all of them, and so on: until there are
    ``sparsity`` of them, ‖x − Dz‖ is at most ``residual``, or no atom is left that would lower it. Source: Pati et al., Asilomar 1993;
    with DᵀD alone: Rubinstein et al., Technion CS-2008-08.
    """
    check_shapes(x, dictionary)
    gram, limit = dictionary.T @ dictionary, sparsity or min(dictionary.shape)
    return torch.cat([_pursue(block, block @ dictionary, gram, limit, residual) for block in x.split(_BLOCK)])


def _pursue(x: Tensor, correlation: Tensor, gram: Tensor, limit: int, residual: float) -> Tensor:
    """With D_S = QLᵀ for the atoms chosen so far, and new columns of Q by Gram and Schmidt, D is met in DᵀD and DᵀQ alone.

    correlation : Dᵀ(x − Dz) (n, p), which is overwritten
    """
    (n, p), epsilon = correlation.shape, torch.finfo(x.dtype).eps
    samples, active, left = torch.arange(n, device=x.device), x.new_ones(n, dtype=torch.bool), x.square().sum(1)
    basis, factor = x.new_zeros(n, 16, p), x.new_zeros(n, 16, 16)  # QᵀD and L, with room to grow
    atoms, weights = [], []  # and Qᵀx
    for k in range(limit):
        strength, chosen = correlation.abs().max(1)
        if k == basis.shape[1]:
            basis, factor = torch.cat([basis, torch.zeros_like(basis)], 1), torch.nn.functional.pad(factor, (0, k, 0, k))
        row = basis[samples, :k, chosen]
        square = gram.diagonal()[chosen] - row.square().sum(1)
        active = active & (strength**2 >= epsilon) & (square > epsilon)  # the atom is of use, and is not spanned by the others
        if not active.any():
            break
        root = torch.where(active, square, 1).sqrt()
        scale = active / root  # 0 for a sample that is done
        basis[:, k] = (gram[chosen] - torch.bmm(row[:, None], basis[:, :k])[:, 0]) * scale[:, None]
        factor[:, k, :k], factor[:, k, k] = row, root
        weight = correlation[samples, chosen] * scale
        correlation.addcmul_(weight[:, None], basis[:, k], value=-1)
        left -= weight**2
        active = active & (left > residual**2)
        atoms.append(chosen)
        weights.append(weight)
    if not atoms:
        return torch.zeros_like(correlation)
    count, target = len(atoms), torch.stack(weights, 1)[:, :, None]
    fit = torch.linalg.solve_triangular(factor[:, :count, :count].mT, target, upper=True)
    return torch.zeros_like(correlation).scatter_add(1, torch.stack(atoms, 1), fit[:, :, 0])
