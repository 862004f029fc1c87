"""The plan of a run is written once, beside its configuration, and read by everything that follows."""

import json
import subprocess
import sys

import pytest
import yaml
from workflows import ROOT, configured, pudle, saved

from pudle import experiments
from pudle.errors import PudleError
from pudle.harness import plan

CONFIG = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
SMALL = {"n_samples": 20, "n_layers": [3], "estimators": ["dec"], "updates": 2}


def test_what_is_read_is_what_was_planned(tmp_path):
    """For all cells of the default scale, with the seeds of some experiments given as lists, as an overlay may give them."""
    config = CONFIG | {
        "experiments": CONFIG["experiments"] | {"learning": CONFIG["experiments"]["learning"] | {"seeds": [3, 1]}}
    }
    assert plan.read(saved(tmp_path, config)) == experiments.plan(config)
    lines = (tmp_path / "plan.json").read_text().splitlines()
    assert lines[0] == "[" and lines[-1] == "]" and len(lines) == 2 + len(experiments.plan(config))
    assert list(json.loads(lines[1].rstrip(","))) == ["experiment", "id", "settings", "seeds", "varies"]


def test_no_cells_are_a_plan(tmp_path):
    (tmp_path / "plan.json").write_text(plan.text([]))
    assert plan.read(tmp_path) == []


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (None, None, "not found; run `snakemake`"),
        ("[", "{", "not a list of cells"),
        ('"settings"', '"sitting"', "not a list of cells: KeyError: 'settings'"),
        ('"estimator": "dec"', '"estimator": "ae-ls"', "contradicts its settings"),
        ('"seeds": [0, 1]', '"seeds": "01"', "contradicts its settings"),
        ('"id": "', '"id": "../', "contradicts its settings"),
    ],
)
def test_a_plan_that_is_missing_or_damaged_is_one_line(tmp_path, before, after, words):
    root, name = configured(tmp_path / "run", "learning", **SMALL)
    path = tmp_path / "run" / "plan.json"
    content = path.read_text()
    path.unlink()
    if before is not None:
        assert before in content
        path.write_text(content.replace(before, after, 1))
    with pytest.raises(PudleError, match=r"plan\.json: ") as raised:
        plan.read(tmp_path / "run")
    assert words in str(raised.value) and "\n" not in str(raised.value)
    for command in (["cell", root, name], ["coverage", "--root", root], ["tables", "learning", "--root", root]):
        assert words in pudle(*command, status=2)


def test_a_plan_that_names_no_experiment_is_refused_with_the_nearest(tmp_path):
    root, _ = configured(tmp_path / "run", "learning", **SMALL)
    path = tmp_path / "run" / "plan.json"
    path.write_text(path.read_text().replace('"learning"', '"learnin"'))
    assert (
        "plan.json: unknown experiment 'learnin'" in (said := pudle("coverage", "--root", root, status=2))
        and "did you mean 'learning'" in said
    )


def test_cells_and_stages_follow_the_plan_and_not_the_configuration(tmp_path):
    root, name = configured(tmp_path / "run", "learning", **SMALL)
    path = tmp_path / "run" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"experiments": {}}))
    pudle("cell", root, name)
    pudle("coverage", "--root", root)
    assert f"learning,{name.split('/')[1]},done,here,0 1," in (tmp_path / "run" / "cells.csv").read_text()


def test_reading_a_plan_waits_neither_for_experiments_nor_for_torch(tmp_path):
    saved(tmp_path, CONFIG)
    code = (
        "import sys; from pudle.harness import plan; plan.read(sys.argv[1]); "
        "print(*(name for name in ('torch', 'matplotlib', 'pudle.experiments') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
