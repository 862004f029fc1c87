"""The bias of codes: over all samples, and over those whose codes have the true support."""

import pandas as pd
import pytest
import torch

from pudle import experiments
from pudle.experiments.bias import run as bias


def test_the_error_on_the_support_leaves_out_samples_with_another_support():
    true = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
    codes = torch.tensor([[1.5, 0.0], [1.0, 2.0], [4.0, 0.0]])  # the second sample has one more entry
    found = bias._errors(codes, true)
    assert {name: float(value) for name, value in found.items()} == pytest.approx(
        {"code_error": 2.5 / 3, "code_error_on_support": 0.75, "on_support": 2 / 3}
    )
    assert "code_error_on_support" not in bias._errors(torch.zeros(3, 2), true)


def test_the_bias_is_not_judged_at_a_smaller_lam_where_no_sample_keeps_its_support():
    rows = pd.DataFrame(
        [
            {"forward": forward, "learner": "codes", "lam": lam, "seed": 0, "step": 0, "quantity": quantity, "value": 1e-3}
            for forward in ("fixed", "hard")
            for lam in (0.1, 0.4)
            for quantity in ("code_error", "code_error_on_support")
            if (lam, quantity) != (0.4, "code_error_on_support")
        ]
    )
    (claim,) = (claim for claim in experiments.get("bias").claims if claim.id == "code-bias-vanishes-hard")
    assert claim.estimate(rows).isna().all()
