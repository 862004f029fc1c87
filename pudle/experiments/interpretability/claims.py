"""What the paper says of the relation between a dictionary, its outputs and the training set."""

import pandas as pd

from pudle.harness.verdicts import Claim, final, select

_PLACE = "Section 4, interpretability"


def _deepest(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows.n_layers == rows.n_layers.max()] if len(rows) else rows


def _shallowest(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows.n_layers == rows.n_layers.min()] if len(rows) else rows


def _of_seed(rows: pd.DataFrame, quantity: str, **where) -> pd.Series:
    return select(rows, quantity, **where).groupby("seed").value.mean()


def _residual(rows: pd.DataFrame) -> pd.Series:
    return final(rows, "relation_residual", by="quantity")["relation_residual"]


def _early(rows: pd.DataFrame) -> pd.Series:
    chosen = select(rows, "relation_residual")
    return chosen[(chosen.step > 0) & (chosen.step <= 0.1 * chosen.step.max())].groupby("seed").value.min()


def _over_chance(rows: pd.DataFrame, codes: str = "raw") -> pd.Series:
    return _of_seed(rows, "purity", codes=codes) / _of_seed(rows, "chance")


def _moved(rows: pd.DataFrame) -> pd.Series:
    return _of_seed(rows, "moved_top") / _of_seed(rows, "moved_random")


_DEEP, _SHALLOW = "at the largest number of layers", "at the smallest number of layers"

CLAIMS = (
    Claim(
        id="relation-holds",
        kind="ours",
        statement="Trained with weight decay, the dictionary is the weighted sum of training images that the relation says "
        f"({_DEEP}, where the codes have converged).",
        place=_PLACE,
        effect="‖D − XᵀC‖ / ‖D‖ after training",
        estimate=lambda rows: _residual(_deepest(rows)),
        below=0.01,
        ratio=True,
        why="one per cent, fixed with the question",
        rows="relation_residual after the last epoch, largest T",
        figure="relation",
    ),
    Claim(
        id="relation-holds-few-layers",
        kind="ours",
        statement=f"The same {_SHALLOW}: the paper's 15.",
        place=_PLACE,
        effect="‖D − XᵀC‖ / ‖D‖ after training",
        estimate=lambda rows: _residual(_shallowest(rows)),
        below=0.01,
        ratio=True,
        why="one per cent, fixed with the question; back-propagation through codes that have not converged leaves a term over",
        rows="relation_residual after the last epoch, smallest T",
        figure="relation",
    ),
    Claim(
        id="relation-needs-convergence",
        kind="ours",
        statement="Early in training the relation does not hold.",
        place=_PLACE,
        effect="smallest ‖D − XᵀC‖ / ‖D‖ within the first tenth of training",
        estimate=lambda rows: _early(_deepest(rows)),
        above=0.01,
        ratio=True,
        why="the threshold of relation-holds",
        rows="relation_residual, largest T, first tenth of the epochs",
        figure="relation",
    ),
    Claim(
        id="outputs-from-contributions",
        kind="ours",
        statement="The sum of training images weighted by β is the decoder's output.",
        place=_PLACE,
        effect="‖Xᵀβ − Dz‖ / ‖Dz‖ over the test images, D as trained",
        estimate=lambda rows: _of_seed(_deepest(rows), "output_gap"),
        below=1e-4,
        ratio=True,
        why="fixed with the question; an identity for the D that the relation gives, and as exact as the relation for a trained one",
        rows="output_gap, largest T",
        figure="relation",
    ),
    Claim(
        id="contributors-share-the-class",
        kind="ours",
        statement="The ten training images that contribute most to an output are of its class, far above chance.",
        place=_PLACE,
        effect="their share of the class of the test image, over that of chance",
        estimate=lambda rows: _over_chance(_shallowest(rows)),
        above=2,
        ratio=True,
        why="at least twice chance is called far above",
        rows="purity of raw codes, and chance, smallest T",
        figure="purity",
    ),
    Claim(
        id="few-contributors-carry-most",
        kind="ours",
        statement="A few per cent of the training images carry most of an output's β.",
        place=_PLACE,
        effect="share of Σ|β| that the largest 5 % of |β| carry",
        estimate=lambda rows: _of_seed(_shallowest(rows), "mass", codes="raw"),
        above=0.5,
        why="most is more than half; a few per cent are five",
        rows="mass of raw codes, smallest T",
        figure="beta_histogram",
        uncontrolled="it is CONTRADICTED with nothing spoiled, and shuffled codes change little; no size tried supports it",
    ),
    Claim(
        id="top-contributors-matter",
        kind="ours",
        statement="Without its top contributors an atom changes more than without as many images at random.",
        place=_PLACE,
        effect="relative change of the ten most used atoms without their top 5 %, over that without a random 5 %",
        estimate=lambda rows: _moved(_shallowest(rows)),
        above=1,
        ratio=True,
        why="equal changes give 1",
        rows="moved_top and moved_random, mean over atoms, smallest T",
        figure="removal",
    ),
)
