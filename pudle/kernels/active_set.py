r"""Compiled lasso codes by an active-set method on the Gram matrix G = DᵀD, one sample after another.

Let s be signs on a set S of independent atoms. Over S, :math:`½‖x − Dz‖² + λ sᵀz` is smallest at
:math:`z_S = G_{SS}^{-1} (D_Sᵀx − λs)`. The codes move towards this point. If a code would change its sign on the way, all codes stop where it
is 0, its atom leaves S, and they move on with the remaining atoms. When they arrive, atoms outside S with :math:`|D_iᵀ(x − Dz)| > λ` join
S, with that sign. At least one of them moves away from 0, so the objective decreases, no set S occurs twice, and the method ends. Any codes
may be the start.

An atom that depends on those in S, :math:`D_i = D_S u`, joins by an exchange: :math:`z_S ∓ tu, z_i = ± t` leaves Dz unchanged and
decreases ‖z‖₁ until the code of an atom of S becomes 0 and the atom leaves. Source: Osborne, Presnell & Turlach, IMA J. Numer. Anal. 2000
(the descent on sign-feasible sets). Here several atoms join at a time.

The inverse of G_SS is kept, and each atom changes it by a matrix of rank 1. Its rounding errors do no harm: each step is computed from
Dᵀ(x − Dz) itself, and so is the KKT residual of the result.
"""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from pudle.kernels import memory, simd
from pudle.kernels.cache import compiled, forget_stale_code, inner
from pudle.kernels.memory import JOIN, set_memory
from pudle.kernels.simd import OPTIONS, add_rows, clear, padded

NEAR = 0.7  # atoms join if they have at least this share of the largest |D_iᵀ(x − Dz)| − λ; others would mostly leave again
# an atom depends on others if at most this share of its squared norm is outside their span; it is above rounding errors
DEPENDENT = 1e-10
UNSETTLED = 0.1  # on the set, codes may violate optimality by this share of the largest violation outside it
TRIES = 6  # the largest number of successive steps that only correct rounding errors; every other one has a new inverse
# The method gives up after so many sets. It takes far fewer, unless rounding errors lead it in circles.
SETS, SETS_PER_ATOM = 100, 10
ONE_BY_ONE = 4  # after this fraction (1/4) of the sets, atoms join one at a time, as the proof of termination assumes


@inner(forceinline=True, **OPTIONS)
def times_inverse(out, scratch, vector, count):
    """out (w,) = G_SS⁻¹ vector (w,) in its first ``count`` places, and 0 up to a multiple of 16; G_SS⁻¹ is symmetric."""
    width = padded(count)
    add_rows(out[:width], scratch.nothing, scratch.inverse, scratch.identity, vector, count)


@inner(**OPTIONS)
def add_atom(scratch, gram, atom, sign, count):
    """Let an atom i join S, in place ``count``, with code 0; returns whether it is independent of S. ``product`` is G_SS⁻¹ G_Si in any case.

    With v = G_SS⁻¹ G_Si and σ = G_ii − G_iS v, the squared norm of D_i outside the span of D_S, the new inverse is
    [[G_SS⁻¹ + v vᵀ / σ, −v / σ], [−vᵀ / σ, 1 / σ]].

    gram : DᵀD (P, P)
    """
    inverse, column, product, row, width = scratch.inverse, scratch.column, scratch.product, gram[atom], padded(count)
    outside = row[atom]
    for a in range(count):
        column[a] = row[scratch.index[a]]  # G_Si
    times_inverse(product, scratch, column, count)  # v
    for a in range(count):
        outside -= column[a] * product[a]  # σ
    if not outside > DEPENDENT * row[atom]:
        return False
    factor = 1 / outside
    for a in range(count):  # + v vᵀ / σ, and −v / σ as the last column
        out, weight = inverse[a], factor * product[a]
        for b in range(width):
            out[b] += weight * product[b]
        out[count] = -weight
    for b in range(count):  # −vᵀ / σ as the last row
        inverse[count, b] = -factor * product[b]
    inverse[count, count] = factor
    scratch.index[count], scratch.signs[count], scratch.codes[count] = atom, sign, 0
    scratch.free[atom] = 0
    return True


