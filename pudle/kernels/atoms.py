"""Compiled block coordinate descent over the atoms of a dictionary, for a quadratic function of it."""

import sys

import numpy as np

from pudle.kernels import simd
from pudle.kernels.cache import compiled, forget_stale_code
from pudle.kernels.simd import OPTIONS, add_rows


@compiled(**OPTIONS)
def descend(atoms, gram, target, penalty, bounded, index, weights):
    """Move each atom d_j in turn to the minimiser of ½ tr(D A Dᵀ) − tr(D B) + ½ penalty ‖D‖², for which the other atoms are constant.

    With ``bounded`` the minimiser is that among the atoms of norm 1 or less, its projection. Atoms with A_jj = 0 stay as they are.

    atoms : Dᵀ (p, w) with atoms in rows, in place; w is a multiple of 16
    gram, target : A (p, p) and B (p, w)
    index, weights : 0 to p − 1 (p,), and (p,), which is overwritten
    """
    p, width = atoms.shape
    for j in range(p):
        curvature = gram[j, j] + penalty
        if not gram[j, j] > 0:
            continue
        for k in range(p):
            weights[k] = -gram[j, k] / curvature
        weights[j] = 0  # of the sum over the other atoms
        factor = 1 / curvature
        for c in range(width):
            atoms[j, c] = factor * target[j, c]
        add_rows(atoms[j], atoms[j], atoms, index, weights, p)
        if bounded:
            square = 0.0
            for c in range(width):
                square += atoms[j, c] ** 2
            if square > 1:
                factor = 1 / np.sqrt(square)
                for c in range(width):
                    atoms[j, c] *= factor


forget_stale_code(descend, simd, sys.modules[__name__])
