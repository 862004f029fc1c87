"""Layers of convolutional networks on batches of images, in threads: the tensor side of :mod:`pudle.kernels.image_passes`.

This is the path of :mod:`pudle.core.networks` on a CPU; the formulas are there.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pudle.kernels import image_passes, image_products, matmul, memory, simd, thresholding
from pudle.kernels.cache import forget_stale_code
from pudle.kernels.image_passes import add_by_atom, run_images
from pudle.kernels.image_products import SPARSE_BACK, SPARSE_PRODUCT, SPARSE_SHARE, Filters, ImageProblem
from pudle.kernels.memory import ImageSums, empty, image_memory
from pudle.kernels.simd import padded

TASKS = 8  # the largest number of parts of a batch. Each has its own memory and sums, so that threads do not change the results

forget_stale_code(run_images, simd, matmul, memory, thresholding, image_products, image_passes)


class ImageHistory(NamedTuple):
    """All layers of n images, for back-propagation in a later call: J positions, P filters, padded to a multiple of 16."""

    codes: Tensor  # (n, T + 1, J, P): z_t
    residuals: Tensor  # (n, T, 1, pixels): r_t


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
    return parts, _grid(codes, shape, len(network[0])), loss


def run_image_layers(images, filters, unrolling, *, stride):
    """z_T (n, p, h', w') of ``images`` (n, 1, h, w), and the :class:`ImageHistory` of their layers."""
    problem, shape = _problem(images, (*[filters] * 3, None), unrolling, stride)
    n, n_layers, n_places, n_atoms = len(images), unrolling.n_layers, len(problem.places), len(problem.entries)
    number = problem.levels.dtype
    history = ImageHistory(
        torch.from_numpy(empty((n, n_layers + 1, n_places, n_atoms), number)),
        torch.from_numpy(empty((n, n_layers, 1, images[0].numel()), number)),
    )
    codes = images.new_empty(n, n_places, n_atoms)
    _run(images, images, codes, problem, len(filters), history)
    return _grid(codes, shape, len(filters)), history


def _grid(codes, shape, p):
    """Codes (n, J, P) as (n, p, h', w'), for h', w' = ``shape``."""
    return codes.view(len(codes), *shape, -1)[..., :p].permute(0, 3, 1, 2)


def pull_back_image_layers(images, filters, unrolling, adjoint, *, stride, of_arrays, of_levels, of_images, history=None):
    """What z̄_T = ``adjoint`` (n, p, h', w') becomes: the part of the derivative in D (p, 1, k, k) from its places as D, and that from those as
    Dᵀ; Σ_t ν^t θ̄_t (p,); and x̄ (n, 1, h, w), None unless it is wanted. Other derivatives are 0 unless they are wanted.

    history : the :class:`ImageHistory` of the layers; if it is None, they run first
    """
    problem, _ = _problem(
        images,
        (*[filters] * 3, None),
        unrolling,
        stride,
        from_adjoint=True,
        kept=history is not None,
        of_arrays=of_arrays,
        of_levels=of_levels,
        of_images=of_images,
    )
    rows = adjoint.new_zeros(len(images), len(problem.places), len(problem.entries))
    rows[..., : len(filters)] = adjoint.permute(0, 2, 3, 1).flatten(1, 2)
    (synthesis, analysis, _, slopes), _, x_bar = _run(images, images, rows, problem, len(filters), history)
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
    kept=False,
    of_arrays=True,
    of_levels=False,
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
        kept=kept,
        of_arrays=of_arrays,
        of_levels=of_levels or thresholds is not None,
        of_images=of_images,
        sparse_product=SPARSE_PRODUCT if from_adjoint else SPARSE_SHARE,
        sparse_back=SPARSE_BACK if from_adjoint else SPARSE_SHARE,
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


def _run(images, targets, codes, problem, p, history=None):
    """:func:`run_images` in tasks: sums (p, 1, k, k) three times and (p,), the sum of the losses, and x̄ (n, 1, h, w).

    history : the :class:`ImageHistory` that layers write or, if ``problem.kept``, read; None means that it is not kept
    """
    n, _, height, width = images.shape
    (n_pixels, n_atoms), n_back = problem.synthesis.taps.shape, len(problem.levels) - problem.stop
    x, wanted = (array.reshape(n, -1).numpy() for array in (images, targets))
    losses, x_bars = np.zeros(n), images.new_zeros(n, height * width if problem.of_images else 0)
    tasks = min(n, TASKS)
    sums = [images.new_zeros(tasks, *shape) for shape in 3 * [(n_pixels, n_atoms)] + [(n_atoms,)]]
    cuts = np.linspace(0, n, tasks + 1).astype(int)

    def run(task):
        memory = image_memory(n_back, len(problem.places), problem.across, height * width, *problem.synthesis)
        total, start, stop = ImageSums(*(array[task].numpy() for array in sums)), cuts[task], cuts[task + 1]
        for some in [slice(start, stop)] if history is None else [slice(i, i + 1) for i in range(start, stop)]:
            if history is not None:  # layers of each image in memory of their own
                memory = memory._replace(codes=history.codes[some][0].numpy(), residuals=history.residuals[some][0].numpy())
            arrays = x[some], wanted[some], codes[some].numpy(), losses[some], x_bars[some].numpy()
            run_images(*arrays, problem, memory, total)
        add_by_atom(memory, total)

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
