"""Time of an update over n, p, s and T: medians, and exponents of power laws fitted to them.

    python benchmarks/scaling.py [--threads 2] [--device cuda] [--repeats 5] [--toy]

One size varies at a time around the experiment `learning`, and m is always p / 2. The exponent is the slope of ln(time) over ln(size). The
table also shows the mean number of non-zeros of a code over layers and samples, which determines the amount of work. Tables and the plot are
written to benchmarks/out/scaling.csv and scaling.png.
"""

import numpy as np
import pandas as pd
import torch
from measuring import arguments, computing_on, output, timed

import pudle
from pudle.analysis import style
from pudle.core.gradients import ESTIMATORS, unrolled_gradient
from pudle.core.unrolling import Unrolling

CENTRE = {"n": 4000, "p": 100, "s": 5, "T": 100}
RANGES = {"n": [1000, 2000, 4000, 8000, 16000], "p": [50, 100, 200, 400, 800], "s": [2, 4, 8, 16], "T": [25, 50, 100, 200]}
TOY = {"n": 40, "p": 20, "s": 2, "T": 5}, {"n": [40, 80], "p": [20, 40], "s": [2, 4], "T": [5, 10]}


def measure(n: int, p: int, s: int, T: int, repeats: int, clock: str) -> dict:
    """The median time of each estimator's update in seconds, and the mean number of non-zeros of the codes in all layers."""
    data = pudle.make_sparse_data(n, p // 2, p, s, seed=0)
    dictionary = pudle.perturb_dictionary(data.dictionary, 0.7 / np.sqrt(p // 2), seed=0)  # relative error 0.61 for every m
    unrolling = Unrolling(lam=0.2, step=0.2, n_layers=T)
    times = {}
    for estimator in ESTIMATORS:
        unrolled_gradient(data.x[:2], dictionary, estimator, unrolling)  # loads compiled loops
        times[estimator] = np.median(
            [timed(lambda: unrolled_gradient(data.x, dictionary, estimator, unrolling), clock) for _ in range(repeats)]  # noqa: B023
        )
    codes, active = torch.zeros(min(n, 1000), p), []
    for t in range(T):
        x = data.x[: len(codes)]
        codes = unrolling.shrink(codes - unrolling.step * ((codes @ dictionary.T - x) @ dictionary), t)
        active.append(float(codes.count_nonzero()) / len(codes))
    return times | {"active": np.mean(active)}


def main() -> None:
    options = arguments(__doc__).parse_args()
    centre, ranges = TOY if options.toy else (CENTRE, RANGES)
    with computing_on(options):
        rows = [
            {"varies": name, "size": size} | measure(**centre | {name: size}, repeats=options.repeats, clock=options.clock)
            for name, sizes in ranges.items()
            for size in sizes
        ]
    table = pd.DataFrame(rows)
    table.to_csv(output(__file__, options.toy, ".csv"), index=False)
    print(table.to_markdown(index=False, floatfmt=".3g"), "\n")
    exponents = {
        name: {what: np.polyfit(np.log(group["size"]), np.log(group[what]), 1)[0] for what in (*ESTIMATORS, "active")}
        for name, group in table.groupby("varies", sort=False)
    }
    print(pd.DataFrame(exponents).T.rename_axis("exponent in").to_markdown(floatfmt=".2f"))
    style.plain_matplotlib()
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(ranges), figsize=(12, 3), sharey=True, layout="constrained")
    for axis, (name, group) in zip(axes, table.groupby("varies", sort=False), strict=True):
        for estimator in ESTIMATORS:
            axis.loglog(group["size"], 1e3 * group[estimator], "o-", label=f"{estimator}: {exponents[name][estimator]:.2f}")
        axis.set_xlabel(name)
        axis.legend(title="exponent", fontsize="small")
    axes[0].set_ylabel("time of an update (ms)")
    figure.savefig(output(__file__, options.toy, ".png"), dpi=150)


if __name__ == "__main__":
    main()
