"""From rows to verdicts: intervals, thresholds, and whose statement a claim is."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from pudle import experiments
from pudle.analysis.claim import Claim, NotRun, final
from pudle.analysis.statistics import bootstrap_band, t_interval
from pudle.analysis.verdicts import judge_all, markdown
from pudle.audit import recompute
from pudle.errors import PudleError
from pudle.harness.record import ENDINGS, completed


def results_of(rows, off_protocol="", off_sizes=""):
    return SimpleNamespace(rows=rows, completed=rows, off_protocol=off_protocol, off_sizes=off_sizes)


def test_intervals():
    values = np.random.default_rng(1).normal(3, 1, (200, 2))
    mean, low, high = bootstrap_band(values)
    assert ((low < mean) & (mean < high)).all() and np.allclose(high - low, 2 * 1.96 / np.sqrt(200), rtol=0.2)
    assert np.isnan(bootstrap_band(values[:1])[1]).all()
    interval = t_interval(np.array([1.0, 2.0, 3.0]))
    assert interval.mean == 2 and interval.high - 2 == pytest.approx(4.303 / np.sqrt(3), rel=1e-3)
    assert t_interval(np.array([2.0, 2.0, 2.0])) == (2, 2, 2)


@pytest.mark.parametrize(
    ("effects", "bound", "verdict"),
    [
        ([1.0, 1.1, 1.2], {"above": 0}, "SUPPORTED"),
        ([1.0, 1.1, 1.2], {"below": 0}, "CONTRADICTED"),
        ([1.0, 1.1, 1.2], {"above": 2}, "CONTRADICTED"),
        ([1.0, 1.1, 1.2], {"below": 2}, "SUPPORTED"),
        ([-1.0, 1.1, 5.0], {"above": 0}, "INCONCLUSIVE"),
        ([1.0, 1.1], {"above": 0}, "INCONCLUSIVE"),
        ([], {"above": 0}, "NOT RUN"),
    ],
)
def test_verdicts(effects, bound, verdict):
    claim = Claim(
        id="c",
        kind="paper",
        statement="s",
        place="p",
        effect="e",
        estimate=lambda rows: pd.Series(effects, dtype=float),
        rows="r",
        figure="f",
        why="w",
        **bound,
    )
    table = judge_all([("toy", claim, results_of(pd.DataFrame()))])
    assert table.verdict.tolist() == [verdict]
    assert f"1 {verdict}" in markdown(table.assign(controls="none"), "test")


def test_ratios_are_judged_on_the_log_scale():
    claim = Claim(
        id="c",
        kind="paper",
        statement="s",
        place="p",
        effect="e",
        estimate=lambda rows: pd.Series([2.0, 8.0]),
        rows="r",
        figure="f",
        above=1,
        why="w",
        ratio=True,
    )
    judged = claim.judge(pd.DataFrame())
    assert judged["effect"] == pytest.approx(4)


_WORDS = dict.fromkeys(("id", "statement", "place", "effect", "rows", "figure", "why"), "w")


def _ratio_of_methods(**bound) -> Claim:
    def estimate(rows):
        table = final(rows, "error", by="method")
        return table["a"] / table["b"]

    return Claim(kind="theory", estimate=estimate, ratio=True, **_WORDS, **bound)


def _rows_of(method: str, values: dict[int, float], **endings) -> pd.DataFrame:
    """Rows of one cell: final error of each seed; and how seeds ended."""
    rows = [(method, seed, step, "error", value) for seed, value in values.items() for step in (5, 10)]
    rows += [(method, int(seed.strip("_")), 10, ending, 1.0) for seed, ending in endings.items()]
    return pd.DataFrame(rows, columns=["method", "seed", "step", "quantity", "value"])


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_claim_that_rests_on_runs_that_ended_early_is_inconclusive(ending):
    a, b = dict.fromkeys(range(5), 1.0), {seed: 3.0 + seed / 10 for seed in range(5)}
    cells = [_rows_of("a", a), _rows_of("b", b, _1=ending, _4=ending)]
    rows, left = pd.concat(cells), pd.concat(map(completed, cells))
    assert set(left[left.method == "b"].seed) == {0, 2, 3} and set(left[left.method == "a"].seed) == set(range(5))
    claim = _ratio_of_methods(below=1)
    assert claim.judge(rows)["verdict"] == "SUPPORTED"
    judged = claim.judge(rows, left)
    assert recompute._judge(claim, rows, left) == pytest.approx(judged, nan_ok=True)  # the audit's own way
    assert judged["verdict"] == "INCONCLUSIVE" and judged["n_seeds"] == 3
    assert judged["note"] == "2 of 5 seeds rest on runs that ended early, and are left out"
    other = _rows_of("c", a, _0=ending)  # of another method: what the claim looks at is complete
    rows, left = (pd.concat([cells[0], _rows_of("b", b), part]) for part in (other, completed(other)))
    assert claim.judge(rows, left)["verdict"] == "SUPPORTED"


def test_where_all_runs_ended_early_there_is_no_verdict():
    cells = [
        _rows_of("a", {0: 1.0, 1: 1.0, 2: 1.0}),
        _rows_of("b", {0: 3.0, 1: 3.0, 2: 3.0}, _0="failed", _1="failed", _2="failed"),
    ]
    judged = _ratio_of_methods(below=1).judge(pd.concat(cells), pd.concat(map(completed, cells)))
    assert (judged["verdict"], judged["n_seeds"]) == ("INCONCLUSIVE", 0)
    audited = recompute._judge(_ratio_of_methods(below=1), pd.concat(cells), pd.concat(map(completed, cells)))
    assert audited == pytest.approx(judged, nan_ok=True)


def test_an_ending_ends_what_has_its_labels_and_nothing_else():
    rows = pd.DataFrame(
        {
            "lam": [0.1, 0.1, 0.2, 0.1],
            "kind": ["x", "y", "x", ""],
            "seed": 0,
            "step": 1,
            "quantity": ["error"] * 3 + ["diverged"],
        }
    ).assign(value=1.0)
    assert completed(rows).lam.tolist() == [0.2]


def test_seeds_without_a_value_and_effects_without_a_logarithm_are_told():
    rows = pd.concat([_rows_of("a", {0: 1.0, 1: 0.0, 2: 1.1, 3: 1.2}), _rows_of("b", {0: 2.0, 1: 2.0, 2: 2.0})])
    judged = _ratio_of_methods(below=1).judge(rows)
    assert recompute._judge(_ratio_of_methods(below=1), rows, rows) == pytest.approx(judged, nan_ok=True)
    assert judged["verdict"] == "INCONCLUSIVE" and judged["n_seeds"] == 3
    assert judged["note"] == "1 of 4 seeds have no value; an effect of 0 or less has no logarithm"


def test_final_takes_the_last_step_of_each_seed():
    rows = pd.DataFrame(
        {"method": ["a"] * 3, "seed": [0, 0, 1], "step": [2, 1, 5], "quantity": "error", "value": [2.0, 1.0, 5.0]}
    )
    assert final(rows, "error", by="method")["a"].tolist() == [2.0, 5.0]
    with pytest.raises(NotRun, match="method = b"):
        final(rows, "error", by="method", method="b")


@pytest.mark.parametrize("bound", [{}, {"above": 1, "below": 2}])
def test_a_claim_has_one_threshold(bound):
    with pytest.raises(ValueError, match="w: give exactly one of above and below"):
        Claim(kind="ours", estimate=len, **_WORDS, **bound)


def test_a_claim_says_whose_statement_it_is():
    with pytest.raises(PudleError, match="unknown kind of the claim 'w' 'theorem': did you mean 'theory'"):
        Claim(kind="theorem", estimate=len, above=1, **_WORDS)


def test_ours_accuses_nobody_and_counts_in_no_headline():
    def claim(name: str, kind: str, effect: float) -> Claim:
        return Claim(kind=kind, estimate=lambda rows: pd.Series([effect] * 3), above=0, **_WORDS | {"id": name})

    claims = [claim("a", "paper", 1.0), claim("b", "theory", 2.0), claim("c", "ours", -1.0), claim("d", "ours", 1.0)]
    table = judge_all(("toy", each, results_of(pd.DataFrame())) for each in claims)
    assert table.kind.tolist() == ["paper", "theory", "ours", "ours"] and table.verdict.tolist()[2] == "CONTRADICTED"
    headline, beyond = markdown(table.assign(controls="none"), "test").split("## Beyond the paper")
    assert "2 SUPPORTED, 0 CONTRADICTED, 0 INCONCLUSIVE, 0 NOT RUN" in headline
    assert "holds here: 1, does not hold here: 1" in beyond and "CONTRADICTED" not in beyond


@pytest.mark.parametrize(("kind", "verdict"), [("paper", "NOT RUN"), ("theory", "SUPPORTED"), ("ours", "SUPPORTED")])
def test_a_claim_of_the_paper_is_judged_by_its_protocol_only(kind, verdict):
    claim = Claim(kind=kind, estimate=lambda rows: pd.Series([1.0, 1.1, 1.2]), above=0, **_WORDS)
    nothing, off_protocol = pd.DataFrame(), "at paper scale only; here crop = 65"
    (judged,) = judge_all([("toy", claim, results_of(nothing, off_protocol))]).to_dict("records")
    assert judged["verdict"] == verdict and (judged["note"] == off_protocol) == (kind == "paper")
    again = recompute._judge(claim, nothing, nothing, claim.unsuitable(off_protocol, ""))
    assert again == pytest.approx({key: judged[key] for key in again}, nan_ok=True)


def test_a_claim_that_needs_the_papers_sizes_is_judged_at_these_only():
    claim = Claim(
        kind="theory", estimate=lambda rows: pd.Series([1.0, 1.1, 1.2]), above=0, at_paper_sizes="few samples vary", **_WORDS
    )
    nothing, reason = pd.DataFrame(), "at paper scale only; here n_samples = 1000"
    for off_sizes, verdict in (("", "SUPPORTED"), (reason, "NOT RUN")):
        (judged,) = judge_all([("toy", claim, results_of(nothing, off_sizes=off_sizes))]).to_dict("records")
        assert judged["verdict"] == verdict and judged["note"] == off_sizes
        again = recompute._judge(claim, nothing, nothing, claim.unsuitable("", off_sizes))
        assert again == pytest.approx({key: judged[key] for key in again}, nan_ok=True)


def test_claims_have_unique_ids_and_figures_that_are_there():
    claims = [(experiment, claim) for experiment in experiments.EXPERIMENTS for claim in experiments.get(experiment).claims]
    assert len({claim.id for _, claim in claims}) == len(claims)
    for experiment, claim in claims:
        assert claim.figure in [figure.name for figure in experiments.get(experiment).figures], claim.id
        assert claim.judge(pd.DataFrame(columns=["seed", "step", "quantity", "value"]))["verdict"] == "NOT RUN"
