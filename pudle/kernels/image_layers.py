r"""Compiled layers of convolutional networks and back-propagation through them, one image after another.

This is the path of :mod:`pudle.core.networks` on a CPU; the formulas are there.

Codes are (positions, P): a row for each position of the filters, with P filters (padded with zeros to a multiple of 16). Dᵀx, Dz and
⟨x, z⟩ are then products as in :mod:`pudle.kernels.matmul`. They are computed for one row of positions at a time, which stays in the
first-level cache while P_t is applied, or while patches are added to an image.

If few codes are not 0, products use these codes only, one position at a time. Dz and Aū are sums of the atoms in use, ⟨x, z⟩ adds patches
of the image to the atoms in use, and z̄_t = ū_t − α Dᵀq_t is computed at the codes that are not 0, since no other entries are needed.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

from pudle.kernels import matmul, memory, simd
from pudle.kernels.cache import compiled, forget_stale_code
from pudle.kernels.matmul import multiply
from pudle.kernels.memory import ImageSums, image_memory
from pudle.kernels.simd import OPTIONS, add_dots, add_outer, add_strips, clear, copy, padded, pick

SPARSE_SHARE = 0.85  # dense products are faster above this share of non-zero codes, as measured with 64 filters of 9 x 9
TASKS = 8  # the largest number of parts of a batch. Each has its own memory and sums, so that threads do not change the results


class Filters(NamedTuple):
    """Filters (p, 1, k, k) both ways, padded with zeros: p to P and k² to K, multiples of 16."""

    taps: np.ndarray  # (k², P) number: a row for each pixel of the filters
    atoms: np.ndarray  # (P, K) number: a row for each filter


class ImageProblem(NamedTuple):
    """The layers of a call, and the grid of J positions. *number* is float32 or float64; an image is (1, pixels), row by row."""

    synthesis: Filters  # D
    analysis: Filters  # A
    decoder: Filters  # C
    levels: np.ndarray  # (T, P) number: thresholds
    fades: np.ndarray  # (T,) number: ν^t, the factors of decay
    hard: bool  # hard or soft thresholding
    nonnegative: bool  # codes ≥ 0
    step: float  # α
    penalty: float  # factor of ‖z‖₁ in the loss
    stop: int  # the layer at which back-propagation ends
    scored: bool  # whether estimates are compared with targets
    from_adjoint: bool  # whether back-propagation starts from an adjoint z̄_T of the caller, instead of that of the loss
    of_arrays: bool  # whether derivatives with respect to filters are computed
    of_levels: bool  # the same for thresholds
    of_images: bool  # the same for images
    n_filters: int  # p
    places: np.ndarray  # (J,) int64: pixels at which filters start
    under: np.ndarray  # (k²,) int64: pixels under a filter, counted from there
    starts: np.ndarray  # (J,) int64: where the codes of a position start in the array of all codes
    entries: np.ndarray  # (P,) int64: 0, 1, 2, …
    across: int  # positions in a row of the grid
    kernel: int  # k
    width: int  # pixels in a row of an image
    inside: np.ndarray  # (pixels,) bool: where the loss counts errors
    infinity: float


@compiled(**OPTIONS)
def find_active(t, problem, memory):
    """active[t, j] = the filters f with z_{t,j,f} ≠ 0, counts[t, j] how many, shares[t] their share of all p codes of all positions."""
    codes, total = memory.codes[t], 0
    for j in range(codes.shape[0]):
        count = pick(memory.active[t, j], memory.identity, codes[j])
        memory.counts[t, j] = count
        total += count
    memory.shares[t] = total / (codes.shape[0] * problem.n_filters)


@compiled(forceinline=True, **OPTIONS)
def gather(patch, image, place, problem):
    """patch[: k²] = the pixels of image (1, pixels) under the filter at ``place``; patch (K,) is 0 beyond, before and after."""
    kernel = problem.kernel
    for a in range(kernel):
        for b in range(kernel):
            patch[a * kernel + b] = image[0, place + a * problem.width + b]


@compiled(**OPTIONS)
def add_image(image, codes, t, filters, problem, memory):
    """image (1, pixels) += Dz, for codes z (J, P) that are 0 where those of slot ``t`` are: each position adds Σ_f z_{j,f} D_f to its pixels.

    Before it, :func:`find_active` has run for slot ``t``.
    """
    patches, across = memory.of_pixels, problem.across
    if memory.shares[t] < SPARSE_SHARE:
        patch = patches[0]
        for j in range(codes.shape[0]):
            add_strips(patch, memory.nothing, filters.atoms, memory.active[t, j], codes[j], memory.counts[t, j])
            add_patch(image, patch, problem.places[j], problem)
        return
    for at in range(0, codes.shape[0], across):
        multiply(patches, codes, problem.starts[at : at + across], problem.entries, filters.atoms)
        for j in range(across):
            add_patch(image, patches[j], problem.places[at + j], problem)


@compiled(forceinline=True, **OPTIONS)
def add_patch(image, patch, place, problem):
    """The pixels of image (1, pixels) under the filter at ``place`` += patch (K,)."""
    kernel = problem.kernel
    for a in range(kernel):
        for b in range(kernel):
            image[0, place + a * problem.width + b] += patch[a * kernel + b]


@compiled(**OPTIONS)
def step_along(out, codes, factor, image, filters, problem, memory, at):
    """out = codes + factor Dᵀ image, for the row of the grid from position ``at`` on; out and codes (J, P) may be the same."""
    change, across = memory.of_codes, problem.across
    multiply(change, image, problem.places[at : at + across], problem.under, filters.taps)
    for j in range(across):
        for f in range(out.shape[1]):
            out[at + j, f] = codes[at + j, f] + factor * change[j, f]


@compiled(**OPTIONS)
def shrink_row(codes, levels, problem, at):
    """codes = P(codes) with thresholds ``levels`` (P,), for the row of the grid from position ``at`` on. NaN stays NaN."""
    for j in range(at, at + problem.across):
        for f in range(codes.shape[1]):
            u, level = codes[j, f], levels[f]
            low = -problem.infinity if problem.nonnegative else -level
            if problem.hard:  # 0 for low < u < level, else u
                codes[j, f] = level * 0 if (u > low) & (u < level) else u
            else:  # u − clip(u, low, level)
                codes[j, f] = u - min(max(u, low), level)


@compiled(**OPTIONS)
def step_along_active(out, codes, t, factor, image, filters, problem, memory):
    """out = codes + factor Dᵀ image at the entries where codes of slot ``t`` are not 0; other entries of out (J, P) are unchanged."""
    patch = memory.patch
    for j in range(codes.shape[0]):
        gather(patch, image, problem.places[j], problem)
        add_dots(out[j], codes[j], factor, filters.atoms, memory.active[t, j], memory.counts[t, j], patch)


@compiled(**OPTIONS)
def step_back(out, codes, t, factor, image, filters, problem, memory):
    """out = codes + factor Dᵀ image, at least where codes of slot ``t`` are not 0: no other entries of z̄_t count."""
    if memory.shares[t] < SPARSE_SHARE:
        step_along_active(out, codes, t, factor, image, filters, problem, memory)
    else:
        for at in range(0, codes.shape[0], problem.across):
            step_along(out, codes, factor, image, filters, problem, memory, at)


@compiled(**OPTIONS)
def add_product(total, by_atom, image, codes, t, problem, memory, factor):
    """total (k², P) += factor ⟨image, codes⟩, or by_atom (P, K) += its transpose, for codes (J, P) that are 0 where those of slot ``t`` are.

    ⟨image, codes⟩ of pixel q of filter f is Σ_j image[places_j + under_q] codes[j, f].
    """
    if memory.shares[t] < SPARSE_SHARE:
        patch = memory.patch
        for j in range(codes.shape[0]):
            gather(patch, image, problem.places[j], problem)
            add_outer(by_atom, memory.active[t, j], codes[j], factor, memory.counts[t, j], patch)
        return
    product = memory.of_filters
    multiply(product, image, problem.under, problem.places, codes)
    for k in range(total.shape[0]):
        for f in range(total.shape[1]):
            total[k, f] += factor * product[k, f]


@compiled(**OPTIONS)
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
            shrink_row(after, problem.levels[t], problem, at)  # z_{t+1} = P_t(u_t)
        find_active(slot, problem, memory)
        codes = after


@compiled(**OPTIONS)
def backward(problem, memory, sums, x_bar):
    """Back through the layers from z̄_T = memory.bar (J, P), which is overwritten; x_bar (pixels,) += x̄ where that is wanted.

    With ū = z̄_{t+1} ⊙ 1[z_{t+1} ≠ 0] and q = A ū, layer t adds −ν^t Σ_j ū · sign(z_{t+1}) to θ̄, −α ⟨r_t, ū⟩ to Ā, −α ⟨q, z_t⟩ to D̄ and
    α q to x̄, and z̄_t = ū − α Dᵀ q. Before it, :func:`forward` has run.
    """
    bar, image, extra = memory.bar, memory.image, memory.by_atom
    for t in range(problem.levels.shape[0] - 1, problem.stop - 1, -1):
        slot = t - problem.stop
        before, residual = memory.codes[slot], memory.residuals[slot]
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


@compiled(forceinline=True, **OPTIONS)
def mask_inactive(bar, after, problem):
    """bar (J, P) = bar ⊙ 1[after ≠ 0], for codes ``after`` (J, P)."""
    zero = problem.step * 0
    for j in range(bar.shape[0]):
        for f in range(bar.shape[1]):
            bar[j, f] = bar[j, f] if after[j, f] != 0 else zero


@compiled(forceinline=True, **OPTIONS)
def add_thresholds(thresholds, bar, slot, fade, memory):
    """thresholds (P,) −= ``fade`` Σ_j bar_j · sign(z_j) for the codes z (J, P) of ``slot``, by those that are not 0."""
    codes = memory.codes[slot]
    for j in range(bar.shape[0]):
        for i in range(memory.counts[slot, j]):
            f = memory.active[slot, j, i]
            thresholds[f] -= fade * (bar[j, f] if codes[j, f] > 0 else -bar[j, f])


@compiled(**OPTIONS)
def run_images(x, targets, codes, losses, x_bars, problem, memory, sums):
    """All of x (n, pixels): z_T to codes (n, J, P), and where scored losses (n,), and their parts of all derivatives to ``sums``.

    Where z̄_T is given, codes hold it, and x̄ is added to x_bars (n, pixels). targets : (n, pixels), read where scored.
    """
    learns = problem.stop < problem.levels.shape[0]
    final = memory.codes[memory.codes.shape[0] - 1]
    for i in range(x.shape[0]):
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
    add_transposed(sums.synthesis, memory.by_atom.synthesis)
    add_transposed(sums.analysis, memory.by_atom.analysis)
    add_transposed(sums.decoder, memory.by_atom.decoder)


@compiled(forceinline=True, **OPTIONS)
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


@compiled(forceinline=True, **OPTIONS)
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


@compiled(**OPTIONS)
def add_transposed(total, by_atom):
    """total (k², P) += by_atomᵀ, of which the first k² columns (P, K) are read."""
    for k in range(total.shape[0]):
        for f in range(total.shape[1]):
            total[k, f] += by_atom[f, k]


forget_stale_code(run_images, simd, matmul, memory, sys.modules[__name__])


def run_image_network(images, targets, network, unrolling, *, stride, stop, penalty, inside):
    """Sums over images of the gradients of D, A, C (p, 1, k, k) and θ (p,); z_T (n, p, h', w'); and the sum of the losses.

    images, targets : (n, 1, h, w); without targets codes alone are worked out, and all else is 0
    network : D, A, C (p, 1, k, k) and θ (p,), or None in the place of θ: then the levels are those of ``unrolling``
    stop : the layer at which back-propagation ends; it starts from the last layer
    penalty : factor of ‖z‖₁ in the loss
    inside : (1, 1, h, w), 0 where the loss looks at no error; None if it looks at all of them
    """
    problem, shape = _problem(
        images, network, unrolling, stride, stop=stop, penalty=penalty, scored=targets is not None, inside=inside
    )
    codes = images.new_empty(len(images), len(problem.places), len(problem.entries))
    parts, loss, _ = _run(images, images if targets is None else targets, codes, problem, len(network[0]))
    return parts, codes.view(len(images), *shape, -1)[..., : len(network[0])].permute(0, 3, 1, 2), loss


def pull_back_image_layers(images, filters, unrolling, adjoint, *, stride, of_arrays, of_images):
    """What z̄_T = ``adjoint`` (n, p, h', w') becomes: the part of the derivative in D (p, 1, k, k) from its places as D, and that from those as
    Dᵀ; Σ_t ν^t θ̄_t (p,); and x̄ (n, 1, h, w), None unless it is wanted. Other derivatives are 0 unless they are wanted.
    """
    problem, _ = _problem(
        images, (*[filters] * 3, None), unrolling, stride, from_adjoint=True, of_arrays=of_arrays, of_images=of_images
    )
    rows = adjoint.new_zeros(len(images), len(problem.places), len(problem.entries))
    rows[..., : len(filters)] = adjoint.permute(0, 2, 3, 1).flatten(1, 2)
    (synthesis, analysis, _, slopes), _, x_bar = _run(images, images, rows, problem, len(filters))
    return synthesis, analysis, slopes, x_bar


def _problem(
    images,
    network,
    unrolling,
    stride,
    *,
    stop=0,
    penalty=0.0,
    scored=False,
    inside=None,
    from_adjoint=False,
    of_arrays=True,
    of_images=False,
):
    """The :class:`ImageProblem`, and h', w'."""
    *filters, thresholds = network
    height, width = images.shape[-2:]
    kernel, layers = filters[0].shape[-1], range(unrolling.n_layers)
    down, across = ((size - kernel) // stride + 1 for size in (height, width))
    packed = {id(array): _filters(array) for array in filters}
    synthesis, analysis, decoder = (packed[id(array)] for array in filters)
    p, n_atoms = len(filters[0]), synthesis.taps.shape[1]
    levels = images.new_zeros(len(layers), n_atoms)
    levels[:, :p] = images.new_tensor([unrolling.level(t) for t in layers])[:, None] if thresholds is None else thresholds
    number = synthesis.taps.dtype.type
    pixel, place = np.arange(height * width).reshape(height, width), slice(None, None, stride)
    places = pixel[: height - kernel + 1, : width - kernel + 1][place, place].ravel()
    problem = ImageProblem(
        synthesis=synthesis,
        analysis=analysis,
        decoder=decoder,
        levels=levels.numpy(),
        fades=images.new_tensor([unrolling.decay**t for t in layers]).numpy(),
        hard=unrolling.hard,
        nonnegative=unrolling.nonnegative,
        step=number(unrolling.step),
        penalty=number(penalty),
        stop=stop,
        scored=scored,
        from_adjoint=from_adjoint,
        of_arrays=of_arrays,
        of_levels=from_adjoint or thresholds is not None,
        of_images=of_images,
        places=places,
        under=pixel[:kernel, :kernel].ravel(),
        starts=np.arange(len(places)) * n_atoms,
        entries=np.arange(n_atoms),
        across=across,
        kernel=kernel,
        width=width,
        inside=np.ones(height * width, bool) if inside is None else inside.numpy().ravel() != 0,
        infinity=number(np.inf),
        n_filters=p,
    )
    return problem, (down, across)


def _run(images, targets, codes, problem, p):
    """:func:`run_images` in tasks: sums (p, 1, k, k) three times and (p,), the sum of the losses, and x̄ (n, 1, h, w)."""
    n, _, height, width = images.shape
    (n_pixels, n_atoms), n_back = problem.synthesis.taps.shape, len(problem.levels) - problem.stop
    x, wanted = (array.reshape(n, -1).numpy() for array in (images, targets))
    losses, x_bars = np.zeros(n), images.new_zeros(n, height * width if problem.of_images else 0)
    tasks = min(n, TASKS)
    sums = [images.new_zeros(tasks, *shape) for shape in 3 * [(n_pixels, n_atoms)] + [(n_atoms,)]]
    cuts = np.linspace(0, n, tasks + 1).astype(int)

    def run(task):
        memory = image_memory(n_back, len(problem.places), problem.across, height * width, *problem.synthesis)
        some = slice(cuts[task], cuts[task + 1])
        total = ImageSums(*(array[task].numpy() for array in sums))
        run_images(x[some], wanted[some], codes[some].numpy(), losses[some], x_bars[some].numpy(), problem, memory, total)

    if tasks == 1 or torch.get_num_threads() == 1:
        for task in range(tasks):
            run(task)
    else:
        # each thread has its own setting of denormals; the calling one flushes them
        with ThreadPoolExecutor(torch.get_num_threads(), initializer=torch.set_flush_denormal, initargs=(True,)) as pool:
            list(pool.map(run, range(tasks)))
    *gradients, slopes = (array.sum(0) for array in sums)
    gradients = [array[:, :p].T.reshape(p, 1, problem.kernel, problem.kernel) for array in gradients]
    return [*gradients, slopes[:p]], float(losses.sum()), x_bars.view(n, 1, height, width) if problem.of_images else None


def _filters(array):
    """(p, 1, k, k) both ways."""
    flat = array.detach().flatten(1)
    p, n_pixels = flat.shape
    taps, atoms = flat.new_zeros(n_pixels, padded.py_func(p)), flat.new_zeros(padded.py_func(p), padded.py_func(n_pixels))
    taps[:, :p], atoms[:p, :n_pixels] = flat.T, flat
    return Filters(taps.numpy(), atoms.numpy())
