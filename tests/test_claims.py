"""Wrong gradients and corrupted data make claims fail; and the statistics behind the verdicts."""

import numpy as np
import pandas as pd
import pytest

from pudle import experiments
from pudle.analysis import comparison
from pudle.analysis.negative_controls import Control, require_power, verdicts
from pudle.analysis.statistics import effect_size, holm, t_interval, t_test
from pudle.errors import PudleError
from pudle.experiments.baselines.claims import CLAIMS as BASELINES
from pudle.experiments.denoising.claims import CLAIMS as DENOISING
from pudle.experiments.learning.claims import CLAIMS as LEARNING
from pudle.experiments.robustness.claims import CLAIMS as ROBUSTNESS
from pudle.experiments.unrolling.claims import CLAIMS as UNROLLING

CONTROLS = [
    pytest.param(experiment, control, id=f"{experiment}-{control.id}")
    for experiment in filter(experiments.has_controls, experiments.EXPERIMENTS)
    for control in experiments.controls(experiment)
]


@pytest.mark.slow
@pytest.mark.parametrize(("experiment", "control"), CONTROLS)
def test_a_control_contradicts_its_claims_and_only_because_it_is_corrupted(experiment, control):
    claims = experiments.get(experiment).claims
    assert {row["verdict"] for row in verdicts(control, claims)} == {"CONTRADICTED"}
    assert "CONTRADICTED" not in {row["verdict"] for row in verdicts(control, claims, corrupt=False)}


class _Planned(Exception):
    """Raised in place of computing cells."""


@pytest.mark.parametrize("corrupt", [False, True])
@pytest.mark.parametrize(("experiment", "control"), CONTROLS)
def test_the_cells_of_a_control_can_be_planned(experiment, control, corrupt, monkeypatch):
    """Fast; the slow test above runs them. Controls give their experiment's ``plan`` a section that is in no configuration."""

    def measure(run, cells, *arguments, **options):
        assert list(cells)
        raise _Planned

    monkeypatch.setattr(f"pudle.experiments.{experiment}.controls.measure", measure)
    with pytest.raises(_Planned):
        control.rows(corrupt)


def test_unrolling_claims_hold_for_the_right_gradients():
    rows = experiments.controls("unrolling")[0].rows(False)
    found = {claim.id: claim.judge(rows)["verdict"] for claim in UNROLLING}
    assert found.pop("ae-lasso-faster-than-codes") == "INCONCLUSIVE"  # equal rates: docs/theory.md says why
    assert set(found.values()) == {"SUPPORTED"}


def test_controls_name_claims_that_are_there():
    for experiment in filter(experiments.has_controls, experiments.EXPERIMENTS):
        ids = {claim.id for claim in experiments.get(experiment).claims}
        for control in experiments.controls(experiment):
            assert control.claims and set(control.claims) <= ids, (experiment, control.id)


def test_every_claim_has_a_control_or_says_why_there_is_none():
    for experiment in experiments.EXPERIMENTS:
        controls = experiments.controls(experiment)
        for claim in experiments.get(experiment).claims:
            controlled = any(claim.id in control.claims for control in controls)
            assert controlled != bool(claim.uncontrolled), (experiment, claim.id)


def test_a_control_that_lets_its_claim_stand_is_an_error():
    blind = Control(
        id="blind",
        claims=("codes-converge",),
        statement="Nothing is corrupted.",
        rows=experiments.controls("unrolling")[0].rows,
    )
    table = pd.DataFrame(verdicts(blind, UNROLLING, corrupt=False))
    with pytest.raises(PudleError, match=r"codes-converge is SUPPORTED with blind \(Nothing is corrupted"):
        require_power("unrolling", table)


def _learned(errors: dict[tuple[int, str], float]) -> pd.DataFrame:
    """Rows of three seeds whose final errors are ``errors``, up to a per cent."""
    return pd.DataFrame(
        [
            {
                "n_layers": n_layers,
                "estimator": estimator,
                "seed": seed,
                "step": step,
                "quantity": "dictionary_error",
                "value": value,
            }
            for (n_layers, estimator), error in errors.items()
            for seed in range(3)
            for step, value in ((0, 0.61), (600, error * (1 + 0.01 * seed)))
        ]
    )


