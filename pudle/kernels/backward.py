r"""Back-propagation through the layers of :mod:`pudle.kernels.forward`, and both directions for a block of samples.

Let :math:`\bar u_t = \bar z_{t+1} ⊙ 1[z_{t+1} ≠ 0]` and :math:`\bar z_t = \bar u_t W`. The results are :math:`\sum_t \bar u_t` of each
sample and, summed over samples, either :math:`S = \sum_t z_tᵀ \bar u_t` or the *decoded* sums
:math:`(S + Sᵀ) Dᵀ = \sum_t \bar u_tᵀ (z_t Dᵀ) + z_tᵀ (\bar u_t Dᵀ)`. No bound is checked here, since the forward pass has recorded which
entries are not 0. Layers with one working set accumulate S_BB in a K × K matrix. The other layers are collected in a ring, and several are
added to the sums at once, because the rows of the sums are further away in memory than the vectors.

If requested, the *slopes* are accumulated as well: :math:`-\sum_t α ν^t \bar u_t · \mathrm{sign}(z_{t+1})`, the derivative with respect to
λ, and :math:`\sum_t \bar u_t · (z_{t+1} - z_t)`, which is α times the derivative with respect to α.
"""

import math

from pudle.kernels.cache import compiled, inner
from pudle.kernels.forward import N_LAYERS, forward, gather, keep
from pudle.kernels.memory import RING
from pudle.kernels.simd import OPTIONS, add_few_rows, add_products, add_rows, add_spread, clear, copy, padded, pick, pick_padded


@inner(**OPTIONS)
def flush(products, problem, scratch):
    """S (P, P) += Σ_k z_kᵀ ū_k over the layers k in the ring, or the decoded sums (P, M) += Σ_k ū_kᵀ (z_k Dᵀ) + z_kᵀ (ū_k Dᵀ).

    The ring is empty then.
    """
    held, codes, errors = scratch.ring_held[0], scratch.ring_codes, scratch.ring_errors
    if problem.decoded:
        decode_rows(scratch.ring_decoded, problem, scratch, codes, held)  # z_k Dᵀ
        add_products(products, support(scratch.ratio, errors, held), scratch.ring_decoded, scratch.identity, errors, held)
        decode_rows(scratch.ring_decoded, problem, scratch, errors, held)  # ū_k Dᵀ
        add_products(products, support(scratch.ratio, codes, held), scratch.ring_decoded, scratch.identity, codes, held)
    else:
        add_products(products, support(scratch.ratio, codes, held), errors, scratch.identity, codes, held)
    scratch.ring_held[0] = 0


@inner(forceinline=True, **OPTIONS)
def decode_rows(out, problem, scratch, rows, held):
    """out[:held] (M,) = rows[:held] (P,) Dᵀ, by the rows of Dᵀ whose entries are not 0."""
    for k in range(held):
        add_rows(
            out[k], scratch.nothing, problem.atoms, scratch.places, rows[k], pick(scratch.places, scratch.identity, rows[k])
        )


@inner(forceinline=True, **OPTIONS)
def support(out, rows, held):
    """out (P,) = Σ_k |rows[k]| over k < held: not 0 where one of them is not 0; returns it."""
    clear(out)
    for k in range(held):
        for j in range(out.shape[0]):
            out[j] += abs(rows[k, j])
    return out


@inner(forceinline=True, **OPTIONS)
def spread(out, history, t):
    """out (P,) = z_t, from the history."""
    r = history.row[t]
    if history.shared[r]:
        clear(out)
        for k in range(history.count[r]):
            out[history.index[r, k]] = history.values[t, k]
    else:
        copy(out, history.values[t])


@inner(forceinline=True, **OPTIONS)
def add_slopes(scratch, errors, after, before, rate):
    """slopes[0] −= rate ū_t · sign(z_{t+1}), slopes[1] += ū_t · (z_{t+1} − z_t), for ``errors`` ū_t, ``after`` z_{t+1}, ``before`` z_t (w,).

    rate : αν^t, or 0 for a hard threshold
    """
    for j in range(errors.shape[0]):
        if errors[j] != 0:
            scratch.slopes[0] -= math.copysign(rate, after[j]) * errors[j]
            scratch.slopes[1] += errors[j] * (after[j] - before[j])


