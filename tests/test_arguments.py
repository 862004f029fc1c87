"""What public functions say of their arguments is checked: types, shapes, and numbers with their limits."""

import numpy as np
import pytest
import torch

import pudle
from pudle.core import convolution, gradients, interpretation, lasso, theory
from pudle.core.initialization import (
    gaussian_dictionary,
    pairwise_dictionary,
    perturb_dictionary,
    random_filters,
    sample_dictionary,
    unit_norm,
)
from pudle.core.pursuit import pursue
from pudle.core.units import number
from pudle.errors import PudleError

D = torch.linalg.qr(torch.linspace(-1, 1, 16, dtype=torch.float64).reshape(4, 4) ** 3 + torch.eye(4))[0]
Z = torch.tensor([[1.0, 0, 2, 0], [0, 1, 0, 3], [2, 0, 1, 1], [1, 1, 0, 0], [0, 2, 1, 0]], dtype=torch.float64)
X = Z @ D.T
IMAGES = torch.ones(2, 1, 7, 7, dtype=torch.float64)
FILTERS = torch.ones(3, 1, 3, 3, dtype=torch.float64)
CODES = torch.ones(2, 3, 3, 3, dtype=torch.float64)  # of images at stride 2
ZERO_ATOM = D * torch.tensor([1.0, 1, 0, 1])