@pytest.mark.parametrize(("swap", "verdict"), [(False, "SUPPORTED"), (True, "CONTRADICTED")])
def test_learning_claims_on_the_published_errors(swap, verdict):
    """PUDLE's own final errors support the claims (where both depths are published); dec and ae-ls swapped contradict the orderings."""
    errors = {
        (25, "dec"): 0.246,
        (25, "ae-lasso"): 0.171,
        (25, "ae-ls"): 0.085,
        (100, "dec"): 0.129,
        (100, "ae-lasso"): 0.129,
        (100, "ae-ls"): 0.0144,
    }
    if swap:
        other = {"dec": "ae-ls", "ae-ls": "dec", "ae-lasso": "ae-lasso"}
        errors = {(n_layers, other[estimator]): value for (n_layers, estimator), value in errors.items()}
    judged = {claim.id: claim.judge(_learned(errors))["verdict"] for claim in LEARNING}
    assert judged["ae-ls-best"] == judged["order-ae-ls-ae-lasso"] == judged["order-ae-lasso-dec"] == verdict
    assert judged["more-layers-help-dec"] == judged["more-layers-help-ae-ls"] == "SUPPORTED"


@pytest.mark.parametrize(("swap", "verdict"), [(False, "SUPPORTED"), (True, "CONTRADICTED")])
def test_robustness_claims_on_the_published_curves(swap, verdict):
    """The ends of the paper's curves support its claims; dec and ae-ls swapped contradict them."""
    ends = comparison.curves().query("experiment == 'robustness'").groupby("where").value.last()
    names = {"pudle-dec": "pudle-ae-ls", "pudle-ae-ls": "pudle-dec"} if swap else {}
    rows = []
    for where, value in ends.items():
        variant, name = (part.partition("=")[2] for part in where.split(";"))
        rows += [
            {"variant": variant, "method_name": names.get(name, name), "seed": seed, "step": step}
            | {"quantity": "dictionary_error", "value": error}
            for seed in range(3)
            for step, error in ((0, 0.61), (100, value * (1 + 0.01 * seed)))
        ]
    judged = {claim.id: claim.judge(pd.DataFrame(rows))["verdict"] for claim in ROBUSTNESS if claim.kind == "paper"}
    assert len(judged) == 5 and set(judged.values()) == {verdict}


def test_a_small_rate_is_said_to_run_at_paper_scale_only():
    rows = _learned({(100, "dec"): 0.1}).assign(variant="rate-1e-2", method_name="pudle-dec")
    judged = next(claim for claim in ROBUSTNESS if claim.id == "ae-ls-best-rate-1e-4").judge(rows)
    assert (judged["verdict"], judged["note"]) == ("NOT RUN", "at paper scale only")


def _denoised(psnr: dict[tuple[str, str, float], float]) -> pd.DataFrame:
    """Rows of three seeds on two data sets: ``psnr`` by estimator, ``lam`` or ``threshold``, and its value; at the last half of training."""
    return pd.DataFrame(
        [
            {"sigma": 25, "estimator": estimator, "lam": "", "threshold": "", key: level, "variant": ""}
            | {"denoiser_name": "", "data_set": data_set, "image": "", "seed": seed, "step": step, "quantity": "psnr"}
            | {"value": value + 0.01 * seed * (estimator == "dec")}
            for (estimator, key, level), value in psnr.items()
            for data_set in ("bsd68", "set12")
            for seed in range(3)
            for step in (500, 1000)
        ]
    )


