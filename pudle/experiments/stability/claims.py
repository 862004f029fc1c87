"""The paper's and the theory's claims about the stability of back-propagation."""

import pandas as pd

from pudle.analysis.claim import Claim, NotRun, select

_PLACE = "Section 4, stability of back-propagation"


def _norms(rows: pd.DataFrame, share: str) -> pd.DataFrame:
    """‖g‖ / ‖g*‖ for soft ISTA at the largest T, for each seed (rows) and gradient (columns).

    share : "min" for the smallest step, "max" for the largest
    """
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
        place=f"{_PLACE}; a layer with such a step does not increase distances",
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
        why="we call a gradient of up to ten times the norm of g* bounded",
        rows="norm of ae-ls through soft layers without acceleration, at every T and every step below the bound",
        figure="stability",
    ),
    Claim(
        id="explodes-beyond-the-bound",
        kind="theory",
        statement="With a step well above 2/‖D‖² full back-propagation through soft ISTA layers explodes.",
        place=f"{_PLACE}; a layer with such a step increases distances where enough atoms are in use, and the factors of the layers multiply",
        effect="‖g‖ / ‖g*‖ of ae-ls at the largest depth and step",
        estimate=lambda rows: _norms(rows, "max")["ae-ls"],
        above=100,
        ratio=True,
        why="we call a gradient of more than a hundred times the norm of g* exploding",
        rows="norm of ae-ls through soft layers without acceleration, at the largest T and step",
        figure="stability",
    ),
    Claim(
        id="truncation-bounds-gradient",
        kind="ours",
        statement="Where full back-propagation explodes, truncating it to the last layers bounds the gradient.",
        place="no publication states this for steps above 2/‖D‖², which are tested here; the paper changes step size and loss",
        effect="‖g‖ / ‖g*‖ of ae-ls back-propagated through the last layers only, smallest over the settings where full back-propagation "
        "gives more than 100",
        estimate=_truncated,
        below=10,
        ratio=True,
        why="we call a gradient of up to ten times the norm of g* bounded",
        rows="norm of truncated ae-ls through soft layers without acceleration, at every T and step where that of ae-ls is above 100",
        figure="stability",
        uncontrolled="the claim does not hold in the uncorrupted experiment at any size; where the gradient of soft ISTA explodes, its codes "
        "explode too",
    ),
    Claim(
        id="trainings-converge-below-the-bound",
        kind="theory",
        statement="With steps below 2/‖D‖² no training diverges, and each brings the dictionary closer to the truth.",
        place=f"{_PLACE}, and theory of learning, from a start near the truth with a small learning rate",
        effect="error of the dictionary after a short training through soft ISTA layers divided by that before, largest over gradients and "
        "steps below 2/‖D‖²",
        estimate=_trained,
        below=1,
        ratio=True,
        why="an unchanged error gives 1",
        rows="error_after_training through soft layers without acceleration, every gradient, at every step below the bound",
        figure="training",
    ),
)