@inner(**OPTIONS)
def remove_atom(scratch, place, count):
    """Let the atom at ``place`` of ``count`` leave S; the last takes its place.

    With h the row of the inverse H at this place, the inverse of the others is H − hᵀ h / h_place.
    """
    inverse, width, last = scratch.inverse, padded(count), count - 1
    gone, factor = inverse[place], 1 / inverse[place, place]
    for a in range(count):  # H − hᵀ h / h_place
        if a != place:
            out, weight = inverse[a], factor * inverse[a, place]
            for b in range(width):
                out[b] -= weight * gone[b]
    scratch.free[scratch.index[place]] = 1
    scratch.weights[scratch.index[place]] = 0
    if place < last:  # row and column ``last`` become row and column ``place``
        moved = inverse[last]
        for b in range(width):
            gone[b] = moved[b]
        for a in range(last):
            inverse[a, place] = inverse[a, last]
        inverse[place, place] = inverse[last, last]
        for values in (scratch.signs, scratch.codes, scratch.gap):
            values[place] = values[last]
        scratch.index[place] = scratch.index[last]
    for a in range(count):
        inverse[a, last] = 0
    clear(inverse[last][:width])


@inner(**OPTIONS)
def exchange(scratch, gram, atom, sign, gap, count):
    """Replace the atom of S whose code reaches 0 first by an atom i with D_i = D_S v, for v in ``product``.

    z_S − t s v with z_i = t s, s the ``sign`` of the atom, leaves Dz unchanged; t is the smallest z_a / (s v_a) of the codes that move
    towards 0. Returns the new number of atoms in S, and whether an atom could leave. ``gap`` is the gap of atom i.
    """
    product, codes, limit, leaving = scratch.product, scratch.codes, np.inf, -1
    for a in range(count):  # t = limit
        if product[a] * sign * scratch.signs[a] > 0 and codes[a] / (sign * product[a]) < limit:
            limit, leaving = codes[a] / (sign * product[a]), a
    if leaving < 0:
        return count, False
    for a in range(count):
        codes[a] -= limit * sign * product[a]
        if codes[a] * scratch.signs[a] < 0:  # rounding errors
            codes[a] = 0
    remove_atom(scratch, leaving, count)
    if not add_atom(scratch, gram, atom, sign, count - 1):
        return count - 1, False
    codes[count - 1] = limit * sign
    scratch.gap[count - 1] = gap
    return count, True


@inner(**OPTIONS)
def move(scratch, count):
    """Move z_S to the minimiser over S for its signs, z_S + G_SS⁻¹ gap, or over the atoms that remain in S; returns their number.

    Before it, ``gap`` is D_Sᵀ(x − Dz) − λs of the codes. If a code would change its sign, all codes stop where it is 0: a ``share`` r
    of the step is taken, the gap becomes (1 − r) gap, and the atom leaves S.
    """
    codes, signs, gap, step = scratch.codes, scratch.signs, scratch.gap, scratch.step
    while count:
        times_inverse(step, scratch, gap, count)
        share = 1.0  # share of the step up to the first code that reaches 0
        for a in range(count):
            reach = 2.0  # above 1: the code keeps its sign
            if (codes[a] + step[a]) * signs[a] <= 0:
                reach = codes[a] / -step[a] if codes[a] != 0 else 0.0
            scratch.column[a] = reach
            share = min(share, reach)
        for a in range(count):
            codes[a] += share * step[a]
            gap[a] *= 1 - share
        before = count
        for a in range(before - 1, -1, -1):
            if scratch.column[a] <= share:
                remove_atom(scratch, a, count)
                count -= 1
        if count == before:
            break
    return count


