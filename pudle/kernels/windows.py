"""The structural similarity of two images in a compiled loop, with the numbers of scikit-image to the last bit."""

import sys

import numpy as np

from pudle.kernels.cache import compiled, forget_stale_code, inner, keeps_code

SIDE = 7  # pixels of a window, which has 49
MEANS = 5  # of x, y, x², y² and xy


@compiled(cache=keeps_code(), nogil=True, error_model="numpy")  # no fast-math: sums as scipy adds them
def compare_windows(out, x, y, down, products, peak):
    """out (h, w) = the structural similarity of the windows of 7 x 7 pixels around each pixel of images x and y (h, w), float64.

    Means of windows are those of ``scipy.ndimage.uniform_filter``: sums that run along columns, then along rows, of images that are reflected
    at their edges. All operations have the order that they have in ``skimage.metrics.structural_similarity``.

    down : (5, w), products : (2, 5, w), overwritten; peak : the largest value of the images' range
    """
    height, width = x.shape
    half, n_pixels = SIDE // 2, SIDE * SIDE
    unbiased, c1, c2 = n_pixels / (n_pixels - 1), (0.01 * peak) ** 2, (0.03 * peak) ** 2
    entering, leaving = products[0], products[1]
    for k in range(MEANS):
        for c in range(width):
            down[k, c] = 0
    for r in range(-half, half + 1):
        multiply_rows(entering, x, y, r)
        for k in range(MEANS):
            for c in range(width):
                down[k, c] += entering[k, c]
    for r in range(height):
        if r > 0:
            multiply_rows(entering, x, y, r + half)
            multiply_rows(leaving, x, y, r - half - 1)
            for k in range(MEANS):
                for c in range(width):
                    down[k, c] += entering[k, c] - leaving[k, c]
        for k in range(MEANS):  # along the row
            total, row, means = 0.0, entering[k], leaving[k]
            for c in range(width):
                row[c] = down[k, c] / SIDE
            for c in range(-half, half + 1):
                total += row[reflected(c, width)]
            means[0] = total / SIDE
            for c in range(1, width):
                total += row[reflected(c + half, width)] - row[reflected(c - half - 1, width)]
                means[c] = total / SIDE
        for c in range(width):
            ux, uy, uxx, uyy, uxy = leaving[0, c], leaving[1, c], leaving[2, c], leaving[3, c], leaving[4, c]
            vx, vy, vxy = unbiased * (uxx - ux * ux), unbiased * (uyy - uy * uy), unbiased * (uxy - ux * uy)
            above = (2 * ux * uy + c1) * (2 * vxy + c2)
            out[r, c] = above / ((ux * ux + uy * uy + c1) * (vx + vy + c2))


@inner(cache=False, nogil=True, error_model="numpy")
def reflected(i, n):
    """The index in 0, …, n − 1 of entry i of a line that is reflected at its ends: … 1, 0, 0, 1, …, n − 1, n − 1, n − 2 …"""
    return -1 - i if i < 0 else 2 * n - 1 - i if i >= n else i


@inner(cache=False, nogil=True, error_model="numpy")
def multiply_rows(out, x, y, r):
    """out (5, w) = x, y, x², y² and xy in row r of images that are reflected at their edges."""
    r = reflected(r, x.shape[0])
    for c in range(x.shape[1]):
        a, b = x[r, c], y[r, c]
        out[0, c], out[1, c], out[2, c], out[3, c], out[4, c] = a, b, a * a, b * b, a * b


forget_stale_code(compare_windows, sys.modules[__name__])


def similarity(x: np.ndarray, y: np.ndarray, peak: float) -> float:
    """The mean structural similarity of the windows of 7 x 7 pixels that lie within two images (h, w), float64; ``peak`` as above."""
    out, width = np.empty(x.shape), x.shape[1]
    compare_windows(
        out, np.ascontiguousarray(x), np.ascontiguousarray(y), np.empty((MEANS, width)), np.empty((2, MEANS, width)), peak
    )
    half = SIDE // 2
    return float(out[half:-half, half:-half].mean())
