"""What the paper says of stability."""

import pandas as pd

from pudle.analysis.claim import Claim, NotRun, select

_PLACE = "Section 4, stability of back-propagation"


def _norms(rows: pd.DataFrame, share: str) -> pd.DataFrame:
    """‖g‖/‖g*‖ for soft ISTA at the deepest T, smallest or largest share of the step: seeds (rows), gradients (columns)."""
    chosen = select(rows, "norm", thresholding="soft", accelerations="none").astype({"share": float})
    chosen = chosen[(chosen.step == chosen.step.max()) & (chosen.share == getattr(chosen.share, share)())]
    return chosen.pivot(index="seed", columns="gradient", values="value")


def _truncated(rows: pd.DataFrame) -> pd.Series:
    chosen = select(rows, "norm", thresholding="soft", accelerations="none").astype({"share": float})
    table = chosen.pivot(index=["seed", "step", "share"], columns="gradient", values="value")
    cut = [name for name in table if "last" in name]
    exploding = table[table["ae-ls"] > 100].dropna(subset=cut)
    if not cut or not len(exploding):
        raise NotRun("full back-propagation explodes nowhere on this grid")
    return exploding[cut].min(axis=1).groupby("seed").min()


def _trained(rows: pd.DataFrame) -> pd.Series:
    chosen = select(rows, "error_after_training", thresholding="soft", accelerations="none").astype({"share": float})
    chosen = chosen[chosen.share < 1]
    if not len(chosen):
        raise NotRun("no step size below 2 / ‖D‖² on this grid")
    return chosen.groupby("seed").value.max()


CLAIMS = (
    Claim(
        id="stable-below-the-bound",
        kind="theory",
        statement="With steps below 2/‖D‖² full back-propagation through soft ISTA layers stays bounded at any depth.",
        place=f"{_PLACE}: no layer with such a step expands a distance",
        effect="‖g‖ / ‖g*‖ of ae-ls, largest over depths and steps below 2/‖D‖²",
        estimate=lambda rows: (
            select(rows, "norm", thresholding="soft", accelerations="none", gradient="ae-ls")
            .astype({"share": float})
            .query("share < 1")
            .groupby("seed")
            .value.max()
        ),
        below=10,
        ratio=True,
        why="one order of magnitude above the direction to follow is called bounded",
        rows="norm of ae-ls, soft, no acceleration, all T, steps below the bound",
        figure="stability",
    ),
    Claim(
        id="explodes-beyond-the-bound",
        kind="theory",
        statement="With a step well beyond 2/‖D‖² it explodes.",
        place=f"{_PLACE}: a layer with such a step expands where enough atoms are in use, and layers multiply",
        effect="‖g‖ / ‖g*‖ of ae-ls at the largest depth and step",
        estimate=lambda rows: _norms(rows, "max")["ae-ls"],
        above=100,
        ratio=True,
        why="two orders of magnitude above the direction to follow is called exploding",
        rows="norm of ae-ls, soft, no acceleration, largest T and step",
        figure="stability",
    ),
    Claim(
        id="truncation-bounds-gradient",
        kind="ours",
        statement="Truncating back-propagation to the last layers bounds the gradient there.",
        place="nobody states it of steps beyond 2/‖D‖², where it is tried here: the paper changes step and loss",
        effect="‖g‖ / ‖g*‖ of ae-ls through the last layers only, where through all it is above 100; smallest over those",
        estimate=_truncated,
        below=10,
        ratio=True,
        why="bounded as above",
        rows="norm of truncated ae-ls, soft, no acceleration, all T and steps where that of ae-ls is above 100",
        figure="stability",
        uncontrolled="it does not hold in the uncorrupted experiment, at any size: where soft ISTA's gradient explodes, its codes do too",
    ),
    Claim(
        id="trainings-converge-below-the-bound",
        kind="theory",
        statement="With steps below 2/‖D‖² no training diverges: each comes closer to the truth.",
        place=f"{_PLACE}, and of learning, from a start near the truth with a small rate",
        effect="error of the dictionary after a short training over that before, soft ISTA, largest over gradients and steps below 2/‖D‖²",
        estimate=_trained,
        below=1,
        ratio=True,
        why="1 is where it began",
        rows="error_after_training, soft, no acceleration, all gradients, steps below the bound",
        figure="training",
    ),
)
