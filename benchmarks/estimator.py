"""Lasso objective over learning time, for the estimator's three gradients and scikit-learn's MiniBatchDictionaryLearning.

    python benchmarks/estimator.py [--seconds 15] [--toy]

The objective is the mean of ½‖x − Dz‖² + λ‖z‖₁ over 1 000 of the samples, at the lasso's codes, for all models regardless of their losses. All
models start from the same atoms, which are samples, and use batches of 256; other settings have their defaults. Time is CPU seconds of
learning in one thread, without compiling and loading. The data are scikit-learn's digits, centred, with 64 atoms, and 10 000 patches of 8 x 8
pixels of a photograph (scikit-image's camera), with 100 atoms; patches have mean 0 and are divided by their standard deviation. The table and
the curves are written to benchmarks/out/estimator.csv and estimator.png.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import cycle

import numpy as np
import pandas as pd
import torch
from measuring import output
from skimage import data
from sklearn.datasets import load_digits
from sklearn.decomposition import MiniBatchDictionaryLearning
from sklearn.feature_extraction.image import extract_patches_2d
from threadpoolctl import threadpool_limits

import pudle
from pudle.analysis import style
from pudle.core.gradients import ESTIMATORS

THEIRS = "scikit-learn"
PATCHES = 10_000


def data_sets() -> dict[str, tuple[np.ndarray, float, int]]:
    """Samples, λ and number of atoms of each data set."""
    digits = load_digits().data / 16
    patches = extract_patches_2d(data.camera() / 255, (8, 8), max_patches=PATCHES, random_state=0).reshape(PATCHES, -1)
    patches -= patches.mean(axis=1, keepdims=True)
    return {"digits": (digits - digits.mean(axis=0), 0.2, 64), "patches": (patches / patches.std(), 1.0, 100)}


def objective(x: np.ndarray, atoms: np.ndarray, lam: float) -> float:
    """Mean ½‖x − Dz‖² + λ‖z‖₁ of samples ``x`` (n, m) at the lasso's codes in ``atoms`` (p, m)."""
    codes = pudle.lasso(torch.from_numpy(x), torch.from_numpy(atoms.T.copy()), lam).numpy()
    return float(np.square(x - codes @ atoms).sum() / 2 + lam * np.abs(codes).sum()) / len(x)


def learners(x: np.ndarray, lam: float, n_atoms: int) -> Iterator[tuple[str, object, Callable]]:
    """Name and model of each learner, and a function that makes one pass over the samples or learns from one batch.

    All learners start from the same atoms.
    """
    draw = np.random.default_rng(0)
    order = draw.permutation(len(x))
    start = x[draw.choice(len(x), n_atoms, replace=False)] + 1e-3 * x.std() * draw.standard_normal((n_atoms, x.shape[1]))
    start /= np.linalg.norm(start, axis=1, keepdims=True)
    for name in ESTIMATORS:
        model = pudle.UnrolledDictionaryLearning(n_atoms, estimator=name, lam=lam, dict_init=start, random_state=0)
        yield name, model, lambda model=model: model.partial_fit(x)
    model = MiniBatchDictionaryLearning(n_atoms, alpha=lam, dict_init=start, random_state=0)
    batches = cycle(np.array_split(order, -(-len(x) // 256)))
    yield THEIRS, model, lambda: model.partial_fit(x[next(batches)])


def curve(x: np.ndarray, lam: float, model: object, learn: Callable, seconds: float) -> Iterator[dict]:
    """Objective after the first call of ``learn`` and each time its total time has grown by a quarter, until this exceeds ``seconds``."""
    spent, due = 0.0, 0.0
    while not due or spent < seconds:
        before = time.process_time()
        learn()
        spent += time.process_time() - before
        if spent >= min(due, seconds):
            due = 1.25 * spent
            yield {"seconds": spent, "objective": objective(x[:1000], model.components_, lam)}


def curves(x: np.ndarray, lam: float, n_atoms: int, seconds: float) -> pd.DataFrame:
    """The curves of all models, with rows of model, seconds and objective."""
    x, rows = np.random.default_rng(1).permutation(x), []
    for name, model, learn in learners(x, lam, n_atoms):
        rows += [{"model": name} | row for row in curve(x, lam, model, learn, seconds)]
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--toy", action="store_true", help="use 300 samples of each data set, as a quick test")
    options = parser.parse_args()
    n_samples, seconds = (300, 0.05) if options.toy else (None, options.seconds)
    warnings.simplefilter("ignore", RuntimeWarning)  # of scikit-learn about ill-conditioned codes
    torch.set_num_threads(1)
    tables = []
    with threadpool_limits(1):
        for name, (x, lam, n_atoms) in data_sets().items():
            curves(x[:500], lam, n_atoms, 0)  # loads compiled loops
            tables.append(curves(x[:n_samples], lam, n_atoms, seconds).assign(data=name))
    table = pd.concat(tables, ignore_index=True)
    table.to_csv(output(__file__, options.toy, ".csv"), index=False)
    last = table.groupby(["data", "model"], sort=False).last()
    least = last.objective.groupby("data").min()
    last["within 1 % after"] = [
        found.seconds.min()
        for key, rows in table.groupby(["data", "model"], sort=False)
        for found in [rows[rows.objective <= 1.01 * least[key[0]]]]
    ]
    print(last.to_markdown(floatfmt=".4g"))
    style.plain_matplotlib()
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(least), figsize=(10, 3.5), layout="constrained")
    for axis, (name, group) in zip(axes, table.groupby("data", sort=False), strict=True):
        for model, rows in group.groupby("model", sort=False):
            axis.plot(rows.seconds, rows.objective, "k--" if model == THEIRS else "-", label=model)
        axis.set(xscale="log", xlabel="seconds of learning", ylabel="lasso objective", title=name)
        axis.legend()
    figure.savefig(output(__file__, options.toy, ".png"), dpi=110)


if __name__ == "__main__":
    main()
