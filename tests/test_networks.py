"""Networks: the fast gradients against automatic differentiation and finite differences, on every path; and denoising."""

from itertools import pairwise, product

import pytest
import torch
from convolutions import CASES, SHAPES, UNROLLINGS, free_network, make, relative
from hypothesis import given, settings
from hypothesis import strategies as st

from pudle.core import networks
from pudle.core.convolution import decode, encode, fit_size
from pudle.core.gradients import ESTIMATORS
from pudle.core.networks import (
    Network,
    autograd_filter_gradient,
    autograd_network_gradient,
    denoise,
    filter_gradient,
    network_gradient,
)
from pudle.core.unrolling import Unrolling
from pudle.errors import PudleError


@settings(max_examples=25, deadline=None, derandomize=True)
@given(**SHAPES)
def test_the_fast_gradient_is_that_of_automatic_differentiation_for_all_shapes(**shape):
    images, filters = make(**shape)
    for estimator in ESTIMATORS:
        fast, plain = (
            gradient(images, filters, estimator, UNROLLINGS[0], stride=shape["stride"])
            for gradient in (filter_gradient, autograd_filter_gradient)
        )
        torch.testing.assert_close(fast.gradient, plain.gradient, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(fast.codes, plain.codes, rtol=1e-10, atol=1e-12)
        assert fast.loss == pytest.approx(plain.loss, rel=1e-12)


@pytest.mark.parametrize("estimator, unrolling", CASES, ids=str)
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_closed_form_is_automatic_differentiation_and_finite_differences(estimator, unrolling, stride):
    images, filters = make(stride=stride, rows=3)
    targets = images + 0.3 * torch.randn(images.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    setting = {"stride": stride, "targets": targets, "l1_weight": 1.7}
    fast = filter_gradient(images, filters, estimator, unrolling, **setting)
    plain = autograd_filter_gradient(images, filters, estimator, unrolling, **setting)
    assert relative(fast.gradient, plain.gradient) < 1e-10
    assert torch.equal(fast.codes != 0, plain.codes != 0)
    assert fast.loss == pytest.approx(plain.loss, rel=1e-12)

    def loss(filters):
        if estimator == "dec":
            return 0.5 * float((decode(fast.codes, filters, stride=stride) - targets).square().sum()) / len(images)
        return filter_gradient(images, filters, estimator, unrolling, **setting).loss

    direction = torch.randn(filters.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    size = 1e-6
    difference = (loss(filters + size * direction) - loss(filters - size * direction)) / (2 * size)
    assert difference == pytest.approx(float((fast.gradient * direction).sum()), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize(
    "names", [(), ("thresholds",), ("analysis",), ("decoder",), ("analysis", "decoder", "thresholds")], ids=str
)
@pytest.mark.parametrize("nonnegative", [False, True])
@pytest.mark.parametrize(("backward_layers", "margin"), [(2, 0), (None, 3)])
def test_the_gradient_of_every_array_of_a_network_is_that_of_automatic_differentiation(
    names, nonnegative, backward_layers, margin
):
    images, filters = make(n=3)
    network, unrolling = free_network(filters, names), Unrolling(lam=0.1, step=0.2, n_layers=4, nonnegative=nonnegative)
    setting = {"stride": 2, "targets": images.flip(3), "backward_layers": backward_layers, "margin": margin}
    fast, plain = (
        gradient(images, network, "ae-ls", unrolling, **setting) for gradient in (network_gradient, autograd_network_gradient)
    )
    assert (fast.codes != 0).any() and (fast.codes == 0).any() and torch.equal(fast.codes != 0, plain.codes != 0)
    assert fast.loss == pytest.approx(plain.loss, rel=1e-12)
    for array, ours, theirs in zip(network, fast.gradient, plain.gradient, strict=True):
        assert (array is None) == (ours is None) == (theirs is None)
        if array is not None:
            assert ours.shape == array.shape and relative(ours, theirs) < 1e-10


@pytest.mark.parametrize("estimator, unrolling", CASES, ids=str)
@pytest.mark.parametrize(("backward_layers", "margin"), [(2, 0), (None, 3)])
def test_the_path_for_other_devices_is_the_compiled_one(estimator, unrolling, backward_layers, margin, monkeypatch):
    images, filters = make(n=3)
    soft = not unrolling.hard and unrolling.decay == 1
    network = free_network(filters) if estimator == "ae-ls" and soft else Network(filters)
    setting = {"stride": 2, "targets": images.flip(3), "backward_layers": backward_layers, "margin": margin, "l1_weight": 1.7}
    compiled = network_gradient(images, network, estimator, unrolling, **setting)
    estimate = denoise(images, network, unrolling, stride=2)
    monkeypatch.setattr("pudle.kernels.image_layers.run_image_network", networks.run_network)
    monkeypatch.setattr("pudle.core.networks._block", lambda *_: 2)
    other = network_gradient(images, network, estimator, unrolling, **setting)
    torch.testing.assert_close(other.codes, compiled.codes)
    torch.testing.assert_close(denoise(images, network, unrolling, stride=2), estimate)
    assert other.loss == pytest.approx(compiled.loss, rel=1e-12)
    for array, ours, theirs in zip(network, other.gradient, compiled.gradient, strict=True):
        assert (array is None) == (ours is None) == (theirs is None)
        if array is not None:
            assert relative(ours, theirs) < 1e-10


@pytest.mark.parametrize("p", [16, 17, 70, 130])
def test_any_number_of_filters_in_both_precisions(p):
    """Strips of all widths, and remainders of rows."""
    for dtype, limit in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        images, filters = make(p=p, rows=7, columns=5, dtype=dtype)
        fast, plain = (
            gradient(images, filters, "ae-ls", UNROLLINGS[0], stride=2)
            for gradient in (filter_gradient, autograd_filter_gradient)
        )
        assert relative(fast.gradient, plain.gradient) < limit and relative(fast.codes, plain.codes) < limit


@pytest.mark.parametrize("kernel", [5, 9, 13])
@pytest.mark.parametrize(("lam", "few"), [(2.0, 0.3), (0.5, 0.8), (0.001, 1.0)])
def test_codes_of_every_density_have_the_gradient_of_automatic_differentiation(kernel, lam, few):
    """Products from few codes and dense ones, for filters of one vector of pixels and of several."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 1, 29, 29, dtype=torch.float64, generator=generator)
    filters = torch.randn(20, 1, kernel, kernel, dtype=torch.float64, generator=generator)
    filters /= filters.flatten(1).norm(dim=1)[:, None, None, None]
    unrolling = Unrolling(lam=lam, step=0.05, n_layers=6)
    for estimator in ESTIMATORS:
        fast, plain = (
            gradient(images, filters, estimator, unrolling, stride=4)
            for gradient in (filter_gradient, autograd_filter_gradient)
        )
        torch.testing.assert_close(fast.gradient, plain.gradient, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(fast.codes, plain.codes, rtol=1e-10, atol=1e-12)
    assert few - 0.3 < float((fast.codes != 0).double().mean()) <= few


def test_threads_do_not_change_the_gradient():
    images, filters = make(n=10)
    before, found = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(filter_gradient(images, filters, "ae-ls", UNROLLINGS[0], stride=2))
    torch.set_num_threads(before)
    assert torch.equal(found[0].gradient, found[1].gradient) and torch.equal(found[0].codes, found[1].codes)


def test_the_gradient_of_every_array_of_a_network_is_that_of_finite_differences():
    images, filters = make()
    network, targets = free_network(filters), images.flip(2)

    def loss(network):
        return network_gradient(images, network, "ae-ls", UNROLLINGS[0], stride=2, targets=targets).loss

    found = network_gradient(images, network, "ae-ls", UNROLLINGS[0], stride=2, targets=targets).gradient
    for name, array in network._asdict().items():
        direction = 1e-6 * torch.randn(array.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        ends = [loss(network._replace(**{name: array + sign * direction})) for sign in (1, -1)]
        assert ends[0] - ends[1] == pytest.approx(2 * float((getattr(found, name) * direction).sum()), rel=1e-5)


def test_a_network_in_single_precision_at_the_size_of_the_denoising_experiment():
    images, filters = make(n=6, p=64, kernel=9, stride=4, rows=15, columns=15, dtype=torch.float32)
    network = free_network(filters)
    unrolling = Unrolling(lam=0.16, step=0.05, n_layers=12)
    fast, plain = (
        gradient(images, network, "ae-ls", unrolling, stride=4, targets=images.flip(3))
        for gradient in (network_gradient, autograd_network_gradient)
    )
    for ours, theirs in zip(fast.gradient, plain.gradient, strict=True):
        assert relative(ours, theirs) < 1e-5


def test_a_network_whose_arrays_are_all_the_same_is_the_tied_one():
    images, filters = make()
    unrolling = Unrolling(lam=0.1, step=0.2, n_layers=4)
    tied = filter_gradient(images, filters, "ae-ls", unrolling, stride=2)
    level = filters.new_full((len(filters),), unrolling.level(0))
    free = network_gradient(images, Network(filters, filters.clone(), filters.clone(), level), "ae-ls", unrolling, stride=2)
    torch.testing.assert_close(free.codes, tied.codes)
    torch.testing.assert_close(sum(free.gradient[:3]), tied.gradient)


@pytest.mark.parametrize("unrolling", UNROLLINGS, ids=str)
def test_denoise_is_encode_and_decode(unrolling):
    images, filters = make(n=3)
    estimate = denoise(images, Network(filters), unrolling, stride=2)
    torch.testing.assert_close(estimate, decode(encode(images, filters, **vars(unrolling), stride=2), filters, stride=2))
    other = denoise(images, Network(filters, decoder=2 * filters), unrolling, stride=2)
    torch.testing.assert_close(other, 2 * estimate)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(kernel=st.integers(1, 6), stride=st.integers(1, 5), height=st.integers(1, 9), width=st.integers(1, 9))
def test_shift_averaging_takes_images_of_any_size_and_gives_each_pixel_its_full_share(kernel, stride, height, width):
    """With one constant filter a constant image is estimated by how often pixels are covered: k² / stride² times on the average."""
    images, filters = (
        torch.ones(2, 1, height, width, dtype=torch.float64),
        torch.ones(1, 1, kernel, kernel, dtype=torch.float64),
    )
    estimate = denoise(
        images, Network(filters), Unrolling(lam=0, step=1 / kernel**2, n_layers=1), stride=stride, shift_average=True
    )
    torch.testing.assert_close(estimate, images * kernel**2 / stride**2)


def test_shift_averaging_is_the_mean_over_shifted_images():
    images, filters = make(n=1, p=5, kernel=5, stride=2, rows=6, columns=6)
    found = denoise(images, Network(filters), UNROLLINGS[0], stride=2, shift_average=True)
    padded = torch.nn.functional.pad(images, (5, 7, 5, 7), mode="reflect")
    complete = []
    for down, right in product(range(2), repeat=2):
        moved = padded[..., down : down + 25, right : right + 25]
        estimate = denoise(moved, Network(filters), UNROLLINGS[0], stride=2)
        complete.append(estimate[..., 5 - down : 20 - down, 5 - right : 20 - right])
    torch.testing.assert_close(found, torch.stack(complete).mean(0))


@pytest.mark.parametrize("estimator", ["ae-ls", "ae-lasso"])
def test_truncated_back_propagation_stops_where_it_says(estimator):
    images, filters = make()
    gradients = []
    for backward_layers in (1, 2, 3, 4, None):
        setting = {"stride": 2, "backward_layers": backward_layers}
        fast, plain = (
            gradient(images, filters, estimator, UNROLLINGS[0], **setting).gradient
            for gradient in (filter_gradient, autograd_filter_gradient)
        )
        assert relative(fast, plain) < 1e-10
        gradients.append(fast)
    assert torch.equal(gradients[-1], gradients[-2])
    assert all(relative(a, b) > 1e-6 for a, b in pairwise(gradients[:-1]))


def test_dec_differs_from_ae_ls():
    images, filters = make()
    dec, ae = (filter_gradient(images, filters, name, UNROLLINGS[0], stride=2) for name in ("dec", "ae-ls"))
    assert relative(dec.gradient, ae.gradient) > 1e-2
    assert torch.equal(dec.codes, ae.codes) and dec.loss == ae.loss


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_single_precision_at_the_size_of_the_denoising_experiment(estimator):
    """More images than fit into one block, filters and settings as in the experiment."""
    images, filters = make(n=10, p=64, kernel=9, stride=4, rows=15, columns=15, dtype=torch.float32)
    unrolling = Unrolling(lam=0.16, step=0.1, n_layers=15)
    targets = images.flip(3)
    fast, plain = (
        gradient(images, filters, estimator, unrolling, stride=4, targets=targets)
        for gradient in (filter_gradient, autograd_filter_gradient)
    )
    assert relative(fast.gradient, plain.gradient) < 1e-5
    assert relative(fast.codes, plain.codes) < 1e-5
    assert fast.loss == pytest.approx(plain.loss, rel=1e-5)


def test_inputs_are_left_alone_and_nothing_needs_gradients():
    images, filters = make()
    filters.requires_grad_()
    before = images.clone(), filters.detach().clone()
    result = filter_gradient(images, filters, "ae-ls", UNROLLINGS[0], stride=2)
    assert torch.equal(images, before[0]) and torch.equal(filters, before[1])
    assert not result.gradient.requires_grad and not result.codes.requires_grad and filters.grad is None


def test_not_a_number_is_passed_on():
    images, filters = make()
    images[0, 0, 0, 0] = float("nan")
    assert filter_gradient(images, filters, "ae-ls", UNROLLINGS[0], stride=2).gradient.isnan().any()


def test_bad_input_is_named():
    images, filters = make(rows=3, columns=3)
    good = {"estimator": "ae-ls", "unrolling": UNROLLINGS[0], "stride": 2}
    cases = [
        (images[..., :-1], filters, {}, "fit_size"),
        (images[..., :3], filters, {}, "fit_size"),
        (images[:, 0], filters, {}, r"\(n, 1, h, w\)"),
        (images, filters[..., :3], {}, r"\(p, 1, k, k\)"),
        (images.expand(-1, 3, -1, -1), filters, {}, r"\(n, 1, h, w\)"),
        (images[:0], filters, {}, "at least one image"),
        (images.numpy(), filters, {}, "images must be a torch tensor, not a ndarray"),
        (images.float(), filters, {}, "images and filters must have the same type, not torch.float32 and torch.float64"),
        (images, filters, {"targets": images[:1]}, "targets"),
        (images, filters, {"estimator": "ae-sl"}, "did you mean 'ae-ls'"),
        (images, filters, {"estimator": "ae-lasso", "unrolling": UNROLLINGS[-1]}, "needs lam"),
        (images, filters, {"backward_layers": 0}, "backward_layers must be from 1 to n_layers=4, not 0"),
        (images, filters, {"backward_layers": 5}, "not 5"),
        (images, filters, {"margin": 5}, "margin=5 leaves no pixels of images of 9 x 9"),
        (images, filters, {"margin": -1}, "margin=-1"),
    ]
    for bad_images, bad_filters, other, message in cases:
        for gradient in (filter_gradient, autograd_filter_gradient):
            with pytest.raises(PudleError, match=message):
                gradient(bad_images, bad_filters, **(good | other))
    soft, hard = UNROLLINGS[0], UNROLLINGS[-1]
    wrong = [
        (Network(filters, analysis=filters[..., :3, :3]), "ae-ls", soft, "shape of the filters"),
        (Network(filters, decoder=filters[:1]), "ae-ls", soft, "shape of the filters"),
        (Network(filters, thresholds=filters[0, 0, 0, :2]), "ae-ls", soft, "one for each filter"),
        (Network(filters, thresholds=filters[:, 0, 0, 0]), "ae-ls", hard, "learned thresholds are soft"),
        (Network(filters, decoder=filters), "dec", soft, "only the estimator 'ae-ls' learns .*, not 'dec'"),
        (
            Network(filters, thresholds=filters[:, 0, 0, 0]),
            "ae-lasso",
            soft,
            "only the estimator 'ae-ls' learns .*, not 'ae-lasso'",
        ),
    ]
    for network, estimator, unrolling, message in wrong:
        for gradient in (network_gradient, autograd_network_gradient):
            with pytest.raises(PudleError, match=message):
                gradient(images, network, estimator, unrolling, stride=2)
    with pytest.raises(PudleError, match="fit_size"):
        encode(images[..., :-1], filters, lam=0.1, step=0.1, n_layers=1, stride=2)
    with pytest.raises(PudleError, match="smaller than the 9 x 9 filters"):
        fit_size(torch.zeros(1, 1, 8, 20), 9, 4)


def test_fista_layers_encode_but_have_no_gradient_here():
    images, filters = torch.rand(2, 1, 13, 13, dtype=torch.float64), torch.randn(3, 1, 5, 5, dtype=torch.float64)
    settings_ = {"lam": 0.1, "step": 0.01, "n_layers": 4, "acceleration": "fista"}
    plain = encode(images, filters, stride=2, **settings_ | {"acceleration": "none"})
    assert not torch.equal(encode(images, filters, stride=2, **settings_), plain)
    with pytest.raises(PudleError, match="without acceleration"):
        filter_gradient(images, filters, "dec", Unrolling(**settings_), stride=2)
