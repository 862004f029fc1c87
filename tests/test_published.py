"""Published curves and protocols: the data, the comparison on a toy curve, and the dashed lines."""

from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import yaml

from pudle import experiments
from pudle.analysis import comparison, style
from pudle.experiments.denoising import figures as denoising_figures
from pudle.experiments.denoising import grid as denoising_grid
from pudle.experiments.robustness.grid import plan

CONFIG = Path(__file__).parents[1] / "config"


def test_every_curve_says_its_source_and_how_it_was_read():
    table = comparison.curves()
    assert table.curve.nunique() == 58 and not table.isna().any().any()
    assert set(table.read) == {"released results", "vector figure"} and table.source.str.len().min() > 0
    assert set(comparison.values().read) <= {"released results", "vector figure", "text"}
    assert all(points["update"].is_monotonic_increasing for _, points in table.groupby("curve"))


def test_published_values_are_the_ends_and_the_rates_of_their_curves():
    values = comparison.values()
    plain = values.assign(where=values["where"].str.replace(r"=\w+:", "=", regex=True))
    found = comparison.curves().merge(plain, on=["experiment", "where", "quantity"], suffixes=("", "_of_value"))
    assert found.id.nunique() > 40
    for name, points in found.groupby("id"):
        line = points.rename(columns={"update": "step"})
        of = {"last": line.value.iloc[-1]} | {
            at: pick(line[line.step > line.step.max() / 2]) for at, pick in comparison._LATE.items()
        }
        value = points.iloc[0]
        assert of[value["at"]] == pytest.approx(float(value.published), rel=0.02), name
    rates = values.set_index("id").published.astype(float).filter(like="unrolling-rate")
    assert list(rates["unrolling-rate-ae-lasso"] / rates) == pytest.approx([1.23, 1.23, 1], abs=0.01)


def test_the_rate_is_the_fall_of_the_logarithm_over_the_second_half():
    rows = pd.DataFrame([(seed, t, 5 * np.exp(-0.06 * t) + (t <= 5)) for seed in range(3) for t in range(1, 11)])
    rows.columns = ["seed", "step", "value"]
    rows = rows.assign(estimator="dec", quantity="gradient_error_local")
    table = comparison.compare({"unrolling": rows}, "paper").set_index("id")
    assert table.loc["unrolling-rate-dec", "ours"] == pytest.approx(0.06)


@pytest.mark.parametrize("experiment", ["learning", "unrolling", "baselines", "denoising"])
def test_the_paper_scale_follows_the_published_protocol(experiment):
    ours = {}
    for file in ("config.yaml", "paper.yaml"):
        ours |= yaml.safe_load((CONFIG / file).read_text())["experiments"].get(experiment, {})
    for key, wanted in comparison.protocol(experiment, {}).items():
        assert ours[key] == wanted, key


def test_the_paper_scale_runs_every_variant_by_its_published_protocol():
    ours = {}
    for file in ("config.yaml", "paper.yaml"):
        ours = _merged(ours, yaml.safe_load((CONFIG / file).read_text())["experiments"]["robustness"])
    variants = comparison.protocols()["robustness"]["variants"]
    known = {name for name, changes in variants.items() if changes != "not known"}
    cells = [cell for cell in plan(ours) if cell["variant"] in variants]
    assert known == {"batch-4", "batch-16", "batch-64", "rate-1e-2", "rate-1e-4"} and {c["variant"] for c in cells} == {
        *variants
    }
    for cell in cells:
        wanted = comparison.protocol("robustness", cell)
        assert bool(wanted) == (cell["variant"] in known)
        assert set(wanted) <= {*cell, *cell["method_settings"]}  # nothing is left uncompared
        assert comparison.departures("robustness", cell) == {}, (cell["variant"], cell["method_name"])


@pytest.mark.parametrize("experiment", ["unrolling", "learning", "baselines", "robustness"])
def test_the_default_scale_departs_from_the_paper_in_sizes_alone(experiment):
    planned = experiments.plan(yaml.safe_load((CONFIG / "config.yaml").read_text()))
    cells = [cell.settings for cell in planned if cell.experiment == experiment]
    assert comparison.not_as_published(experiment, cells) == ""
    assert not any(comparison.beyond_sizes(experiment, settings) for settings in cells)
    changed = [{**settings, "signs": "independent"} for settings in cells]
    assert comparison.not_as_published(experiment, changed) == "at paper scale only; here signs = independent"