@pytest.mark.parametrize(("swap", "verdict"), [(False, "SUPPORTED"), (True, "CONTRADICTED")])
def test_denoising_claims_on_the_published_values(swap, verdict):
    """PUDLE's own table supports the claims; dec and ae-ls swapped, or hard and soft thresholds, contradict them."""
    dec, ae_ls = ("ae-ls", "dec") if swap else ("dec", "ae-ls")
    table = {(dec, "lam", 0.08): 24.31, (dec, "lam", 0.16): 25.24, (dec, "lam", 0.24): 24.20}
    table |= {(ae_ls, "lam", 0.08): 24.80, (ae_ls, "lam", 0.16): 25.67, (ae_ls, "lam", 0.24): 25.19}
    table |= {("ae-ls", "threshold", 0.02): 22.86, ("ae-ls", "threshold", 0.08): 22.86 if swap else 24.68}
    judged = {claim.id: claim.judge(_denoised(table))["verdict"] for claim in DENOISING}
    assert (
        judged["ae-ls-denoises-better"]
        == judged["ordering-holds-everywhere"]
        == judged["hard-thresholds-come-close"]
        == verdict
    )
    assert judged["best-lam-inside"] == "SUPPORTED" and judged["ae-lasso-fails"] == "NOT RUN"


@pytest.mark.parametrize(
    ("psnr", "verdict"),
    [
        ([24.0, 25.5, 26.4], "CONTRADICTED"),  # rises
        ([24.0, 26.4, 25.0], "CONTRADICTED"),  # swings above the input: the paper's curve stays below it
        ([15.9, 14.2, 18.6], "SUPPORTED"),
    ],
)
def test_ae_lasso_fails_where_it_stays_below_its_input(psnr, verdict):
    table = _denoised({("ae-ls", "lam", 0.16): 24.0, ("ae-lasso", "lam", 0.16): 20.0})
    noisy = table.assign(quantity="noisy_psnr", value=20.0)
    curves = [table.assign(step=step, value=table.value.where(table.estimator == "ae-ls", value))
              for step, value in zip((500, 750, 1000), psnr, strict=True)]  # fmt: skip
    claim = next(claim for claim in DENOISING if claim.id == "ae-lasso-fails")
    assert claim.judge(pd.concat([*curves, noisy], ignore_index=True))["verdict"] == verdict


@pytest.mark.parametrize(
    ("curve", "verdict"),
    [
        (lambda k: 0.01 + 0.1 * 0.97**k, "SUPPORTED"),  # level after half of the updates
        (lambda k: 0.11 * 0.99**k, "CONTRADICTED"),  # falls by the same factor everywhere
        (lambda k: 0.11 / (1 + k) ** 0.9, "CONTRADICTED"),
        (lambda k: 0.11 + 0 * k, "CONTRADICTED"),  # never learned
    ],
)
def test_levelling_off_is_told_from_falling_and_from_standing_still(curve, verdict):
    steps = np.arange(0, 501, 10)
    rows = pd.concat(
        pd.DataFrame({"step": steps, "value": curve(steps) * (1 + seed / 100), "seed": seed, "sparsity": s})
        for seed in range(3)
        for s in (3, 6)
    ).assign(method_name="pudle-ae-ls", quantity="dictionary_error")
    claim = next(claim for claim in BASELINES if claim.id == "fixed-lambda-levels-off")
    assert claim.judge(rows)["verdict"] == verdict


def test_holm_corrects_in_steps_and_leaves_out_what_was_not_tested():
    """By hand: 3 x 0.01, then 2 x 0.03 and 1 x 0.04, which may not fall below the 0.06 before it."""
    np.testing.assert_allclose(holm(np.array([0.04, np.nan, 0.01, 0.03])), [0.06, np.nan, 0.03, 0.06])


def test_p_agrees_with_the_interval_and_the_effect_size_with_its_definition():
    values = np.array([1.0, 2.0, 4.0])
    interval = t_interval(values)
    assert t_test(values, interval.low) == pytest.approx(0.05)
    assert effect_size(values, 1.0) == pytest.approx((7 / 3 - 1) / values.std(ddof=1))
    assert np.isnan(t_test(np.ones(3), 0.0)) and np.isnan(effect_size(np.ones(1), 0.0))