@inner(**OPTIONS)
def backward(bar, problem, history, scratch, products, total_error):
    """Back through one sample's layers: ``products`` += S or the decoded sums, total_error (P,) += Σ ū, and bar (P,) = z̄_T becomes z̄_stop.

    Before it, the history is that of :func:`forward` with ``problem.backward``. Up to RING layers stay in the ring, for :func:`flush`.

    products : S (P, P), or the decoded sums (P, M)
    """
    t = problem.levels.shape[0]
    while t > problem.stop:
        r = history.row[t]
        if t - 1 >= problem.stop and history.row[t - 1] == r:  # z_{t-1} and z_t are in one working set
            t = backward_restricted(bar, problem, history, scratch, products, total_error, t)
            continue
        index, count, z = history.index[r], history.count[r], scratch.inputs[0]
        spread(z, history, t)
        slot = scratch.ring_held[0]
        u = scratch.ring_errors[slot]
        zero = problem.levels[0] * 0
        for j in range(bar.shape[0]):  # ū_{t-1} = z̄_t ⊙ 1[z_t ≠ 0]
            u[j] = bar[j] if z[j] != 0 else zero
        for j in range(bar.shape[0]):
            total_error[j] += u[j]
        add_rows(bar, scratch.nothing, problem.transfer, index, u, count)  # z̄_{t-1} = ū_{t-1} W
        t -= 1
        spread(scratch.ring_codes[slot], history, t)
        if problem.slopes:
            add_slopes(scratch, u, z, scratch.ring_codes[slot], problem.rates[t])
        if not problem.weights:
            continue
        scratch.ring_held[0] = slot + 1
        if slot + 1 == RING:
            flush(products, problem, scratch)


@inner(**OPTIONS)
def backward_restricted(bar, problem, history, scratch, products, total_error, t):
    """:func:`backward` from z_t through the layers before it that share its working set B; returns the index of the codes it ends at.

    z̄ is needed on B alone, since ū is 0 elsewhere; at the end bar (P,) is 0 outside of B.
    """
    r, end, gram, errors = history.row[t], t, scratch.gram, scratch.errors
    count, members, places = history.count[r], scratch.members, scratch.places
    width, zero = padded(count), problem.levels[0] * 0
    back, total, used = scratch.back[:width], scratch.anchor[:width], scratch.used[:width]
    gather_again(problem, history, scratch, r)
    clear(used)
    clear(total)
    pick_padded(scratch.back, bar, members)  # z̄_t on B
    while t - 1 >= problem.stop and history.row[t - 1] == r:
        u, z, before = errors[t - 1][:width], history.values[t], history.values[t - 1]
        for k in range(width):  # ū_{t-1} = z̄_t ⊙ 1[z_t ≠ 0] on B
            u[k] = back[k] if z[k] != 0 else zero  # also where back is infinite
            total[k] += u[k]
            used[k] += abs(before[k]) + abs(u[k])
        if problem.slopes:
            add_slopes(scratch, u, z, before, problem.rates[t - 1])
        # z̄_{t-1} = ū_{t-1} W_BB
        add_few_rows(back, scratch.nothing, gram, places, u, pick(places, scratch.identity, z[:width]))
        t -= 1
    if problem.weights:
        add_restricted_products(products, problem, history, scratch, r, t, end)
    add_spread(total_error, total, members)
    clear(bar)
    add_spread(bar, scratch.back, members)
    return t


@inner(forceinline=True, **OPTIONS)
def gather_again(problem, history, scratch, r):
    """gram = W_BB, members = 1 on B, for the working set B of row r, unless they are."""
    if scratch.gathered[0] == r:
        return
    index, count, members = history.index[r], history.count[r], scratch.members
    scratch.gathered[0] = r
    clear(members)
    for k in range(count):
        members[index[k]] = 1
    gather(problem.transfer, index, count, members, scratch.gram)


@inner(forceinline=True, **OPTIONS)
def add_restricted_products(products, problem, history, scratch, r, t, end):
    """``products`` += S, or the decoded sums, of layers t to ``end`` on the working set B of row r: S_BB[a] = Σ_s z_{s,B_a} ū_s.

    Before it, errors[s] is ū_s on B, and used[a] is not 0 where row or column a of S_BB is not 0.
    """
    index, count, used = history.index[r], history.count[r], scratch.used
    width = padded(count)
    for a in range(count):
        if used[a] != 0:
            out = scratch.sums[a][:width] if problem.decoded else scratch.row[:width]
            add_few_rows(out, scratch.nothing, scratch.errors, scratch.identity[t:], history.values[:, a], end - t)
            if not problem.decoded:
                add_spread(products[index[a]], scratch.row, scratch.members)
    if problem.decoded:
        add_decoded(products, problem, scratch, index, used[:width], width)


