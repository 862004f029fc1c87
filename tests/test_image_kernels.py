"""The compiled loops of layers of images (pudle/kernels/image_*.py, matmul.py) against plain NumPy versions of each step."""

import numpy as np
import pytest
import torch
from convolutions import UNROLLINGS, make, matrix

from pudle.kernels import image_layers, image_passes, image_products, matmul, thresholding
from pudle.kernels.memory import ImageSums, image_memory


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [16, 32, 48, 112, 144])
@pytest.mark.parametrize("n_rows", [1, 2, 13])
def test_products_of_entries_that_are_looked_up_are_those_of_numpy(dtype, width, n_rows):
    draw = np.random.default_rng(0)
    source, matrix = (draw.standard_normal(shape).astype(dtype) for shape in (100, (9, width)))
    rows, columns = draw.integers(0, 60, n_rows), draw.integers(0, 40, 9)
    out = np.full((n_rows + 1, width), np.nan, dtype)
    matmul.multiply(out, source, rows, columns, matrix)
    tolerance = 100 * np.finfo(dtype).eps
    np.testing.assert_allclose(out[:-1], source[rows[:, None] + columns] @ matrix, rtol=tolerance, atol=tolerance)
    assert np.isnan(out[-1]).all()


@pytest.mark.parametrize("share", [0.3, 1.0])
@pytest.mark.parametrize("unrolling", UNROLLINGS, ids=str)
def test_the_steps_of_image_layers_are_those_of_numpy(unrolling, share):
    """With D as a matrix (pixels, p h' w'), for few codes that are not 0 and for dense ones."""
    images, filters = make(n=1, p=17, kernel=5, stride=2, rows=4, columns=3)
    (problem, _), draw = image_layers._problem(images, (*[filters] * 3, None), unrolling, 2), np.random.default_rng(0)
    n_places, n_filters, n_pixels = 12, 32, images[0].numel()
    D = matrix(filters, 2, 4, 3).numpy()
    scratch = image_memory(2, n_places, problem.across, n_pixels, *problem.synthesis)

    def codes_of(array):  # (positions, P) as (p h' w',)
        return array[:, :17].T.ravel()

    def rows_of(flat):
        return np.pad(flat.reshape(17, n_places).T, [(0, 0), (0, 15)])

    z = draw.standard_normal((n_places, n_filters)) * (draw.random((n_places, n_filters)) < share)
    z[:, 17:] = 0
    scratch.codes[1] = z
    image_products.find_active(1, problem, scratch)
    assert scratch.shares[1] == (z != 0).mean() * 32 / 17 and (scratch.shares[1] < image_products.SPARSE_SHARE) == (share < 1)
    np.testing.assert_array_equal(scratch.counts[1], (z != 0).sum(1))
    for j in range(n_places):
        np.testing.assert_array_equal(scratch.active[1, j, : scratch.counts[1, j]], z[j].nonzero()[0])

    image = draw.standard_normal((1, n_pixels))
    added = image.copy()
    image_products.add_image(added, z, 1, problem.synthesis, problem, scratch)
    np.testing.assert_allclose(added[0], image[0] + D @ codes_of(z), atol=1e-12)

    wanted, out = z - 0.3 * rows_of(D.T @ image[0]), np.full_like(z, np.nan)
    for at in range(0, n_places, problem.across):
        image_products.step_along(out, z, -0.3, image, problem.analysis, problem, scratch, at)
    np.testing.assert_allclose(out, wanted, atol=1e-12)
    back = z.copy()
    image_products.step_back(back, z, 1, -0.3, image, problem.synthesis, problem, scratch)
    np.testing.assert_allclose(back[z != 0], wanted[z != 0], atol=1e-12)

    level = problem.levels[2]
    for at in range(0, n_places, problem.across):
        thresholding.shrink_rows(out, level, problem, at, at + problem.across)
    inside = (wanted < level) & (unrolling.nonnegative | (wanted > -level))
    np.testing.assert_allclose(
        out, np.where(inside, 0, wanted if unrolling.hard else wanted - np.sign(wanted) * level), atol=1e-12
    )

    patches = np.stack([image[0, place + problem.under] for place in problem.places])  # (positions, k²)
    total, by_atom = np.zeros_like(problem.synthesis.taps), np.zeros_like(problem.synthesis.atoms)
    image_products.add_product(total, by_atom, image, z, 1, problem, scratch, 0.7)
    image_products.add_transposed(total, by_atom)
    np.testing.assert_allclose(total, 0.7 * patches.T @ z, atol=1e-12)

    bar = draw.standard_normal(z.shape)
    masked, thresholds = bar.copy(), np.zeros(n_filters)
    image_passes.mask_inactive(masked, z, problem)
    np.testing.assert_array_equal(masked, bar * (z != 0))
    image_passes.add_thresholds(thresholds, bar, 1, 0.5, scratch)
    np.testing.assert_allclose(thresholds, -0.5 * (bar * np.sign(z)).sum(0), atol=1e-12)


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_the_loss_of_an_image_is_that_of_numpy(share):
    """Estimate, error inside of a margin, ½‖e‖² + penalty ‖z‖₁, C̄ and z̄_T."""
    images, filters = make(n=1, p=17, kernel=5, stride=2, rows=4, columns=3)
    n_places, n_filters, (height, width) = 12, 32, images.shape[2:]
    inside = torch.zeros(1, 1, height, width)
    inside[..., 1:-1, 1:-1] = 1
    problem, _ = image_layers._problem(
        images, (*[filters] * 3, None), UNROLLINGS[0], 2, penalty=0.3, scored=True, inside=inside
    )
    D, draw = matrix(filters, 2, 4, 3).numpy(), np.random.default_rng(0)
    scratch = image_memory(4, n_places, problem.across, height * width, *problem.synthesis)
    z = draw.standard_normal((n_places, n_filters)) * (draw.random((n_places, n_filters)) < share)
    z[:, 17:] = 0
    scratch.codes[4] = z
    image_products.find_active(4, problem, scratch)

    image = draw.standard_normal((1, height * width))
    patch, added = np.zeros(32), image.copy()
    image_products.load_patch(patch, image, problem.places[3], problem)
    square = image.reshape(height, width)[2:7, :5]  # three positions in a row of the grid: the fourth begins the second row
    np.testing.assert_array_equal(patch, np.pad(square.ravel(), (0, 7)))
    image_products.add_patch(added, patch, problem.places[3], problem)
    doubled = image.reshape(height, width).copy()
    doubled[2:7, :5] *= 2
    np.testing.assert_array_equal(added.reshape(height, width), doubled)

    target, flat = images.numpy().ravel(), z[:, :17].T.ravel()
    error = (D @ flat - target) * inside.numpy().ravel()
    sums = ImageSums(*(np.zeros((25, 32)) for _ in range(3)), np.zeros(32))
    loss = image_passes.score_estimate(target, problem, scratch, sums)
    image_products.add_transposed(sums.decoder, scratch.by_atom.decoder)
    patches = np.stack([error[place + problem.under] for place in problem.places])
    np.testing.assert_allclose(scratch.image[0], error, atol=1e-12)
    np.testing.assert_allclose(sums.decoder, patches.T @ z, atol=1e-12)
    assert loss == pytest.approx(error @ error / 2)
    assert image_passes.end_at_loss(problem, scratch, loss) == pytest.approx(loss + 0.3 * abs(z).sum())
    bar = np.pad((D.T @ error).reshape(17, n_places).T, [(0, 0), (0, 15)]) + 0.3 * np.sign(z)
    np.testing.assert_allclose(scratch.bar[z != 0], bar[z != 0], atol=1e-12)