@inner(**OPTIONS)
def find_descent(scratch, correlation, gram, lam, count):
    """descent (P,) = Dᵀx − G z, and gap = descent_S − λs on S, from the codes; returns the largest |gap|.

    correlation : Dᵀx (P,)
    """
    largest = 0.0
    for a in range(count):
        scratch.weights[scratch.index[a]] = -scratch.codes[a]
    add_rows(scratch.descent, correlation, gram, scratch.index, scratch.weights, count)
    for a in range(count):
        scratch.gap[a] = scratch.descent[scratch.index[a]] - lam * scratch.signs[a]
        largest = max(largest, abs(scratch.gap[a]))
    return largest


@inner(forceinline=True, **OPTIONS)
def largest_outside(scratch, nonnegative):
    """score (P,) = |descent|, or max(descent, 0) for codes ≥ 0, outside of S, and 0 in S; returns the largest."""
    descent, free, score, bits = scratch.descent, scratch.free, scratch.score, scratch.score_bits
    if nonnegative:
        for j in range(score.shape[0]):
            score[j] = max(descent[j], 0.0) * free[j]
    else:
        for j in range(score.shape[0]):
            score[j] = abs(descent[j]) * free[j]
    top = bits[0]  # as integers, which are faster to compare, numbers ≥ 0 have the same order
    for j in range(bits.shape[0]):
        top = max(top, bits[j])
    for j in range(bits.shape[0]):
        if bits[j] == top:
            return score[j]
    return score[0]


@inner(**OPTIONS)
def restart(scratch, gram, count):
    """G_SS⁻¹ computed again, atom by atom, without those that depend on the others; returns how many atoms are left.

    Before it, S and its codes and signs are in the first ``count`` places.
    """
    inverse, kept = scratch.inverse, 0
    for a in range(count):
        clear(inverse[a])
        scratch.free[scratch.index[a]] = 1
    for a in range(count):
        atom, code = scratch.index[a], scratch.codes[a]
        if add_atom(scratch, gram, atom, scratch.signs[a], kept):
            scratch.codes[kept] = code
            kept += 1
        else:
            scratch.weights[atom] = 0
    return kept


@inner(**OPTIONS)
def join(scratch, gram, lam, top, count, most):
    """Let up to ``most`` atoms with a score of at least λ + NEAR (top − λ) join S; returns how many are in it then, and whether S changed.

    ``score`` and ``descent`` are those of the codes, and ``top`` is the largest score. If all of these depend on S, the last is exchanged.
    """
    cut, n_joining, before, joining = lam + NEAR * (top - lam), 0, count, scratch.joining
    for j in range(scratch.score.shape[0]):
        if scratch.score[j] >= cut and n_joining < most:
            joining[n_joining] = j
            n_joining += 1
    for k in range(n_joining):
        if count == scratch.signs.shape[0]:
            break
        sign = np.sign(scratch.descent[joining[k]])
        gap = scratch.descent[joining[k]] - lam * sign
        if add_atom(scratch, gram, joining[k], sign, count):
            scratch.gap[count] = gap
            count += 1
        elif k == n_joining - 1 and count == before:
            return exchange(scratch, gram, joining[k], sign, gap, count)
    return count, count > before


