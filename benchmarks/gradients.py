"""Time of dictionary gradients at the paper's sizes: the closed form compared with automatic differentiation of the entire batch at once.

    python benchmarks/gradients.py [--threads 2] [--device cuda] [--repeats 5] [--only learning] [--toy]

measuring.py describes the measurement. The table is also written to benchmarks/out/gradients.csv.
"""

from measuring import compare

import pudle
from pudle.core.gradients import autograd_gradient, unrolled_gradient
from pudle.core.unrolling import Unrolling

# n, m, p, T and δ. The baselines are also measured with decay and the hard threshold; MNIST has non-negative codes and batches of 32. The
# experiments learning and unrolling differ in δ only: at the start of learning codes are less sparse than during most of it.
SIZES = {
    "learning": (10_000, 50, 100, 100, 0.1),
    "unrolling": (10_000, 50, 100, 100, 0.02),
    "baselines": (50, 1000, 1500, 100, 0.005),
    "MNIST": (32, 784, 500, 15, 0.005),
    "toy": (40, 10, 20, 5, 0.1),
}
KINDS = {
    "soft": {"lam": 0.2},
    "decay": {"lam": 0.2, "decay": 0.95},
    "hard": {"threshold": 0.1},
    "one-sided": {"lam": 0.2, "nonnegative": True},
}
CASES = (
    [(name, 5, estimator, "soft") for name in ("learning", "unrolling") for estimator in ("dec", "ae-lasso", "ae-ls")]
    + [("baselines", sparsity, "ae-ls", kind) for sparsity in (10, 20, 40) for kind in ("soft", "decay", "hard")]
    + [("MNIST", 20, "ae-lasso", "one-sided")]
)


def call(path: str, experiment: str, sparsity: int, estimator: str, kind: str):
    """The function to time, which has no arguments. Both paths run once on a few samples before, to load libraries and compile loops."""
    n, m, p, n_layers, init_noise = SIZES[experiment]
    data = pudle.make_sparse_data(n, m, p, sparsity, seed=0)
    dictionary = pudle.perturb_dictionary(data.dictionary, init_noise, seed=0)
    unrolling = Unrolling(step=0.2, n_layers=n_layers, **KINDS[kind])
    gradient = {"autograd": autograd_gradient, "fast": unrolled_gradient}[path]
    gradient(data.x[:2], dictionary, estimator, unrolling)
    return lambda: gradient(data.x, dictionary, estimator, unrolling)


def operations(experiment: str, sparsity: int, estimator: str, kind: str) -> float:
    """Floating-point operations of the dense layers in Gram form: one (n, p) by (p, p) product per layer, three with back-propagation."""
    n, _, p, n_layers, _ = SIZES[experiment]
    return (1 if estimator == "dec" else 3) * n_layers * 2 * n * p**2


if __name__ == "__main__":
    compare(__file__, __doc__, CASES, call, operations, toy=[("toy", 2, "ae-ls", "soft")])
