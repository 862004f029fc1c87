"""The convolution as a matrix, and codes by it."""

import pytest
import torch
from convolutions import SHAPES, UNROLLINGS, make, matrix
from hypothesis import given, settings

import pudle
from pudle.core.convolution import decode, encode, fit_size, operator_norm
from pudle.core.networks import filter_gradient


@settings(max_examples=25, deadline=None, derandomize=True)
@given(**SHAPES)
def test_decode_is_the_matrix_of_the_convolution_and_the_adjoint_of_correlation(**shape):
    images, filters = make(**shape)
    stride, rows, columns = shape["stride"], shape["rows"], shape["columns"]
    codes = torch.randn(shape["n"], shape["p"], rows, columns, dtype=torch.float64)
    decoded = decode(codes, filters, stride=stride)
    D = matrix(filters, stride, rows, columns)
    torch.testing.assert_close(decoded.flatten(1), codes.flatten(1) @ D.T)
    correlation = torch.nn.functional.conv2d(images, filters, stride=stride)
    torch.testing.assert_close((decoded * images).sum(), (codes * correlation).sum())


@pytest.mark.parametrize("unrolling", UNROLLINGS, ids=str)
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_encode_is_the_dense_one_with_the_matrix_of_the_convolution(unrolling, stride):
    images, filters = make(stride=stride)
    codes = encode(images, filters, **vars(unrolling), stride=stride)
    dense = pudle.encode(images.flatten(1), matrix(filters, stride, 4, 3), **vars(unrolling))
    assert (codes != 0).any() and (codes == 0).any()
    torch.testing.assert_close(codes.flatten(1), dense)


def test_encode_is_differentiable():
    images, filters = make()
    filters.requires_grad_()

    def loss(filters):
        codes = encode(images, filters, **vars(UNROLLINGS[0]), stride=2)
        return 0.5 * (decode(codes, filters, stride=2) - images).square().sum() / len(images)

    (gradient,) = torch.autograd.grad(loss(filters), filters)
    fast = filter_gradient(images, filters, "ae-ls", UNROLLINGS[0], stride=2)
    torch.testing.assert_close(gradient, fast.gradient)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_operator_norm_is_the_largest_singular_value(stride):
    _, filters = make(stride=stride)
    dense = matrix(filters, stride, 6, 6)
    assert float(operator_norm(filters, stride=stride, size=6, n_iter=2000)) == pytest.approx(
        float(torch.linalg.matrix_norm(dense, 2)), rel=1e-4
    )


@pytest.mark.parametrize("kernel, stride", [(9, 4), (5, 2), (3, 1), (2, 3)])
def test_fit_size_drops_what_no_filter_reaches(kernel, stride):
    images = torch.arange(20.0 * 23).reshape(1, 1, 20, 23)
    cropped = fit_size(images, kernel, stride)
    assert all(0 <= before - after < stride for before, after in zip(images.shape, cropped.shape, strict=True))
    assert torch.equal(cropped, images[..., : cropped.shape[2], : cropped.shape[3]])
    assert torch.equal(fit_size(cropped, kernel, stride), cropped)
    filters = torch.ones(1, 1, kernel, kernel)
    codes = encode(cropped, filters, lam=0.1, step=0.1, n_layers=1, stride=stride)
    assert decode(codes, filters, stride=stride).shape == cropped.shape
