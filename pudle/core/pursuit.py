"""Orthogonal matching pursuit in compiled loops and threads, with the results of scikit-learn's ``orthogonal_mp_gram``.

Each thread processes one sample after the other, so that the data of a sample stay in the cache.
"""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from pudle.core.units import number, widened
from pudle.core.unrolling import check_shapes
from pudle.errors import PudleError
from pudle.kernels import simd
from pudle.kernels.cache import compiled, forget_stale_code
from pudle.kernels.simd import LANES, OPTIONS, add_rows


def pursue(x: Tensor, dictionary: Tensor, *, sparsity: int | None = None, residual: float = 0.0) -> Tensor:
    """Codes (n, p) of samples ``x`` (n, m) by orthogonal matching pursuit in ``dictionary`` (m, p), whose atoms may have any norm.

    Each step adds the atom of largest |D_iᵀ(x − Dz)| to the support, and z becomes the least-squares fit on the support. It stops when the
    support has ``sparsity`` atoms, when ‖x − Dz‖ is at most ``residual``, or when no further atom would reduce ‖x − Dz‖. The computation is
    on the CPU. Scaling x and ``residual`` scales the codes. Raises :class:`PudleError` if shapes or types do not fit, or if values are not
    finite.
    Sources: Pati et al., Asilomar 1993; for the use of DᵀD, Rubinstein et al., Technion CS-2008-08.
    """
    check_shapes(x, dictionary)
    sparsity = sparsity if sparsity is None else number("sparsity", sparsity, least=1, integer=True)
    residual = number("residual", residual)
    dtype, x, dictionary = x.dtype, widened(x.detach()), widened(dictionary.detach())
    (n, _), p = x.shape, dictionary.shape[1]
    products = (torch.nn.functional.pad(matrix @ dictionary, (0, -p % LANES)) for matrix in (dictionary.T, x))
    parts = (*products, x.square().sum(1))
    if not all(part.isfinite().all() for part in parts):
        raise PudleError("pursue: all values of x and dictionary, and their squares, must be finite")
    gram, correlation, left = (part.cpu().numpy() for part in parts)
    codes, enough, limit = np.zeros_like(correlation), gram.dtype.type(residual**2), min(sparsity or p, *dictionary.shape)

    def run(some):
        pursue_samples(codes[some], correlation[some], left[some], gram, enough, *_memory(limit, gram))

    tasks = min(torch.get_num_threads(), max(n, 1))
    edges = np.linspace(0, n, tasks + 1).astype(int)
    with ThreadPoolExecutor(tasks) as pool:
        list(pool.map(run, map(slice, edges[:-1], edges[1:])))
    return torch.from_numpy(np.ascontiguousarray(codes[:, :p])).to(x.device, dtype)


def _memory(limit, gram):
    """Scratch memory for one sample with up to ``limit`` atoms: QᵀD, L, Qᵀx, a row of L, the atoms, and the indices 0 to ``limit`` − 1."""
    shapes = (limit, gram.shape[1]), (limit, limit), limit, limit
    return *(np.empty(shape, gram.dtype) for shape in shapes), np.empty(limit, np.int32), np.arange(limit, dtype=np.int32)


@compiled(**OPTIONS)
def pursue_samples(codes, correlation, left, gram, enough, basis, factor, weights, row, atoms, places):
    """Orthogonal matching pursuit of each sample, given DᵀD and Dᵀx.

    The atoms S chosen so far have the factorisation D_S = QLᵀ, whose new columns of Q come from Gram-Schmidt orthogonalisation. All steps use
    D through DᵀD and DᵀQ only.

    codes : (n, P), initially 0; the result
    correlation : Dᵀ(x − Dz), (n, P); overwritten
    left : ‖x − Dz‖², (n,); overwritten
    gram : DᵀD, (p, P)
    """
    epsilon = np.finfo(gram.dtype).eps
    for i in range(len(codes)):
        count, floor = 0, epsilon * left[i]
        while count < len(atoms):
            chosen, strength = 0, abs(correlation[i, 0])
            for j in range(1, len(gram)):
                if abs(correlation[i, j]) > strength:
                    chosen, strength = j, abs(correlation[i, j])
            square = gram[chosen, chosen]
            for k in range(count):
                row[k] = -basis[k, chosen]
                square -= row[k] ** 2
            norm = gram[chosen, chosen]
            if not (strength**2 > floor * norm and square > epsilon * norm):
                break  # no atom reduces the residual, the others span this atom, or values are NaN
            root = np.sqrt(square)
            add_rows(basis[count], gram[chosen], basis, places, row, count)
            weight = correlation[i, chosen] / root
            for j in range(gram.shape[1]):
                basis[count, j] /= root
                correlation[i, j] -= weight * basis[count, j]
            for k in range(count):
                factor[count, k] = -row[k]
            factor[count, count], atoms[count], weights[count] = root, chosen, weight
            count += 1
            left[i] -= weight**2
            if left[i] <= enough:
                break
        for k in range(count - 1, -1, -1):  # Lᵀ z_S = Qᵀx
            code = weights[k] / factor[k, k]
            for j in range(k):
                weights[j] -= code * factor[k, j]
            codes[i, atoms[k]] += code


forget_stale_code(pursue_samples, simd, sys.modules[__name__])
