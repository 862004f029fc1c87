"""The theory's claims about the Jacobian of the codes."""

import numpy as np
import pandas as pd

from pudle.analysis.claim import Claim, select


def _samples(rows: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """The values of ``quantity`` for each seed (rows) and each sample (columns)."""
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
        effect="‖J_T − J*‖ divided by ‖J_t − J*‖ at the layer t where the support settles, geometric mean over samples that settle",
        estimate=_settling,
        below=0.1,
        ratio=True,
        why="the distance converges to 0, so that after enough layers it is below any share of its value at settling; we require 0.1",
        rows="at_end and at_settling",
        figure="settling",
    ),
    Claim(
        id="jacobian-not-before",
        kind="ours",
        statement="When the support settles, the Jacobian has not converged yet.",
        place=f"no publication gives a number; {_PLACE}, prove the convergence after the support settles",
        effect="‖J_t − J*‖ / ‖J*‖ at the layer where the support settles, mean over samples",
        estimate=lambda rows: _samples(rows, "at_settling").mean(axis=1),
        above=0.1,
        why="the same 0.1, here of ‖J*‖",
        rows="at_settling",
        figure="settling",
    ),
    Claim(
        id="jacobian-rate-as-predicted",
        kind="theory",
        statement="After the support settles, the Jacobian converges at least as fast as the contraction on the support predicts.",
        place=f"{_PLACE}, for samples whose support settles, with D_S of full rank",
        effect="measured factor by which ‖J_t − J*‖ changes per layer divided by ρ, largest over samples",
        estimate=lambda rows: (_samples(rows, "rate") / _samples(rows, "predicted_rate")).max(axis=1),
        below=1.01,
        ratio=True,
        why="ρ bounds the rate of each sample; 1 % allows for the term of the order t ρᵗ that arises while the codes still converge",
        rows="rate and predicted_rate of samples that settle more than ten layers before the last and do not reach rounding errors",
        figure="error",
    ),
    Claim(
        id="code-rate-as-predicted",
        kind="theory",
        statement="On their final support the codes converge to the lasso's at least as fast as the contraction there predicts.",
        place="Section 4, theory of the forward pass, once the codes have the support of the lasso's codes",
        effect="measured factor by which ‖z_t − ẑ‖ changes per layer once the support has settled, divided by ρ, largest over samples",
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
        place="no publication states this; Malézieux et al. (2022) truncate for stability, and the paper changes step size and loss",
        effect="‖J_T − J*‖ of the best truncation divided by that of the full Jacobian, over samples that settle",
        estimate=_truncated,
        above=2,
        ratio=True,
        why="equal distances give 1; a factor of 2 is clearly above that",
        rows="jacobian_error after the last layer",
        figure="error",
    ),
)
