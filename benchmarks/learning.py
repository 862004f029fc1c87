"""Lasso objective over learning time: the estimator's four ways to learn, scikit-learn's MiniBatchDictionaryLearning and SPAMS's trainDL.

    python benchmarks/learning.py [--seconds 10] [--threads 2] [--clock processor] [--only digits] [--toy]

SPAMS is measured if it can be imported (pip install spams-bin). The objective is the mean of ½‖x − Dz‖² + λ‖z‖₁ over about 1 000 of the
samples, at the lasso's codes, for all models regardless of their losses. All models start from the same atoms and use batches of 256 samples,
each in its own order; other settings have their defaults. Models alternate: the one that has used the least time is next, so that other work
on the machine slows all of them equally. Time is that of learning, without compiling and loading. SPAMS and "lasso", whose `fit` keeps the
codes of all samples, start again for each point of their curves, with 1, 2, 3, 4, 6, 8, … iterations or passes. The data are scikit-learn's
digits, centred; 20 000 patches of 8 x 8 pixels of scikit-image's camera, with mean 0 and divided by their standard deviation; and synthetic
samples, for which the error of the dictionary is measured as well.
The table, with wall-clock and CPU seconds, is written to benchmarks/out/learning.csv, and the curves to learning.png.
"""

import argparse
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count, cycle
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from measuring import CLOCKS, Toy, output
from skimage import data
from sklearn.datasets import load_digits
from sklearn.decomposition import MiniBatchDictionaryLearning
from sklearn.feature_extraction.image import extract_patches_2d
from threadpoolctl import threadpool_limits

import pudle
from pudle.analysis import style
from pudle.core.gradients import ESTIMATORS

try:
    import spams
except ImportError:
    spams = None

THEIRS = "scikit-learn"
BATCH = 256
AT = (1, 2, 5, 10)  # times in seconds at which the table shows the objective


class Problem(NamedTuple):
    """Samples x (n, m), λ, initial atoms (p, m) and, if they are known, the true atoms (p, m)."""

    x: np.ndarray
    lam: float
    start: np.ndarray
    truth: np.ndarray | None = None