def test_variants_with_fewer_samples_than_learning_have_no_claim_of_the_paper():
    sections = yaml.safe_load((CONFIG / "config.yaml").read_text())["experiments"]
    fewer = {cell["variant"] for cell in plan(sections["robustness"]) if cell["n_samples"] < sections["learning"]["n_samples"]}
    of_the_paper = {claim.id for claim in experiments.get("robustness").claims if claim.kind == "paper"}
    assert fewer and not {f"ae-ls-best-{variant}" for variant in fewer} & of_the_paper


def test_sizes_count_for_claims_that_need_the_papers():
    paper = comparison.protocol("unrolling", {})
    assert comparison.not_as_published("unrolling", [paper], sizes=True) == ""
    fewer = [paper | {"n_samples": 1000}]
    assert comparison.not_as_published("unrolling", fewer) == ""
    assert comparison.not_as_published("unrolling", fewer, sizes=True) == "at paper scale only; here n_samples = 1000"


def test_a_setting_counts_as_changed_if_no_cell_has_the_published_one():
    """One variant of the loss does not keep the others from being judged; cells of library denoisers have none of these settings."""
    paper = {**comparison.protocol("denoising", {})}
    assert comparison.not_as_published("denoising", [paper, paper | {"loss": "sum"}, {"denoiser": "tv"}]) == ""
    assert comparison.not_as_published("denoising", [paper | {"crop": 65}]) == "at paper scale only; here crop = 65"
    assert comparison.not_as_published("jacobian", [{"crop": 65}]) == ""  # no published curve or value


