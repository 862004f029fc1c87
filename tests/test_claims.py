"""The claims hold for the right gradients, and a wrong gradient makes them fail."""

import numpy as np
import pandas as pd
import pytest

from pudle.experiments.learning.claims import CLAIMS as LEARNING
from pudle.experiments.unrolling import run as unrolling
from pudle.experiments.unrolling.claims import CLAIMS as UNROLLING
from pudle.gradients import unrolled_gradient
from pudle.harness.record import Record
from pudle.harness.statistics import effect_size, holm, t_interval, t_test

SETTINGS = {
    "n_samples": 300,
    "n_features": 50,
    "n_atoms": 100,
    "sparsity": 5,
    "signs": "shared",
    "init_noise": 0.02,
    "lam": 0.2,
    "step": 0.2,
    "n_layers": 60,
    "estimators": ["dec", "ae-lasso", "ae-ls"],
    "dtype": "float64",
}


def _verdicts() -> dict[str, str]:
    record = Record()
    unrolling.run(SETTINGS, range(3), record)
    rows = record.rows()
    return {claim.id: claim.judge(rows)["verdict"] for claim in UNROLLING}


def _wrong(change):
    """Gradients changed by ``change(estimator, gradient function)``."""

    def gradient(x, dictionary, estimator, unrolling):
        return change(estimator, lambda name: unrolled_gradient(x, dictionary, name, unrolling))

    return gradient


def test_unrolling_claims_hold_for_the_right_gradients():
    assert set(_verdicts().values()) == {"SUPPORTED"}


def _flip(*estimators):
    def change(estimator, of):
        result = of(estimator)
        return result._replace(gradient=-result.gradient) if estimator in estimators else result

    return _wrong(change)


def test_gradients_of_the_wrong_sign_contradict_convergence(monkeypatch):
    monkeypatch.setattr(unrolling, "unrolled_gradient", _flip("dec", "ae-lasso"))
    verdicts = _verdicts()
    assert verdicts["dec-converges-to-local"] == verdicts["ae-lasso-converges-to-local"] == "CONTRADICTED"


def test_ae_ls_of_the_wrong_sign_is_not_closer_to_the_global_direction(monkeypatch):
    monkeypatch.setattr(unrolling, "unrolled_gradient", _flip("ae-ls"))
    assert _verdicts()["ae-ls-closer-to-global"] == "CONTRADICTED"


def test_shuffled_codes_contradict_their_convergence(monkeypatch):
    def shuffle(x, dictionary, estimator, settings):
        result = unrolled_gradient(x, dictionary, estimator, settings)
        return result._replace(codes=result.codes.roll(1, 0))

    monkeypatch.setattr(unrolling, "unrolled_gradient", shuffle)
    assert _verdicts()["codes-converge"] == "CONTRADICTED"


def test_dec_in_place_of_ae_ls_contradicts_its_claims(monkeypatch):
    """The trap in the published code's design: without the detached codes the two would be one."""
    monkeypatch.setattr(
        unrolling, "unrolled_gradient", _wrong(lambda estimator, of: of("dec" if estimator == "ae-ls" else estimator))
    )
    assert _verdicts()["ae-ls-stays-away-from-local"] == "CONTRADICTED"


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
    assert judged["ae-ls-far-below"] == judged["order-ae-ls-ae-lasso"] == judged["order-ae-lasso-dec"] == verdict
    assert judged["more-layers-help-dec"] == judged["more-layers-help-ae-ls"] == "SUPPORTED"


def test_holm_corrects_in_steps_and_leaves_out_what_was_not_tested():
    """By hand: 3 x 0.01, then 2 x 0.03 and 1 x 0.04, which may not fall below the 0.06 before it."""
    np.testing.assert_allclose(holm(np.array([0.04, np.nan, 0.01, 0.03])), [0.06, np.nan, 0.03, 0.06])


def test_p_agrees_with_the_interval_and_the_effect_size_with_its_definition():
    values = np.array([1.0, 2.0, 4.0])
    interval = t_interval(values)
    assert t_test(values, interval.low) == pytest.approx(0.05)
    assert effect_size(values, 1.0) == pytest.approx((7 / 3 - 1) / values.std(ddof=1))
    assert np.isnan(t_test(np.ones(3), 0.0)) and np.isnan(effect_size(np.ones(1), 0.0))