CALLS = {
    "contributions of an array": (lambda: interpretation.atom_contributions(Z.numpy(), 0.1), "codes must be a torch tensor"),
    "contributions of integers": (lambda: interpretation.atom_contributions(Z.long(), 0.1), "codes must be of a floating type"),
    "residual of other codes": (
        lambda: lasso.kkt_residual(X, D, Z[:2], 0.1),
        r"codes must be \(5, 4\), one row for each sample",
    ),
    "residual of integers": (lambda: lasso.kkt_residual(X, D, Z.long(), 0.1), "codes must be of a floating type"),
    "residual of an array": (lambda: lasso.kkt_residual(X.numpy(), D, Z, 0.1), "x must be a torch tensor"),
    "gradient at other codes": (lambda: gradients.decoder_gradient(X, D, Z[:, :3]), r"codes must be \(5, 4\)"),
    "gradient at other types": (lambda: gradients.decoder_gradient(X, D.float(), Z), "must have the same type"),
    "no codes": (lambda: interpretation.atom_contributions(Z[:0], 0.1), r"codes has the shape \(0, 4\)"),
    "ridge below 0": (lambda: interpretation.atom_contributions(Z, -1), "ridge must be at least 0 and finite, not -1"),
    "ridge is no number": (lambda: interpretation.atom_contributions(Z, float("nan")), "ridge must be at least 0 and finite"),
    "ridge is infinite": (lambda: interpretation.atom_contributions(Z, float("inf")), "ridge must be at least 0 and finite"),
    "ridge is text": (lambda: interpretation.atom_contributions(Z, "0.1"), "ridge must be a number, not '0.1'"),
    "ridge has a gradient": (
        lambda: interpretation.atom_contributions(Z, torch.tensor(0.1, requires_grad=True)),
        r"ridge requires a gradient.*ridge.item\(\)",
    ),
    "contributions of other atoms": (
        lambda: interpretation.output_contributions(Z, Z[:, :2], 0.1),
        "must have the same number of atoms",
    ),
    "contributions of two types": (lambda: interpretation.output_contributions(Z, Z.float(), 0.1), "must have the same type"),
    "other samples": (
        lambda: interpretation.explained_dictionary(X[:3], Z, 0.1),
        "x and codes must have the same number of samples",
    ),
    "samples of codes of images": (
        lambda: interpretation.explained_dictionary(IMAGES.reshape(2, -1), CODES, 1.0, kernel=3, stride=2),
        "x and codes must have the same number of samples",
    ),
    "images of another size": (
        lambda: interpretation.explained_dictionary(IMAGES[..., :5], CODES, 1.0, kernel=3, stride=2),
        "x and codes must have the same number of samples",
    ),
    "a stride beyond the kernel": (
        lambda: interpretation.atom_contributions(CODES, 1.0, kernel=2, stride=3),
        "stride=3 must be at most kernel=2",
    ),
    "a kernel of 0": (lambda: interpretation.atom_contributions(CODES, 1.0, kernel=0, stride=1), "kernel must be at least 1"),
    "residual of one atom": (
        lambda: interpretation.relation_residual(D[:, :1], X, Z, 0.1),
        r"dictionary must be \(4, 4\) for these x and codes, not \(4, 1\)",
    ),
    "truth as an array": (lambda: perturb_dictionary(D.numpy(), 0.1, 0), "dictionary must be a torch tensor"),
    "truth as an atom": (lambda: perturb_dictionary(D[0], 0.1, 0), r"\(n_features, n_atoms\), not \(4,\)"),
    "atoms of norm 1e-6": (lambda: perturb_dictionary(1e-6 * D, 0.1, 0), "atom 0 has a norm of 1e-06, not 1"),
    "a truth with an atom of 0": (lambda: perturb_dictionary(torch.zeros(3, 4), 0.1, 0), "atom 0 has a norm of 0, not 1"),
    "an atom that is not finite": (lambda: perturb_dictionary(torch.nan * D, 0.1, 0), "atom 0 has a norm of nan, not 1"),
    "a seed below 0": (lambda: perturb_dictionary(D, 0.1, -1), "seed must be at least 0, not -1"),
    "half a seed": (lambda: pudle.make_sparse_data(4, 4, 4, 2, seed=0.5), "seed must be an integer"),
    "no samples": (lambda: pudle.make_sparse_data(0, 4, 4, 2, seed=0), "n_samples must be at least 1"),
    "half a sample": (lambda: pudle.make_sparse_data(4.5, 4, 4, 2, seed=0), "n_samples must be an integer"),
    "data without features": (lambda: pudle.make_sparse_data(4, 0, 4, 2, seed=0), "n_features must be at least 1"),
    "noise of data below 0": (lambda: pudle.make_sparse_data(4, 4, 4, 2, seed=0, noise=-1), "noise must be at least 0"),
    "high below low": (lambda: pudle.make_sparse_data(4, 4, 4, 2, seed=0, low=3), "high must be at least 3"),
    "noise below 0": (lambda: perturb_dictionary(D, -0.1, 0), "init_noise must be at least 0"),
    "no features": (lambda: gaussian_dictionary(0, 3, 0), "n_features must be at least 1, not 0"),
    "half an atom": (lambda: gaussian_dictionary(4, 2.5, 0), "n_atoms must be an integer, not 2.5"),
    "no filters": (lambda: random_filters(0, 3, 0), "n_filters must be at least 1"),
    "no atoms": (lambda: sample_dictionary(X, 0, 0), "n_atoms must be at least 1"),
    "a sample without values": (lambda: sample_dictionary(torch.zeros_like(X), 2, 0), "of x is 0, and no atom of norm 1"),
    "samples that are not finite": (lambda: sample_dictionary(X / 0, 2, 0), "all values of x must be finite"),
    "one sample": (lambda: pairwise_dictionary(X[0], 2, 0, max_pairs=9), r"x must be \(n_samples, n_features\), not \(4,\)"),
    "no iterations": (lambda: pairwise_dictionary(X, 2, 0, max_pairs=9, n_iter=0), "n_iter must be at least 1"),
    "an atom of 0": (lambda: theory.coherence(ZERO_ATOM), "dictionary: atom 2 is 0"),
    "coherence of NaN": (lambda: theory.coherence(torch.nan * D), "all values of dictionary must be finite"),
    "closeness to NaN": (lambda: theory.closeness(D, torch.nan * D), "all values of true must be finite"),
    "a step for infinity": (lambda: theory.largest_step(torch.inf * D.abs()), "all values of dictionary must be finite"),
    "a truth of 0": (lambda: theory.closeness(D, torch.zeros_like(D)), "true: atom 0 is 0"),
    "a step for nothing": (lambda: theory.largest_step(torch.zeros_like(D)), "dictionary: atom 0 is 0"),
    "a step of 0": (lambda: theory.contraction_rate(D, Z > 0, 0), "step must be above 0 and finite, not 0"),
    "supports as an array": (lambda: theory.contraction_rate(D, (Z > 0).numpy(), 0.1), "supports must be a torch tensor"),
    "no sparsity": (lambda: theory.support_condition(D, D, 0, 1, 2), "sparsity must be at least 1, not 0"),
    "half a sparsity": (lambda: theory.support_condition(D, D, 1.5, 1, 2), "sparsity must be an integer"),
    "largest below smallest": (lambda: theory.support_condition(D, D, 1, 2, 1), "largest must be at least 2"),
    "codes of no size": (lambda: theory.preserving_lambdas(D, D, 1, 0, 0.1, 3), "largest must be above 0"),
    "layers below 0": (lambda: theory.preserving_lambdas(D, D, 1, 1, 0.1, -1), "n_layers must be at least 0"),
    "codes of another type": (lambda: theory.first_layer_range(X, D, Z.float()), "x and codes must have the same type"),
    "an atom twice": (
        lambda: theory.lasso_jacobian(X[0], D[:, [0, 0, 1, 2]], torch.ones(4, dtype=torch.float64)),
        "linearly dependent",
    ),
    "pursuit of no atoms": (lambda: pursue(X, D, sparsity=0), "sparsity must be at least 1, not 0"),
    "pursuit to below 0": (lambda: pursue(X, D, residual=-1.0), "residual must be at least 0"),
    "pursuit of NaN": (lambda: pursue(torch.nan * X, D), "all values of x and dictionary, and their squares, must be finite"),
    "contributions of NaN": (
        lambda: interpretation.atom_contributions(torch.nan * Z, 0.1),
        "all values of codes must be finite",
    ),
    "contributions of one number": (
        lambda: interpretation.output_contributions(Z[0, 0], Z[0, 0], 0.1),
        "must have the same number of atoms",
    ),
    "pixels of an array": (lambda: interpretation.pixel_codes(CODES.numpy(), 3, 2), "codes must be a torch tensor"),
    "pixels of a matrix": (lambda: interpretation.pixel_codes(Z, 3, 2), r"codes must be \(n, p, h', w'\) .* not \(5, 4\)"),
    "pixels between filters": (lambda: interpretation.pixel_codes(CODES, 2, 3), "stride=3 must be at most kernel=2"),
    "atoms of integers": (lambda: unit_norm(D.long()), "dictionary must be of a floating type"),
    "a start of complex numbers": (
        lambda: pudle.lasso(X, D, 0.1, start=Z.to(torch.complex64)),
        "start must be of a floating type",
    ),
    "a start of NaN": (lambda: pudle.lasso(X, D, 0.1, start=torch.nan * Z), "all values of start must be finite"),
    "samples of 8 bits": (
        lambda: pudle.encode(*(part.to(torch.float8_e5m2) for part in (X, D)), lam=0.1, step=0.1, n_layers=2),
        "x must have at least 16 bits a number",
    ),
    "a sparse dictionary": (lambda: theory.largest_step(D.to_sparse()), r"dictionary must be a dense tensor.*to_dense\(\)"),
    "a dictionary elsewhere": (
        lambda: pudle.encode(X, D.to("meta"), lam=0.1, step=0.1, n_layers=2),
        "x and dictionary must be on the same device, not cpu and meta",
    ),
    "the norm of a matrix": (lambda: convolution.operator_norm(D, stride=2), r"filters must be \(p, 1, k, k\), not \(4, 4\)"),
    "the norm at no stride": (lambda: convolution.operator_norm(FILTERS, stride=0), "stride must be at least 1, not 0"),
    "the norm of no steps": (lambda: convolution.operator_norm(FILTERS, stride=1, n_iter=0), "n_iter must be at least 1"),
    "a size for no stride": (lambda: convolution.fit_size(IMAGES, 3, 0), "stride must be at least 1, not 0"),
    "a size of an array": (lambda: convolution.fit_size(IMAGES.numpy(), 3, 2), "images must be a torch tensor"),
    "a size of a row": (lambda: convolution.fit_size(IMAGES[0, 0, 0], 3, 2), r"images must be \(..., h, w\)"),
    "shifts of a picture": (
        lambda: convolution.average_shifts(IMAGES[0, 0], 3, 2, lambda moved: moved),
        r"images must be \(n, 1, h, w\)",
    ),
    "no truth": (lambda: pudle.dictionary_error(D, torch.zeros_like(D)), "true is 0 everywhere"),
    "codes of other filters": (lambda: convolution.decode(CODES[:, :2], FILTERS, stride=2), "codes must be"),
    "a stride of 0": (lambda: convolution.decode(CODES, FILTERS, stride=0), "stride must be at least 1, not 0"),
    "no stride": (
        lambda: convolution.encode(IMAGES, FILTERS, lam=0.1, step=0.1, n_layers=2, stride=0),
        "stride must be at least 1, not 0",
    ),
}