@pytest.mark.parametrize("unrolling", UNROLLINGS, ids=str)
def test_image_layers_and_back_are_those_of_numpy(unrolling):
    """An image through all layers, and back from a z̄_T: x̄, θ̄ and D̄ at each of its places."""
    images, filters = make(n=1, p=3, kernel=3, stride=2, rows=3, columns=2)
    D, x, step = matrix(filters, 2, 3, 2).numpy(), images.numpy().ravel(), unrolling.step
    given = torch.randn(1, 3, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    codes, history, residuals = np.zeros(18), [np.zeros(18)], []
    for level in unrolling.levels():
        residuals.append(D @ codes - x)
        u = codes - step * D.T @ residuals[-1]
        inside = (u < level) & (unrolling.nonnegative | (u > -level))
        codes = np.where(inside, 0, u if unrolling.hard else u - np.sign(u) * level)
        history.append(codes)
    _, found, _ = image_layers.run_image_network(
        images, None, (*[filters] * 3, None), unrolling, stride=2, stop=4, penalty=0.0, inside=None
    )
    np.testing.assert_allclose(found.numpy().ravel(), codes, atol=1e-12)
    bar, x_bar, slopes, as_analysis, as_synthesis = given.numpy().ravel(), 0, 0, 0, 0
    for t in reversed(range(4)):
        u = bar * (history[t + 1] != 0)
        q = D @ u
        slopes = slopes - unrolling.decay**t * (u * np.sign(history[t + 1])).reshape(3, -1).sum(1)
        as_analysis, as_synthesis = (
            as_analysis - step * np.outer(residuals[t], u),
            as_synthesis - step * np.outer(q, history[t]),
        )
        x_bar, bar = x_bar + step * q, u - step * D.T @ q
    synthesis, analysis, found_slopes, found_x = image_layers.pull_back_image_layers(
        images, filters, unrolling, given, stride=2, of_arrays=True, of_levels=True, of_images=True
    )
    np.testing.assert_allclose(found_x.numpy().ravel(), x_bar, atol=1e-12)
    np.testing.assert_allclose(found_slopes.numpy(), slopes, atol=1e-12)
    tap = np.stack([matrix(one.reshape(filters.shape), 2, 3, 2).numpy() for one in torch.eye(27, dtype=torch.float64)])
    for ours, theirs in ((analysis, as_analysis), (synthesis, as_synthesis)):
        np.testing.assert_allclose(ours.numpy().ravel(), (tap * theirs).sum((1, 2)), atol=1e-12)
