r"""Compiled forward and backward passes of convolutional networks, one image after another.

The formulas are those of :mod:`pudle.core.networks`. :mod:`pudle.kernels.image_layers` calls :func:`run_images` for parts of a batch.
"""

from pudle.kernels.cache import compiled, inner
from pudle.kernels.image_products import add_image, add_product, add_transposed, find_active, step_along, step_back
from pudle.kernels.simd import OPTIONS, clear, copy
from pudle.kernels.thresholding import shrink_rows


@inner(**OPTIONS)
def forward(x, problem, memory):
    """z_T of an image x (pixels,), in the last slot of memory.codes; z_t and r_t of the layers from ``stop`` on in the slots from 0.

    r_t = D z_t − x and z_{t+1} = P_t(z_t − α Aᵀ r_t), from z_0 = 0.
    """
    n_layers, last = problem.levels.shape[0], memory.codes.shape[0] - 1
    codes = memory.codes[0]
    for j in range(codes.shape[0]):
        clear(codes[j])
        memory.counts[0, j] = 0
    memory.shares[0], slot = 0, 0
    for t in range(n_layers):
        kept = max(0, t - problem.stop)
        residual = memory.residuals[min(kept, memory.residuals.shape[0] - 1)]
        for pixel in range(x.shape[0]):
            residual[0, pixel] = -x[pixel]
        if t > 0:
            add_image(residual, codes, slot, problem.synthesis, problem, memory)  # r_t = D z_t − x
        slot = min(max(0, t + 1 - problem.stop), last)
        after = memory.codes[slot]
        for at in range(0, codes.shape[0], problem.across):  # while a row of the grid is in the cache
            step_along(after, codes, -problem.step, residual, problem.analysis, problem, memory, at)  # u_t = z_t − α Aᵀ r_t
            shrink_rows(after, problem.levels[t], problem, at, at + problem.across)  # z_{t+1} = P_t(u_t)
        find_active(slot, problem, memory)
        codes = after


@inner(**OPTIONS)
def backward(problem, memory, sums, x_bar):
    """Back through the layers from z̄_T = memory.bar (J, P), which is overwritten; x_bar (pixels,) += x̄ where that is wanted.

    With ū = z̄_{t+1} ⊙ 1[z_{t+1} ≠ 0] and q = A ū, layer t adds −ν^t Σ_j ū · sign(z_{t+1}) to θ̄, −α ⟨r_t, ū⟩ to Ā, −α ⟨q, z_t⟩ to D̄ and
    α q to x̄, and z̄_t = ū − α Dᵀ q. Before it, :func:`forward` has run with ``memory``, or with other memory that held these codes and
    residuals; ``active`` has the last codes.
    """
    bar, image, extra = memory.bar, memory.image, memory.by_atom
    for t in range(problem.levels.shape[0] - 1, problem.stop - 1, -1):
        slot = t - problem.stop
        before, residual = memory.codes[slot], memory.residuals[slot]
        find_active(slot, problem, memory)
        mask_inactive(bar, memory.codes[slot + 1], problem)  # ū
        if problem.of_levels:
            add_thresholds(sums.thresholds, bar, slot + 1, problem.fades[t], memory)
        if problem.of_arrays:
            add_product(sums.analysis, extra.analysis, residual, bar, slot + 1, problem, memory, -problem.step)
        if t == 0 and not problem.of_images:
            return
        clear(image[0])
        add_image(image, bar, slot + 1, problem.analysis, problem, memory)  # q
        if problem.of_images:
            for pixel in range(x_bar.shape[0]):
                x_bar[pixel] += problem.step * image[0, pixel]
        if t == 0:
            return
        if problem.of_arrays:
            add_product(sums.synthesis, extra.synthesis, image, before, slot, problem, memory, -problem.step)
        if t > problem.stop:
            step_back(bar, bar, slot, -problem.step, image, problem.synthesis, problem, memory)  # z̄_t