@inner(forceinline=True, **OPTIONS)
def add_decoded(products, problem, scratch, index, used, width):
    """products (P, M) += (S + Sᵀ) Dᵀ for S_BB in scratch.sums, by its rows and columns with ``used`` (width,) ≠ 0 alone.

    index : B (width,)
    """
    places, sums, weights = scratch.places, scratch.sums, scratch.inputs[0]
    count = pick(places, scratch.identity, used)
    n_atoms = pick(scratch.atoms, index[:width], used)
    for a in range(count):
        for b in range(count):
            weights[scratch.atoms[b]] = sums[places[a], places[b]] + sums[places[b], places[a]]
        out = products[scratch.atoms[a]]  # row i of (S + Sᵀ)_BB times Dᵀ
        add_rows(out, out, problem.atoms, scratch.atoms, weights, n_atoms)


@inner(forceinline=True, **OPTIONS)
def loss_error(bar, error, problem, index, codes, count):
    """bar (P,) = error D + λ sign(z_T) where the codes z_T (P,) are not 0, else 0: no other entries of z̄_T count.

    error : D z_T − x (M,), 0 beyond m; the codes are 0 outside of index[:count]
    """
    clear(bar)
    for k in range(count):
        value = codes[index[k]]
        if value != 0:
            atom, dot = problem.atoms[index[k]], value * 0
            for j in range(error.shape[0]):
                dot += atom[j] * error[j]
            bar[index[k]] = dot + math.copysign(problem.lam, value)


@compiled(**OPTIONS)
def run_samples(x, drive, codes, residual, back, errors, problem, history, scratch, products, tally):
    """Forward and, where asked for, backward, sample by sample. The arrays are the rows of one task of ``SparseLayers.run``.

    x : (n, m); drive : α x D (n, p); codes : z_first (n, p), overwritten by z_T
    residual : (n, m), D z_T − x at the end, unless z̄_T is given
    back : z̄_stop (n, p) at the end, and z̄_T before it if that is given; (0, p) if not wanted
    errors : (n, P), to which Σ ū is added; tally : (5,) int64, increased
    """
    n_layers, first = problem.levels.shape[0], problem.first
    z, bar = scratch.codes[first % 2], scratch.bar
    for i in range(x.shape[0]):
        load_sample(z, drive[i], codes[i], problem, history, scratch)
        end = forward(problem, history, scratch, tally)
        tally[N_LAYERS] += end
        if end < n_layers:  # too many entries are active: the caller runs dense layers
            continue
        final = scratch.codes[n_layers % 2]
        copy(codes[i], final)
        if problem.from_adjoint:
            clear(bar[problem.n_atoms :])
            copy(bar[: problem.n_atoms], back[i])
        else:
            end_at_loss(x[i], residual[i], final, problem, history, scratch)
        if problem.backward:
            backward(bar, problem, history, scratch, products, errors[i])
            if back.shape[0]:
                copy(back[i], bar)
    if problem.backward and problem.weights:
        flush(products, problem, scratch)


@inner(forceinline=True, **OPTIONS)
def load_sample(z, drive, codes, problem, history, scratch):
    """z (P,) and row ``first`` of the history = ``codes`` (p,), scratch.drive = ``drive`` (p,); no working set is gathered."""
    n, first = problem.n_atoms, problem.first
    copy(scratch.drive[:n], drive)
    clear(z[n:])
    copy(z[:n], codes)
    scratch.gathered[0] = -1
    history.count[first] = n  # no row to look in first
    keep(problem, history, scratch.identity, first, z, first)


@inner(forceinline=True, **OPTIONS)
def end_at_loss(x, residual, final, problem, history, scratch):
    """residual (m,) = D z_T − x for ``final`` z_T (P,), and scratch.bar = z̄_T of the loss where back-propagation follows."""
    row, error = history.row[problem.levels.shape[0]], scratch.residual
    index, count = history.index[row], history.count[row]
    add_rows(error, scratch.nothing, problem.atoms, index, final, count)
    for j in range(x.shape[0]):
        error[j] -= x[j]
    copy(residual, error)
    if problem.backward:
        loss_error(scratch.bar, error, problem, index, final, count)
