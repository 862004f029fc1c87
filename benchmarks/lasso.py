"""CPU time of lasso codes: pudle.lasso compared with LARS of SPAMS and of scikit-learn, in alternation in one process.

    python benchmarks/lasso.py [--threads 1] [--repeats 5] [--only 1500] [--toy]

SPAMS is measured if it can be imported (pip install spams-bin). scikit-learn solves at most 200 samples, and its time is scaled to all samples.
"start" is pudle.lasso from the codes of a dictionary whose atoms are at a distance of 1e-3 from these. "excess" is the larger relative
difference of the objectives of the other two from ours. The table is also written to benchmarks/out/lasso.csv.
"""

import warnings

import numpy as np
import pandas as pd
import torch
from measuring import CLOCKS, arguments, computing_on, output
from sklearn.decomposition import sparse_encode

import pudle

try:
    import spams
except ImportError:
    spams = None

# n, m, p, s, δ and λ
CASES = [
    (10_000, 50, 100, 5, 0.1, 0.2),
    (10_000, 50, 100, 5, 0.02, 0.2),
    (50, 1000, 1500, 10, 0.005, 0.2),
    (50, 1000, 1500, 40, 0.005, 0.2),
    (5_000, 64, 256, 6, 0.05, 0.1),
]
TOY = [(40, 10, 20, 2, 0.1, 0.2)]
TOL = 1e-6  # tolerance of the KKT residual, relative to a sample's largest correlation


def measure(case: tuple, dtype: torch.dtype, threads: int, repeats: int, clock: str) -> dict:
    """Medians of times in seconds, and of ratios of times within a repeat."""
    n, m, p, sparsity, init_noise, lam = case
    data = pudle.make_sparse_data(n, m, p, sparsity, seed=0, dtype=dtype)
    x, D = data.x, pudle.perturb_dictionary(data.dictionary, init_noise, seed=0)
    before = pudle.lasso(x, pudle.perturb_dictionary(D, 1e-3 / m**0.5, seed=1), lam)
    samples, atoms = np.asfortranarray(x.numpy().T), np.asfortranarray(D.numpy())
    calls = {
        "pudle": lambda: pudle.lasso(x, D, lam, tol=TOL),
        "start": lambda: pudle.lasso(x, D, lam, tol=TOL, start=before),
        "scikit-learn": lambda: sparse_encode(x[:200].numpy(), D.T.numpy(), algorithm="lasso_lars", alpha=lam),
    }
    if spams:
        calls["SPAMS"] = lambda: spams.lasso(samples, D=atoms, lambda1=lam, mode=2, numThreads=threads).T.toarray()
    times, found = [], {}
    for _ in range(repeats + 1):
        times.append({})
        for name, call in calls.items():
            start = CLOCKS[clock]()
            found[name] = call()
            times[-1][name] = CLOCKS[clock]() - start
    times = pd.DataFrame(times[1:])
    times["scikit-learn"] *= n / min(n, 200)

    def objective(codes):
        z = torch.as_tensor(codes).double()
        error = x[: len(z)].double() - z @ D.double().T
        return float(0.5 * error.square().sum() + lam * z.abs().sum())

    ours = objective(found["pudle"])
    excess = [objective(found["scikit-learn"]) / objective(found["pudle"][:200]) - 1]
    excess += [objective(found["SPAMS"]) / ours - 1] if spams else []
    return {
        "n, m, p, s, δ": ", ".join(map(str, case[:5])),
        "type": str(dtype).removeprefix("torch."),
        **{f"{name} s": times[name].median() for name in calls},
        **{f"{name} / pudle": (times[name] / times.pudle).median() for name in calls if name not in ("pudle", "start")},
        "excess": max(excess, key=abs),
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.set_defaults(threads=1, clock="processor")
    parser.add_argument("--only", default="", help="measure only cases whose sizes contain this text")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", module="sklearn")
    with computing_on(options):
        rows = [
            measure(case, dtype, options.threads, options.repeats, options.clock)
            for case in (TOY if options.toy else CASES)
            if options.only in " ".join(map(str, case))
            for dtype in (torch.float64, torch.float32)
        ]
    table = pd.DataFrame(rows)
    print(table.to_markdown(index=False, floatfmt=".2g"))
    table.assign(threads=options.threads).to_csv(output(__file__, options.toy, ".csv"), index=False)


if __name__ == "__main__":
    main()
