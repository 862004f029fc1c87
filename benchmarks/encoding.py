"""Time of pudle.encode and of its back-propagation to x and the dictionary, compared with plain layers that torch records.

    python benchmarks/encoding.py [--threads 2] [--device cuda] [--repeats 5] [--only learning] [--toy]

measuring.py describes the measurement. The table is also written to benchmarks/out/encoding.csv.
"""

import torch
from gradients import SIZES
from measuring import compare

import pudle
from pudle.core.encoding import _plain_codes
from pudle.core.unrolling import Unrolling

CASES = [
    (name, sparsity, what)
    for name, sparsity in (("learning", 5), ("unrolling", 5), ("baselines", 10), ("baselines", 40))
    for what in ("codes", "backward")
]


def call(path: str, experiment: str, sparsity: int, what: str):
    """The function to time, which has no arguments. Both paths run once on a few samples before."""
    n, m, p, n_layers, init_noise = SIZES[experiment]
    data = pudle.make_sparse_data(n, m, p, sparsity, seed=0)
    D = pudle.perturb_dictionary(data.dictionary, init_noise, seed=0).requires_grad_(what == "backward")
    settings = {"lam": 0.2, "step": 0.2, "n_layers": n_layers}
    encode = {
        "plain": lambda x: _plain_codes(x, D, None, None, Unrolling(**settings)),
        "fast": lambda x: pudle.encode(x, D, **settings),
    }[path]

    def run(x):
        if what == "codes":
            with torch.no_grad():
                encode(x)
        else:
            torch.autograd.grad((0.5 * (encode(x) @ D.T - x).square()).sum() / len(x), D)

    run(data.x[:2])
    return lambda: run(data.x)


def operations(experiment: str, sparsity: int, what: str) -> float:
    """Floating-point operations of the dense layers in Gram form; three times as many with back-propagation."""
    n, _, p, n_layers, _ = SIZES[experiment]
    return (1 if what == "codes" else 3) * n_layers * 2 * n * p**2


if __name__ == "__main__":
    compare(__file__, __doc__, CASES, call, operations, plain="plain", toy=[("toy", 2, "codes"), ("toy", 2, "backward")])