@inner(**OPTIONS)
def solve_sample(out, correlation, gram, lam, nonnegative, tolerance, limit, scratch):
    """Codes ``out`` (p,) of one sample, which are the start; returns their KKT residual, or ∞ where it finds none after ``limit`` sets.

    Each round is one of three: the codes are *optimal*; they are *settled*, optimal on S but for a share of the violation outside of it, and
    atoms join; or they are *unsettled*, by rounding errors alone, as every move ends at the minimiser over S. Then, and where no atom can
    join, the next move corrects the errors, every second time with a new inverse, ``TRIES`` times at most.

    correlation : Dᵀx (P,); gram : DᵀD (P, P); tolerance : of the KKT residual. Before and after it, the scratch is as ``set_memory`` gives it,
    but for arrays that any sample overwrites.
    """
    tries, residual, count = 0, np.inf, load_start(out, nonnegative, scratch)
    if count:
        count = restart(scratch, gram, count)
        find_descent(scratch, correlation, gram, lam, count)
        count = move(scratch, count)
    for k in range(limit):
        gap = find_descent(scratch, correlation, gram, lam, count)
        violation = largest_outside(scratch, nonnegative) - lam
        if max(gap, violation) <= tolerance or tries == TRIES:  # optimal
            residual = max(gap, violation, 0.0)
            break
        if gap <= max(tolerance, UNSETTLED * violation):  # settled
            count, joined = join(scratch, gram, lam, lam + violation, count, JOIN if k < limit // ONE_BY_ONE else 1)
            tries = 0 if joined else tries + 1
        else:  # unsettled
            tries += 1
        if tries % 2 == 0 and tries:
            count = restart(scratch, gram, count)
            find_descent(scratch, correlation, gram, lam, count)
        count = move(scratch, count)
    store_codes(out, scratch, count)
    return residual


@inner(forceinline=True, **OPTIONS)
def load_start(out, nonnegative, scratch):
    """S, its codes and signs = the entries of ``out`` (p,) that are not 0 and have an allowed sign; out = 0. Returns how many.

    The inverse is computed by :func:`restart`.
    """
    count = 0
    for j in range(out.shape[0]):
        sign = np.sign(out[j])
        if sign != 0 and not (nonnegative and sign < 0) and count < scratch.signs.shape[0]:
            scratch.index[count], scratch.codes[count], scratch.signs[count] = j, out[j], sign
            count += 1
        out[j] = 0
    return count


@inner(forceinline=True, **OPTIONS)
def store_codes(out, scratch, count):
    """out (p,) = z, which it is 0 before, and the scratch as it was before the sample."""
    for a in range(count):
        out[scratch.index[a]] = scratch.codes[a]
        scratch.free[scratch.index[a]] = 1
        scratch.weights[scratch.index[a]] = 0
        clear(scratch.inverse[a][: padded(count)])


@compiled(**OPTIONS)
def solve_samples(codes, residuals, correlation, grams, lam, nonnegative, tolerances, limit, scratch):
    """:func:`solve_sample` for each of n rows, float64: codes (n, p), residuals (n,), correlation (n, P), tolerances (n,).

    grams : (n, P, P), or one for all samples (1, P, P)
    """
    for i in range(codes.shape[0]):
        gram = grams[min(i, grams.shape[0] - 1)]
        residuals[i] = solve_sample(codes[i], correlation[i], gram, lam, nonnegative, tolerances[i], limit, scratch)


def solve_in_threads(codes, residuals, correlation, grams, goals, lam, nonnegative, n_threads):
    """:func:`solve_samples` in parts of the samples, one for each thread; no result depends on the parts. goals : ``tolerances`` (n,)"""
    (n, most), n_atoms = codes.shape, correlation.shape[1]
    limit = SETS + SETS_PER_ATOM * most

    def run(some):
        gram = grams if len(grams) == 1 else grams[some]
        parts = (array[some] for array in (codes, residuals, correlation))
        solve_samples(*parts, gram, lam, nonnegative, goals[some], limit, set_memory(n_atoms, most))

    tasks = min(n_threads, n)
    edges = np.linspace(0, n, tasks + 1).astype(int).tolist()
    parts = list(map(slice, edges[:-1], edges[1:]))
    if tasks == 1:
        run(parts[0])
    else:
        with ThreadPoolExecutor(tasks) as pool:
            list(pool.map(run, parts))


forget_stale_code(solve_samples, simd, memory, sys.modules[__name__])
