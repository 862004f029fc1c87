r"""Contributions of training samples to atoms and to outputs.

Training data ``x`` are (n, m), their codes ``z`` are (n, p), the dictionary ``D`` is (m, p). Where D is stationary for
:math:`\frac1n \sum_k ½‖x_k − Dz_k‖² + \frac{w}{2}‖D‖²` with the codes held constant (weight decay w),

.. math::
    D = Xᵀ C, \qquad C = Z (ZᵀZ + ωI)^{-1}, \qquad ω = n w,

so that atom i is the sum of all training samples weighted by column i of C, and a new output :math:`\hat x = D z` is their sum weighted by
:math:`β = C z`. Source: PUDLE, Section 4 (interpretability), which writes C as :math:`G^{-1}Zᵀ` with the n x n matrix
:math:`G = ZᵀZ + ωI` of codes in columns. Both are equal, but the form above needs p x p matrices only.

The relation is the stationarity of ``dec``. For ``ae-lasso`` it holds in the limit T → ∞, where the codes are optimal, and for ``ae-ls`` it
does not hold.

Convolutional codes are (n, p, h', w'). For them each pixel of a training image is a sample with one feature, and its code (p k²) holds the
entries of z that reach it through each of the k² pixels of each filter (:func:`pixel_codes`). All linear algebra is in float64.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from pudle.core.units import number
from pudle.core.unrolling import check_types
from pudle.errors import PudleError


def atom_contributions(codes: Tensor, ridge: float, *, kernel: int | None = None, stride: int | None = None) -> Tensor:
    """C (n, p), the weight of each training sample in each atom, from the training samples' ``codes`` (n, p) and ω = ``ridge``.

    For convolutional codes (n, p, h', w'), with ``kernel`` and ``stride`` in pixels, it is (n h w, p k²), with one row per pixel.
    Weights have the units of 1 / codes, and ω those of squared codes. The relation is derived above.
    Raises :class:`PudleError` if ``ridge`` is negative, or if it is 0 and ZᵀZ is singular.
    """
    z = _rows(codes, kernel, stride).double()
    return _solve(z.T @ z, z.T, ridge).T.to(codes.dtype)


def output_contributions(
    codes: Tensor, new_codes: Tensor, ridge: float, *, kernel: int | None = None, stride: int | None = None
) -> Tensor:
    """β (q, n), the weight of each of the n training samples in each of the q new outputs D z.

    codes : codes of the training samples (n, p)
    new_codes : codes of the outputs (q, p)

    For convolutional codes (n, p, h', w') and (q, p, h', w') β has one row and one column per pixel. β has no units. The relation is derived
    above. Raises :class:`PudleError` as :func:`atom_contributions` does, and if the codes are of different atoms.
    """
    check_types(codes=codes, new_codes=new_codes)
    if codes.ndim < 2 or codes.ndim != new_codes.ndim or codes.shape[1] != new_codes.shape[1]:
        raise PudleError(
            f"codes and new_codes must have the same number of atoms, but their shapes are {tuple(codes.shape)} and {tuple(new_codes.shape)}"
        )
    z, new = (_rows(some, kernel, stride).double() for some in (codes, new_codes))
    return (_solve(z.T @ z, new.T, ridge).T @ z.T).to(codes.dtype)


def explained_dictionary(
    x: Tensor, codes: Tensor, ridge: float, *, kernel: int | None = None, stride: int | None = None
) -> Tensor:
    """The dictionary Xᵀ C (m, p) that the relation gives, from samples ``x`` (n, m) and their ``codes`` (n, p).

    For images (n, 1, h, w) and convolutional codes (n, p, h', w') the result is filters (p, 1, k, k). The relation is derived above. Raises
    :class:`PudleError` as :func:`atom_contributions` does, and if ``x`` and ``codes`` are of different samples.
    """
    check_types(x=x, codes=codes)
    z = _rows(codes, kernel, stride).double()
    wanted = (len(z),) if codes.ndim == 2 else (len(codes), 1, *_pixels(codes, kernel, stride))
    if x.shape[: len(wanted)] != wanted or x.ndim != codes.ndim:
        raise PudleError(
            f"x and codes must have the same number of samples, but their shapes are {tuple(x.shape)} and {tuple(codes.shape)}"
        )
    samples = x.double() if codes.ndim == 2 else x.double().reshape(-1, 1)
    found = _solve(z.T @ z, z.T @ samples, ridge).T.to(x.dtype)
    return found if codes.ndim == 2 else found.reshape(codes.shape[1], 1, kernel, kernel)


def relation_residual(dictionary: Tensor, x: Tensor, codes: Tensor, ridge: float, **convolution: int) -> float:
    """‖D − XᵀC‖ / ‖D‖, the residual of the relation for a trained ``dictionary`` (m, p), or filters (p, 1, k, k).

    ``x`` (n, m), ``codes`` (n, p) and other arguments are those of :func:`explained_dictionary`. Raises :class:`PudleError` as this does, and
    if the dictionary has another shape. The relation is derived above.
    """
    explained = explained_dictionary(x, codes, ridge, **convolution)
    check_types(dictionary=dictionary, x=x)
    if dictionary.shape != explained.shape:
        raise PudleError(f"dictionary must be {tuple(explained.shape)} for these x and codes, not {tuple(dictionary.shape)}")
    return float((dictionary - explained).norm() / dictionary.norm())


def pixel_codes(codes: Tensor, kernel: int, stride: int) -> Tensor:
    """The codes (n h w, p k²) of all pixels, from ``codes`` (n, p, h', w'). Their product with the flattened filters is Dz.

    ``kernel`` (k) and ``stride`` are in pixels. Raises :class:`PudleError` if types, shapes or numbers do not fit.
    """
    check_types(codes=codes)
    if codes.ndim != 4 or not codes.numel():
        raise PudleError(f"codes must be (n, p, h', w') with at least one sample and one atom, not {tuple(codes.shape)}")
    kernel, stride = number("kernel", kernel, least=1, integer=True), number("stride", stride, least=1, integer=True)
    if stride > kernel:
        raise PudleError(f"stride={stride} must be at most kernel={kernel}: pixels between the filters would have no code")
    (n, p), (height, width) = codes.shape[:2], _pixels(codes, kernel, stride)
    spread = codes.new_zeros(n, p, height + kernel - 1, width + kernel - 1)
    spread[:, :, kernel - 1 : height : stride, kernel - 1 : width : stride] = codes
    # for each pixel, its neighbours above and to the left
    patches = F.unfold(spread.reshape(n * p, 1, *spread.shape[2:]), kernel)
    return (
        patches.reshape(n, p, kernel**2, height * width).flip(2).permute(0, 3, 1, 2).reshape(n * height * width, p * kernel**2)
    )


def _pixels(codes: Tensor, kernel: int, stride: int) -> tuple[int, ...]:
    """Height and width of images with these codes."""
    return tuple((size - 1) * stride + kernel for size in codes.shape[2:])


def _rows(codes: Tensor, kernel: int | None, stride: int | None) -> Tensor:
    check_types(codes=codes)
    if not codes.numel():
        raise PudleError(f"there must be at least one sample and one atom, but codes has the shape {tuple(codes.shape)}")
    if codes.ndim == 2:
        return codes
    if codes.ndim != 4 or kernel is None or stride is None:
        raise PudleError(f"codes must be (n, p), or (n, p, h', w') with kernel and stride, not {tuple(codes.shape)}")
    return pixel_codes(codes, kernel, stride)


def _solve(gram: Tensor, target: Tensor, ridge: float) -> Tensor:
    """(gram + ridge I)^{-1} target"""
    ridge, gram = number("ridge", ridge), gram.clone()
    if not gram.isfinite().all():
        raise PudleError("all values of codes must be finite")
    gram.diagonal().add_(ridge)
    factor, failed = torch.linalg.cholesky_ex(gram)
    smallest, largest = factor.diagonal().aminmax()
    if failed or not smallest > 1e-7 * largest:
        raise PudleError(
            f"ridge={ridge} is too small: the p x p matrix ZᵀZ of the codes is singular, for example because no sample uses one of the atoms"
        )
    return torch.cholesky_solve(target, factor)
