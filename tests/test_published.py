"""Published curves and protocols: the data, the comparison on a toy curve, and the dashed lines."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml

from pudle.analysis import published, style

CONFIG = Path(__file__).parents[1] / "config"


def test_every_curve_says_its_source_and_how_it_was_read():
    table = published.curves()
    assert table.curve.nunique() == 58 and not table.isna().any().any()
    assert set(table.read) == {"released results", "vector figure"} and table.source.str.len().min() > 0
    assert set(published.values().read) <= {"released results", "vector figure", "text"}
    assert all(points["update"].is_monotonic_increasing for _, points in table.groupby("curve"))


def test_published_end_values_are_the_ends_of_their_curves():
    ends = published.curves().groupby("curve").value.last()
    values = published.values().set_index("id").published
    for name in ("baselines-10-pudle-ae-ls", "baselines-40-noodl-as-published", "denoising-0.16-ae-ls"):
        words = name.split("-")
        curve = name if name in ends else "-".join([words[0], *words[2:], words[1]])
        assert ends[curve] == pytest.approx(float(values[name]), rel=0.02)


@pytest.mark.parametrize("experiment", ["learning", "unrolling", "baselines"])
def test_the_paper_scale_follows_the_published_protocol(experiment):
    ours = {}
    for file in ("config.yaml", "paper.yaml"):
        ours |= yaml.safe_load((CONFIG / file).read_text())["experiments"].get(experiment, {})
    for key, wanted in published.protocols()[experiment].items():
        assert ours[key] == wanted, key


def test_the_farthest_point_is_a_factor_or_decibels():
    points = pd.DataFrame({"update": [1, 2, 4, 9], "value": [1.0, 1.0, 1.0, 1.0]})
    rows = pd.DataFrame([(seed, step, 2.0**step * scale) for seed, scale in ((0, 2), (1, 0.5)) for step in (0, 4)])
    rows.columns = ["seed", "step", "value"]
    far = published.farthest(rows.groupby("seed"), points, decibel=False)  # the geometric mean is 2^step
    assert far == {"farthest": pytest.approx(16), "update": 4, "n_points": 3, "n_seeds": 2}
    far = published.farthest(rows.assign(value=-rows.step).groupby("seed"), points, decibel=True)
    assert (far["farthest"], far["update"]) == (pytest.approx(-5), 4)


@pytest.mark.parametrize(("changed", "n_lines"), [({}, 2), ({"n_samples": 10}, 2), ({"learning_rate": 0.01}, 1)])
def test_a_curve_is_drawn_where_only_sizes_differ_from_the_paper(changed, n_lines):
    settings = published.protocols()["learning"] | {"n_layers": 25, "estimator": "dec"} | changed
    results = SimpleNamespace(experiment="learning", cells=[SimpleNamespace(settings=settings)])
    line = pd.DataFrame({"n_layers": 25, "estimator": "dec", "quantity": "dictionary_error", "step": [0, 600], "mean": 0.5})
    _, (axis,) = style.panels()
    axis.plot(line.step, line["mean"], color="red")
    drawn = published.draw(axis, results, line, {"color": "red"})
    assert len(axis.lines) == n_lines and len(drawn) == (108 if n_lines == 2 else 0)
    if n_lines == 2:
        dashed = axis.lines[-1]
        assert dashed.is_dashed() and dashed.get_color() == "red" and dashed.get_linewidth() < 1
        assert np.array_equal(drawn["mean"], dashed.get_ydata())
    pd.concat([line, drawn], ignore_index=True)
