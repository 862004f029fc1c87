"""The convolution as a matrix, and codes by it."""

from functools import partial

import pytest
import torch
from convolutions import SHAPES, UNROLLINGS, make, matrix, relative
from hypothesis import given, settings
from torch.autograd import forward_ad, gradcheck, gradgradcheck

import pudle
from pudle.core import convolution
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


def _derivatives(encode, images, filters, unrolling):
    """Codes, and derivatives of a weighted sum of them with respect to images, filters, the step, and λ where there is one."""
    images, filters = (array.clone().requires_grad_() for array in (images, filters))
    numbers = {name: value for name in ("step", "lam") if (value := getattr(unrolling, name)) is not None}
    numbers = {name: torch.tensor(value).to(images).requires_grad_() for name, value in numbers.items()}
    codes = encode(images, filters, **vars(unrolling) | numbers)
    weights = torch.randn(codes.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(images)
    return codes, torch.autograd.grad((weights * codes).sum(), [images, filters, *numbers.values()])


@pytest.fixture
def plain_calls(monkeypatch):
    """How often the plain layers have run."""
    calls, plain = [], convolution._plain_codes
    monkeypatch.setattr(convolution, "_plain_codes", lambda *arguments: calls.append(1) or plain(*arguments))
    return calls


@pytest.mark.parametrize("unrolling", UNROLLINGS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_derivatives_in_closed_form_are_those_of_the_plain_layers(unrolling, dtype, plain_calls):
    """On ten images of more rows than columns, so that images, tasks and positions are not mixed up."""
    images, filters = (array.to(dtype) for array in make(n=10, p=17, kernel=5, stride=2, rows=6, columns=3))
    codes, found = _derivatives(partial(encode, stride=2), images, filters, unrolling)
    assert not plain_calls

    def plain(images, filters, *, lam=None, step, **_):
        return convolution._plain_codes(images, filters, lam, step, unrolling, 2)

    wanted_codes, wanted = _derivatives(plain, images.double(), filters.double(), unrolling)
    assert plain_calls and (codes == 0).any()
    tolerance = 1e-10 if dtype == torch.float64 else 1e-4
    torch.testing.assert_close(codes.double(), wanted_codes, atol=tolerance, rtol=tolerance)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.dtype == dtype and ours.shape == theirs.shape and relative(ours.double(), theirs) < tolerance


@pytest.mark.parametrize("unrolling", UNROLLINGS, ids=str)
def test_kept_layers_are_those_that_run_again(unrolling, monkeypatch):
    """With the same bits, in one backward pass and in a second one. Inputs must not be changed in between."""
    images, filters = make(n=10, p=17, kernel=5, stride=2, rows=6, columns=3)
    codes, wanted = _derivatives(partial(encode, stride=2), images, filters, unrolling)
    filters = filters.clone().requires_grad_()
    twice = encode(images, filters, **vars(unrolling), stride=2)
    first, second = (torch.autograd.grad(twice.sum(), filters, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)
    monkeypatch.setattr(convolution, "MOST_PADDING", 1)
    again_codes, again = _derivatives(partial(encode, stride=2), images, filters.detach(), unrolling)
    assert torch.equal(again_codes, codes) and all(map(torch.equal, again, wanted))
    with torch.no_grad():
        filters.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        twice.sum().backward()


@pytest.mark.parametrize("unrolling", UNROLLINGS, ids=str)
def test_derivatives_are_those_of_finite_differences(unrolling):
    inputs = [array.requires_grad_() for array in make(n=1, p=2, kernel=3, stride=2, rows=2, columns=2)]
    names = [name for name in ("lam", "step") if getattr(unrolling, name) is not None]
    numbers = [torch.tensor(getattr(unrolling, name), dtype=torch.float64, requires_grad=True) for name in names]

    def codes(images, filters, *numbers):
        return encode(images, filters, **vars(unrolling) | dict(zip(names, numbers, strict=True)), stride=2)

    assert gradcheck(codes, (*inputs, *numbers))
    assert gradgradcheck(codes, (*inputs, *numbers))


@pytest.mark.parametrize("wanted", [(True, False), (False, True)])
def test_only_what_is_asked_for_is_computed(wanted):
    images, filters = (array.requires_grad_(want) for array, want in zip(make(), wanted, strict=True))
    encode(images, filters, **vars(UNROLLINGS[0]), stride=2).square().sum().backward()
    assert [array.grad is not None for array in (images, filters)] == list(wanted)
    assert images.grad is None or (images.grad.shape == images.shape and images.grad.any())


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own, in forward mode
def test_plain_layers_run_only_where_others_cannot(plain_calls):
    images, filters = make()
    layers = {"lam": 0.1, "step": 0.2, "n_layers": 3, "stride": 2}
    wanted = encode(images, filters, **layers)
    filters.requires_grad_()
    with torch.no_grad():
        assert not encode(images, filters, **layers).requires_grad
    codes = encode(images, filters, **layers)
    codes.sum().backward()
    assert not plain_calls and torch.equal(codes, wanted)
    accelerated = encode(images, filters, **layers, acceleration="fista")
    assert accelerated.requires_grad and len(plain_calls) == 1
    (gradient,) = torch.autograd.grad(encode(images, filters, **layers).sum(), filters, create_graph=True)
    assert gradient.requires_grad and len(plain_calls) == 2
    filters = filters.detach()
    jacobian = torch.func.jacrev(lambda filters: encode(images, filters, **layers))(filters)
    with forward_ad.dual_level():
        tangent = torch.ones_like(filters)
        codes = encode(images, forward_ad.make_dual(filters, tangent), **layers)
        torch.testing.assert_close(forward_ad.unpack_dual(codes).tangent, (jacobian * tangent).sum((4, 5, 6, 7)))
    assert len(plain_calls) == 4


def test_settings_that_no_derivative_reaches_are_refused():
    images, filters = make()
    with pytest.raises(pudle.errors.PudleError, match="threshold requires a gradient"):
        encode(images, filters, threshold=torch.tensor(0.1, requires_grad=True), step=0.1, n_layers=2, stride=2)
    with pytest.raises(pudle.errors.PudleError, match="step must be above 0 and finite"):
        encode(images, filters, lam=0.1, step=torch.tensor(-0.1, requires_grad=True), n_layers=2, stride=2)


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