@pytest.mark.parametrize("case", CALLS)
def test_what_does_not_fit_is_refused_by_name(case):
    call, says = CALLS[case]
    with pytest.raises(PudleError, match=says):
        call()


@pytest.mark.parametrize("value", [2, 2.0, np.float32(2), np.array(2.0), torch.tensor(2.0), True])
def test_numbers_of_every_kind_are_taken(value):
    assert number("some", value) == float(value) and isinstance(number("some", value), float)


@pytest.mark.parametrize("value", [None, "2", 2j, torch.ones(2), np.ones(2)], ids=repr)
def test_what_is_no_number_is_not(value):
    with pytest.raises(PudleError, match="some must be a number"):
        number("some", value)


def test_filters_of_0_have_the_norm_0():
    assert convolution.operator_norm(torch.zeros_like(FILTERS), stride=2) == 0


# of random data, since pairs of samples must share atoms
DATA = pudle.make_sparse_data(200, 12, 12, 2, seed=0)
IN_16_BITS = {
    "pursue": lambda x, D, z: pursue(x, D, sparsity=2),
    "pairwise_dictionary": lambda x, D, z: pairwise_dictionary(x, 5, 0, max_pairs=50).dictionary,
    "closeness": lambda x, D, z: theory.closeness(D, 0.9 * D).kappa,
    "largest_step": lambda x, D, z: theory.largest_step(D),
    "contraction_rate": lambda x, D, z: theory.contraction_rate(D, z != 0, 0.2),
    "lasso_jacobian": lambda x, D, z: theory.lasso_jacobian(x[0], D, z[0]),
    "lasso": lambda x, D, z: pudle.lasso(x, D, 0.2, start=z),
}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", IN_16_BITS)
def test_types_of_16_bits_are_taken_where_torch_has_no_factorisation_of_them(name, dtype):
    arrays = [part.to(dtype) for part in (DATA.x, DATA.dictionary, DATA.codes)]
    found = torch.as_tensor(IN_16_BITS[name](*arrays))
    exact = torch.as_tensor(IN_16_BITS[name](*(part.double() for part in arrays)))
    assert found.dtype == dtype or not found.ndim
    assert float((found.double() - exact.double()).norm()) <= 0.05 * float(exact.double().norm())
