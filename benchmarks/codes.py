"""Time to compute codes at the paper's size: hard-thresholded layers as in NOODL compared with plain layers, and pursuit with scikit-learn.

    python benchmarks/codes.py [--threads 2] [--repeats 5] [--only pursuit] [--toy]

measuring.py describes the measurement. The table is also written to benchmarks/out/codes.csv.
"""

import warnings

import torch
from measuring import compare
from sklearn.linear_model import orthogonal_mp_gram

import pudle
from pudle.core.gradients import unrolled_codes
from pudle.core.pursuit import pursue
from pudle.core.unrolling import Unrolling, iterate

SIZES = {"paper": (50, 1000, 1500), "toy": (10, 20, 30)}  # n, m, p
HARD = Unrolling(threshold=0.1, step=0.2, n_layers=100)  # NOODL's
CASES = [(name, sparsity) for name in ("hard layers", "pursuit") for sparsity in (10, 40)]
TOY = [(name, 2, "toy") for name in ("hard layers", "pursuit")]

warnings.filterwarnings("ignore", "Orthogonal matching pursuit ended prematurely")


def call(path: str, name: str, sparsity: int, size: str = "paper"):
    """The function to time, which has no arguments. Pursuit gets the number of non-zeros."""
    n, m, p = SIZES[size]
    data = pudle.make_sparse_data(n, m, p, sparsity, seed=0)
    x, D = data.x, pudle.perturb_dictionary(data.dictionary, 0.005, seed=0)
    calls = {
        ("plain", "hard layers"): lambda: iterate(HARD, x.new_zeros(n, p), lambda z: (z @ D.T - x) @ D),
        ("plain", "pursuit"): lambda: orthogonal_mp_gram(
            (D.T @ D).numpy(force=True), (x @ D).T.numpy(force=True), n_nonzero_coefs=sparsity
        ),
        ("fast", "hard layers"): lambda: unrolled_codes(x, D, HARD),
        ("fast", "pursuit"): lambda: pursue(x, D, sparsity=sparsity),
    }
    calls["fast", name]()  # loads the libraries
    return calls[path, name]


def operations(name: str, sparsity: int, size: str = "paper") -> float:
    """Floating-point operations of dense layers in Gram form. Those of the other implementations depend on the data."""
    n, _, p = SIZES[size]
    return HARD.n_layers * 2 * n * p**2 if name == "hard layers" else float("nan")


if __name__ == "__main__":
    with torch.no_grad():
        compare(__file__, __doc__, CASES, call, operations, plain="plain", toy=TOY)