def problems(toy: bool) -> dict[str, Problem]:
    """The data sets by name; with ``toy`` they have one sample in 40."""
    share = 40 if toy else 1
    digits = load_digits().data / 16
    n_patches = 20_000 // share
    patches = extract_patches_2d(data.camera() / 255, (8, 8), max_patches=n_patches, random_state=0).reshape(n_patches, -1)
    patches -= patches.mean(axis=1, keepdims=True)
    made = pudle.make_sparse_data(10_000 // share, 50, 100, 5, seed=0, noise=0.01, dtype=torch.float64)
    near = pudle.perturb_dictionary(made.dictionary, 0.1, seed=0)
    return {
        "digits": _drawn((digits - digits.mean(axis=0))[::share], 0.2, 64 if not toy else 16),
        "patches, 100 atoms": _drawn(patches / patches.std(), 0.36, 100),
        "patches, 256 atoms": _drawn(patches / patches.std(), 0.36, 256),
        "synthetic": Problem(made.x.numpy(), 0.2, near.T.numpy(), made.dictionary.T.numpy()),
    }


def _drawn(x: np.ndarray, lam: float, n_atoms: int) -> Problem:
    """A problem whose initial atoms are samples with slight noise, so that none is 0."""
    draw = np.random.default_rng(0)
    x = draw.permutation(x)
    start = x[draw.choice(len(x), n_atoms, replace=False)] + 1e-3 * x.std() * draw.standard_normal((n_atoms, x.shape[1]))
    return Problem(x, lam, start / np.linalg.norm(start, axis=1, keepdims=True))


def learners(problem: Problem, threads: int) -> dict[str, Iterator[Callable[[], tuple[np.ndarray, bool]]]]:
    """For each model, functions to call one after the other. A call learns, and returns the atoms and whether learning started again."""
    x, lam, start, _ = problem
    settings = {"lam": lam, "batch_size": BATCH, "dict_init": start, "random_state": 0}
    ours = {name: pudle.UnrolledDictionaryLearning(len(start), estimator=name, **settings) for name in ESTIMATORS}
    theirs = MiniBatchDictionaryLearning(len(start), alpha=lam, batch_size=BATCH, dict_init=start, random_state=0)
    exact = pudle.UnrolledDictionaryLearning(len(start), estimator="lasso", tol=0, **settings)
    found = {"lasso": _again(lambda n_passes: exact.set_params(max_iter=n_passes).fit(x).components_)}
    found |= {name: _in_parts(model, x, 4 * BATCH) for name, model in ours.items()}
    found[THEIRS] = _in_parts(theirs, x, BATCH)
    if spams:
        samples, atoms = np.asfortranarray(x.T), np.asfortranarray(start.T)
        options = {"lambda1": lam, "batchsize": BATCH, "numThreads": threads, "verbose": False}
        found["SPAMS"] = _again(lambda n_iter: spams.trainDL(samples, D=atoms.copy(order="F"), iter=n_iter, **options).T)
    return found


def _again(train: Callable[[int], np.ndarray]) -> Iterator[Callable]:
    for length in (round(2 ** (k / 2)) for k in count() if k != 1):
        yield partial(lambda length: (train(length), True), length)


def _in_parts(model, x: np.ndarray, size: int) -> Iterator[Callable]:
    for part in cycle(np.array_split(x, -(-len(x) // size))):
        yield partial(lambda part: (model.partial_fit(part).components_, False), part)


def objective(x: np.ndarray, atoms: np.ndarray, lam: float) -> float:
    """Mean ½‖x − Dz‖² + λ‖z‖₁ of samples ``x`` (n, m) at the lasso's codes in ``atoms`` (p, m)."""
    codes = pudle.lasso(torch.from_numpy(x), torch.from_numpy(atoms.T.copy()), lam).numpy()
    return float(np.square(x - codes @ atoms).sum() / 2 + lam * np.abs(codes).sum()) / len(x)


def curves(problem: Problem, seconds: float, threads: int, clock: str) -> pd.DataFrame:
    """Rows of model, seconds by each clock, objective and error.

    A model has a row each time its learning time has grown by a fifth, until this exceeds ``seconds``.
    """
    rows, calls = [], learners(problem, threads)
    spent = {name: dict.fromkeys(CLOCKS, 0.0) for name in calls}  # time spent on the current dictionary
    used, due = dict.fromkeys(calls, 0.0), dict.fromkeys(calls, 0.0)  # total time, and time of the next row
    while calls:
        name = min(calls, key=used.get)
        call = next(calls[name])
        before = {kind: now() for kind, now in CLOCKS.items()}
        atoms, restarted = call()
        passed = {kind: now() - before[kind] for kind, now in CLOCKS.items()}
        spent[name] = passed if restarted else {kind: spent[name][kind] + passed[kind] for kind in CLOCKS}
        used[name] += passed[clock]
        here = spent[name][clock]
        if here >= min(due[name], seconds):
            due[name] = 1.2 * here
            error = np.nan
            if problem.truth is not None:
                error = pudle.dictionary_error(*(torch.from_numpy(a.T.copy()) for a in (atoms, problem.truth)))
            # samples from the entire set, since models fit the samples of recent batches best
            some = problem.x[:: max(1, len(problem.x) // 1000)]
            row = {"objective": objective(some, atoms, problem.lam), "error": float(error)}
            rows.append({"model": name, **{f"{kind} s": spent[name][kind] for kind in CLOCKS}, **row})
        if here >= seconds:
            del calls[name]
    order = {name: place for place, name in enumerate(used)}
    return pd.DataFrame(rows).sort_values("model", key=lambda names: names.map(order), kind="stable")


def table_of(curves: pd.DataFrame, at: tuple[float, ...], clock: str) -> pd.DataFrame:
    """The objective of each model's last dictionary before each of the times ``at`` in seconds; empty before its first dictionary."""
    rows = []
    for (name, model), group in curves.groupby(["data", "model"], sort=False):
        by_then = {f"{s:g} s": group[group[f"{clock} s"] <= s].objective for s in at}
        last = group.iloc[-1]
        values = {when: values.iloc[-1] if len(values) else np.nan for when, values in by_then.items()}
        rows.append({"data": name, "model": model, **values, "error of D at the end": last.error})
    return pd.DataFrame(rows)


def draw(curves: pd.DataFrame, clock: str, path: Path) -> None:
    sets = list(curves.groupby("data", sort=False))
    style.plain_matplotlib()
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(sets), figsize=(4 * len(sets), 3.5), layout="constrained", squeeze=False)
    for axis, (name, group) in zip(axes[0], sets, strict=True):
        for model, rows in group.groupby("model", sort=False):
            axis.plot(rows[f"{clock} s"], rows.objective, {THEIRS: "k--", "SPAMS": "k:"}.get(model, "-"), label=model)
        axis.set(xscale="log", xlabel=f"seconds of learning ({clock} clock)", title=name)
    axes[0, 0].set_ylabel("lasso objective")
    axes[0, -1].legend(loc="upper right")  # its curves leave room there
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=max(AT))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=[*CLOCKS], default="wall", help="processor: CPU seconds, summed over threads")
    parser.add_argument("--toy", action=Toy, nargs=0, default=False, help="use one sample in 40, as a quick test")
    parser.add_argument("--only", default="", help="use only data sets whose name contains this text")
    options = parser.parse_args()
    warnings.simplefilter("ignore", RuntimeWarning)  # of scikit-learn about ill-conditioned codes
    seconds = 0.05 if options.toy else options.seconds
    found = []
    torch.set_num_threads(options.threads)
    with threadpool_limits(options.threads):
        for name, problem in problems(options.toy).items():
            if options.only in name:
                if not options.toy:  # load compiled loops
                    curves(problem._replace(x=problem.x[:500]), 0, options.threads, options.clock)
                found.append(curves(problem, seconds, options.threads, options.clock).assign(data=name))
    table = pd.concat(found, ignore_index=True)
    table.to_csv(output(__file__, options.toy, ".csv"), index=False)
    at = [s * seconds / max(AT) for s in AT]
    print(f"{options.threads} threads, {options.clock} clock\n")
    print(table_of(table, at, options.clock).to_markdown(index=False, floatfmt=".4g"))
    draw(table, options.clock, output(__file__, options.toy, ".png"))


if __name__ == "__main__":
    main()