@inner(forceinline=True, **OPTIONS)
def mask_inactive(bar, after, problem):
    """bar (J, P) = bar ⊙ 1[after ≠ 0], for codes ``after`` (J, P)."""
    zero = problem.step * 0
    for j in range(bar.shape[0]):
        for f in range(bar.shape[1]):
            bar[j, f] = bar[j, f] if after[j, f] != 0 else zero


@inner(forceinline=True, **OPTIONS)
def add_thresholds(thresholds, bar, slot, fade, memory):
    """thresholds (P,) −= ``fade`` Σ_j bar_j · sign(z_j) for the codes z (J, P) of ``slot``, by those that are not 0."""
    codes, a = memory.codes[slot], slot % 2
    for j in range(bar.shape[0]):
        for i in range(memory.counts[a, j]):
            f = memory.active[a, j, i]
            thresholds[f] -= fade * (bar[j, f] if codes[j, f] > 0 else -bar[j, f])


@compiled(**OPTIONS)
def run_images(x, targets, codes, losses, x_bars, problem, memory, sums):
    """All of x (n, pixels): z_T to codes (n, J, P), and where scored losses (n,), and their parts of all derivatives to ``sums``.

    Where z̄_T is given, codes hold it, and x̄ is added to x_bars (n, pixels). targets : (n, pixels), read where scored. Layers that were kept
    do not run: n is 1, and ``memory`` holds those of the image. :func:`add_by_atom` completes the sums.
    """
    learns = problem.stop < problem.levels.shape[0]
    final = memory.codes[memory.codes.shape[0] - 1]
    for i in range(x.shape[0]):
        if problem.kept:
            find_active(memory.codes.shape[0] - 1, problem, memory)
        else:
            forward(x[i], problem, memory)
        if problem.from_adjoint:
            for j in range(final.shape[0]):
                copy(memory.bar[j], codes[i, j])
            backward(problem, memory, sums, x_bars[i])
            continue
        for j in range(final.shape[0]):
            copy(codes[i, j], final[j])
        if not problem.scored:
            continue
        loss = score_estimate(targets[i], problem, memory, sums)
        if learns:
            loss = end_at_loss(problem, memory, loss)
            backward(problem, memory, sums, x_bars[i])
        losses[i] = loss


@compiled(**OPTIONS)
def add_by_atom(memory, sums):
    """``sums`` += those of memory.by_atom, after the last image."""
    add_transposed(sums.synthesis, memory.by_atom.synthesis)
    add_transposed(sums.analysis, memory.by_atom.analysis)
    add_transposed(sums.decoder, memory.by_atom.decoder)


@inner(forceinline=True, **OPTIONS)
def score_estimate(target, problem, memory, sums):
    """memory.image = e = C z_T − target (pixels,), 0 where it is not ``inside``; C̄ += ⟨e, z_T⟩; returns ½‖e‖²."""
    error, zero, last = memory.image, problem.step * 0, memory.codes.shape[0] - 1
    final = memory.codes[last]
    for pixel in range(error.shape[1]):
        error[0, pixel] = -target[pixel]
    add_image(error, final, last, problem.decoder, problem, memory)
    loss = 0.0
    for pixel in range(error.shape[1]):
        error[0, pixel] = error[0, pixel] if problem.inside[pixel] else zero
        loss += error[0, pixel] * error[0, pixel] / 2
    add_product(sums.decoder, memory.by_atom.decoder, error, final, last, problem, memory, zero + 1)
    return loss


@inner(forceinline=True, **OPTIONS)
def end_at_loss(problem, memory, loss):
    """memory.bar = z̄_T = Cᵀ e + penalty sign(z_T) where z_T is not 0, for e in memory.image; returns loss + penalty ‖z_T‖₁."""
    bar, error, zero, last = memory.bar, memory.image, problem.step * 0, memory.codes.shape[0] - 1
    final = memory.codes[last]
    for j in range(bar.shape[0]):
        for f in range(bar.shape[1]):
            z = final[j, f]
            bar[j, f] = problem.penalty * (zero + (z > 0) - (z < 0))
            loss += problem.penalty * abs(z)
    step_back(bar, bar, last, zero + 1, error, problem.decoder, problem, memory)
    return loss
