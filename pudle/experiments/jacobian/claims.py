"""What theory says of the codes' Jacobian."""

import numpy as np
import pandas as pd

from pudle.analysis.claim import Claim, select


def _samples(rows: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Values for each seed (rows) and sample (columns)."""
    return select(rows, quantity).pivot(index="seed", columns="step", values="value")


def _settling(rows: pd.DataFrame) -> pd.Series:
    fall = np.log(_samples(rows, "at_end").clip(lower=1e-15) / _samples(rows, "at_settling").clip(lower=1e-15))
    return np.exp(fall.mean(axis=1))


def _truncated(rows: pd.DataFrame) -> pd.Series:
    last = select(rows, "jacobian_error").query("step == step.max()").pivot(index="seed", columns="group", values="value")
    depths = [group for group in last if group.startswith("last ")]
    return last[depths].min(axis=1) / last["settled"]


_PLACE = "Section 4, theory of back-propagation; Malézieux et al. (2022)"

CLAIMS = (
    Claim(
        id="jacobian-converges-after-settling",
        kind="theory",
        statement="Once a sample's support is fixed, the Jacobian of its codes converges to the lasso's.",
        place=f"{_PLACE}, for samples whose support settles, with D_S of full rank",
        effect="‖J_T − J*‖ over ‖J_t − J*‖ at the layer t where the support settles, geometric mean over samples that settle",
        estimate=_settling,
        below=0.1,
        ratio=True,
        why="the distance goes to 0, in the layers that are left far below any share of it; a tenth is asked",
        rows="at_end and at_settling",
        figure="settling",
    ),
    Claim(
        id="jacobian-not-before",
        kind="ours",
        statement="When the support settles, the Jacobian has not converged yet.",
        place=f"nobody gives a number for it: {_PLACE}, have the convergence that follows",
        effect="‖J_t − J*‖ / ‖J*‖ at the layer where the support settles, mean over samples",
        estimate=lambda rows: _samples(rows, "at_settling").mean(axis=1),
        above=0.1,
        why="the same tenth, of ‖J*‖",
        rows="at_settling",
        figure="settling",
    ),
    Claim(
        id="jacobian-rate-as-predicted",
        kind="theory",
        statement="Then it falls at least as fast as the contraction on the support predicts.",
        place=f"{_PLACE}, for samples whose support settles, with D_S of full rank",
        effect="measured fall of ‖J_t − J*‖ a layer over ρ, largest over samples",
        estimate=lambda rows: (_samples(rows, "rate") / _samples(rows, "predicted_rate")).max(axis=1),
        below=1.01,
        ratio=True,
        why="ρ bounds the rate of each sample; one per cent for the polynomial factor t ρᵗ that moving codes add",
        rows="rate and predicted_rate of samples that settle more than ten layers before the last and do not end at rounding",
        figure="error",
    ),
    Claim(
        id="code-rate-as-predicted",
        kind="theory",
        statement="On their final support the codes converge to the lasso's at least as fast as the contraction there predicts.",
        place="Section 4, theory of the forward pass, once the support of the codes is that of the lasso's",
        effect="measured fall of ‖z_t − ẑ‖ a layer, once the support is settled, over ρ, largest over samples",
        estimate=lambda rows: (_samples(rows, "code_rate") / _samples(rows, "predicted_rate")).max(axis=1),
        below=1.0001,
        ratio=True,
        why="ρ bounds the rate of each sample, up to the rounding of the lasso's codes",
        rows="code_rate and predicted_rate of the same samples",
        figure="settling",
    ),
    Claim(
        id="truncated-jacobian-stays-off",
        kind="ours",
        statement="A Jacobian truncated to the last layers ends at least twice as far from the lasso's as the full one.",
        place="nobody states it: Malézieux et al. (2022) truncate for stability, and the paper changes step and loss",
        effect="‖J_T − J*‖ of the best truncation over that of the full Jacobian, samples that settle",
        estimate=_truncated,
        above=2,
        ratio=True,
        why="equal distances give 1, and twice is clear of that",
        rows="jacobian_error after the last layer",
        figure="error",
    ),
)