def test_curves_have_crossed_before_the_default_scale_ends():
    """The published ae-ls lies below half of dec at the last update that we run, if the paper names the variant."""
    settings = yaml.safe_load((CONFIG / "config.yaml").read_text())["experiments"]["robustness"]
    table = comparison.curves().set_index("curve")
    for cell in plan(settings):
        if cell["variant"].startswith(("batch", "rate")):
            updates = cell["epochs"] * (1 if cell["batch"] == "full" else cell["n_samples"] // cell["batch"])
            dec, ae_ls = (
                np.interp(updates, points["update"], points.value)
                for points in (table.loc[f"robustness-{cell['variant']}-{name}"] for name in ("dec", "ae-ls"))
            )
            assert ae_ls < 0.5 * dec, (cell["variant"], updates)


def _merged(base: dict, overlay: dict) -> dict:
    both = {key: _merged(base[key], overlay[key]) for key in base.keys() & overlay if isinstance(overlay[key], dict)}
    return base | overlay | both


def test_the_farthest_point_is_a_factor_or_decibels():
    points = pd.DataFrame({"update": [1, 2, 4, 9], "value": [1.0, 1.0, 1.0, 1.0]})
    rows = pd.DataFrame([(seed, step, 2.0**step * scale) for seed, scale in ((0, 2), (1, 0.5)) for step in (0, 4)])
    rows.columns = ["seed", "step", "value"]
    far = comparison.farthest(rows.groupby("seed"), points, decibel=False)  # the geometric mean is 2^step
    assert far == {"farthest": pytest.approx(16), "update": 4, "n_points": 3, "n_seeds": 2}
    far = comparison.farthest(rows.assign(value=-rows.step).groupby("seed"), points, decibel=True)
    assert (far["farthest"], far["update"]) == (pytest.approx(-5), 4)
    says = [
        (comparison.farthest_text(row), comparison.farthest_place(row))
        for row in (
            SimpleNamespace(experiment="learning", quantity="dictionary_error", farthest=16.0, update=4.0),
            SimpleNamespace(experiment="unrolling", quantity="code_error_lasso", farthest=0.5, update=1.0),
            SimpleNamespace(experiment="denoising", quantity="psnr_as_published", farthest=-5.0, update=4.0),
        )
    ]
    assert says == [
        ("× 16", "ours over published, at update 4"),
        ("× 0.5", "ours over published, at layer 1"),
        ("-5.00 dB", "ours minus published, at update 4"),
    ]


@pytest.mark.parametrize(("changed", "n_lines"), [({}, 2), ({"n_samples": 10}, 2), ({"learning_rate": 0.01}, 1)])
def test_a_curve_is_drawn_where_only_sizes_differ_from_the_paper(changed, n_lines):
    settings = comparison.protocol("learning", {}) | {"n_layers": 25, "estimator": "dec"} | changed
    results = SimpleNamespace(experiment="learning", cells=[SimpleNamespace(settings=settings)])
    line = pd.DataFrame({"n_layers": 25, "estimator": "dec", "quantity": "dictionary_error", "step": [0, 600], "mean": 0.5})
    _, (axis,) = style.panels()
    axis.plot(line.step, line["mean"], color="red")
    drawn = comparison.draw(axis, results, line, {"color": "red"})
    assert len(axis.lines) == n_lines and len(drawn) == (108 if n_lines == 2 else 0)
    if n_lines == 2:
        dashed = axis.lines[-1]
        assert dashed.is_dashed() and dashed.get_color() == "red" and dashed.get_linewidth() < 1
        assert np.array_equal(drawn["mean"], dashed.get_ydata())
    pd.concat([line, drawn], ignore_index=True)


@pytest.mark.parametrize(
    ("variant", "changed", "is_drawn"),
    [
        ("batch-16", {}, True),
        ("batch-16", {"epochs": 3}, True),
        ("batch-16", {"batch": 8}, False),
        ("batch-16", {"method_settings": {"learning_rate": 0.1}}, False),
        ("noise-T100", {}, False),  # not known how it ran
    ],
)
def test_a_variant_has_its_curve_where_its_protocol_is_known_and_kept(variant, changed, is_drawn):
    settings = {"variant": variant, "method_name": "pudle-dec", "batch": 16, "epochs": 20} | changed
    results = SimpleNamespace(experiment="robustness", cells=[SimpleNamespace(settings=settings)])
    line = pd.DataFrame(
        {"variant": variant, "method_name": "pudle-dec", "quantity": "dictionary_error", "step": [0, 9], "mean": 1}
    )
    _, (axis,) = style.panels()
    assert bool(len(comparison.draw(axis, results, line, {"color": "red"}))) == is_drawn


def test_denoising_draws_its_published_curves_at_the_paper_scale_alone():
    ours = {}
    drawn = {}
    for file in ("config.yaml", "paper.yaml"):
        ours = _merged(ours, yaml.safe_load((CONFIG / file).read_text())["experiments"]["denoising"])
        cells = [SimpleNamespace(settings=cell) for cell in denoising_grid.plan(ours)]
        lines = [
            {key: cell.settings.get(key, "") for key in denoising_grid.VARIES}
            | {"data_set": "bsd68", "image": "", "quantity": quantity, "step": step}
            | {"mean": 20.0, "low": 19.0, "high": 21.0, "n_ended": 0}
            for cell in cells
            for quantity in ("psnr", "psnr_as_published", "noisy_psnr", "noisy_psnr_as_published")
            for step in (0, 172800)
        ]
        summary = pd.DataFrame(lines)
        results = SimpleNamespace(experiment="denoising", cells=cells, summary=summary, rows=summary)
        for draw in (denoising_figures.test_psnr, denoising_figures.curves):
            figure, plotted = draw(results)
            dashed = [line for axis in figure.axes for line in axis.lines if line.get_linewidth() < 1 and line.is_dashed()]
            found = set(plotted["curve"].dropna()) if "curve" in plotted else set()
            assert len(dashed) == len(found)
            plt.close(figure)
            drawn[ours["crop"], draw.__name__] = found
    every = set(comparison.curves().curve[comparison.curves().experiment == "denoising"])
    at_main = {"denoising-dec-0.16", "denoising-ae-ls-0.16", "denoising-ae-lasso-0.16"}
    assert drawn == {(65, "test_psnr"): set(), (65, "curves"): set(), (129, "test_psnr"): at_main, (129, "curves"): every}
    soft = summary[(summary.lam != "") & (summary.variant == "")].assign(threshold=np.nan)
    figure, _ = denoising_figures.curves(SimpleNamespace(experiment="denoising", cells=cells, summary=soft, rows=soft))
    assert len(figure.axes) == len(ours["lams"]) and all(axis.lines for axis in figure.axes), "no row for what was not run"
    plt.close(figure)
