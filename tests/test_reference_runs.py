"""Runs that take cells from reference results: what is computed, what is run again, and what the committed reference holds."""

import json
import os

import numpy as np
import pandas as pd
import pytest
import yaml
from references import PAPER, cell, compute, keep, merged
from workflows import ROOT, TOY, Workflow, pudle, saved

from pudle import experiments
from pudle.audit import rerun
from pudle.audit.run import Run, name_of
from pudle.harness import files, reference
from pudle.harness.cells import Cell
from pudle.harness.reference import Reference


def test_every_cell_of_the_paper_scale_is_in_the_reference_or_stands_there_as_not_run():
    """Else `make paper` computes it, for hours. Where config/paper.yaml changed: pudle reference plan config/paper.yaml"""
    kept, planned = Reference(ROOT / "results" / "reference"), experiments.plan(merged(PAPER))
    assert [name_of(cell) for cell in planned if kept.offer(cell) is None] == []
    assert kept.unplanned() == []
    assert (kept.folder / "README.md").read_text() == reference.readme(kept)


def test_update_takes_what_was_computed_and_is_planned(tmp_path):
    run = tmp_path / "run"
    for one in (cell(0), cell(0, lam=0.3)):
        compute(one, one.folder(run))
    kept = Reference(tmp_path / "ref")
    kept.plan([cell(0), cell(0, lam=0.1)])
    kept.offer(cell(0, lam=0.1)).write(cell(0, lam=0.1).folder(run))  # not run
    said = pudle("reference", "update", run, "--folder", kept.folder)
    assert f"learning/{cell(0).id}: seeds 0, done" in said and f"learning/{cell(0, lam=0.3).id} is not planned" in said
    said = pudle("reference", "show", "learning", "--folder", kept.folder)
    assert f"learning/{cell(0, lam=0.1).id}: not run, seeds 0" in said and ": 1 cells, " in said
    path = cell(0).folder(run) / "cell.json"
    files.write(path, path.read_text().replace('"lam": 0.2', '"lam": 0.4'))
    assert "differs from that of its folder; nothing was added" in pudle(
        "reference", "update", run, "--folder", kept.folder, status=2
    )
    kept.plan([cell(0, lam=0.1)])
    assert "was removed, since it is no longer planned" in pudle(
        "reference", "update", tmp_path, "--folder", kept.folder, "--prune"
    )
    assert not list(kept.folder.rglob("*.tar.xz"))


def test_cells_to_run_again_fit_the_budget_and_have_their_data(small_run, tmp_path):
    run = Run(small_run)
    costs = {name: record["seconds"] for name, record in run.records.items()}
    for budget in (0, min(costs.values()), sum(costs.values()) / 2, sum(costs.values())):
        picked = [name_of(one) for one in rerun.pick(run, 9, seed=1, budget=budget)]
        assert sum(costs[name] for name in picked) <= budget + 1e-9 and len(set(picked)) == len(picked)
        assert all(costs[name] > budget - 1e-9 - sum(costs[one] for one in picked) for name in set(costs) - set(picked))
    assert len(rerun.pick(run, 2, seed=1)) == 2


def test_taken_cells_of_a_gpu_are_run_again_where_there_is_one(tmp_path, monkeypatch):
    root, config = tmp_path / "toy", merged(PAPER) | {"experiments": {"learning": merged(PAPER)["experiments"]["learning"]}}
    saved(root, config)
    (one, other), kept = Run(root).cells[:2], Reference(tmp_path / "ref")
    kept.plan(Run(root).cells)
    for chosen, device in ((one, "cpu"), (other, "Some GPU")):
        folder = compute(chosen, tmp_path / chosen.id)
        record = files.read_json(folder / "cell.json")
        files.write(folder / "cell.json", json.dumps(record | {"provenance": record["provenance"] | {"device": device}}))
        kept.update([(folder, None)])
        kept.offer(chosen).write(chosen.folder(root))
    for there, names in ((False, {one.id}), (True, {one.id, other.id})):
        monkeypatch.setattr("torch.cuda.is_available", lambda there=there: there)
        assert {cell.id for cell in rerun.pick(Run(root), 9, seed=0)} == names


def test_a_cell_that_lacks_seeds_is_run_again_with_those_it_has(tmp_path):
    root, config = tmp_path / "toy", merged(PAPER) | {"experiments": {"learning": merged(PAPER)["experiments"]["learning"]}}
    saved(root, config)
    one, other = Run(root).cells[:2]
    kept = Reference(tmp_path / "ref")
    kept.plan(Run(root).cells)
    for chosen, seeds in ((one, (1, 3)), (other, other.seeds)):
        part = Cell(chosen.experiment, chosen.settings, seeds, chosen.varies)
        kept.update([(compute(part, tmp_path / chosen.id), None)])
        kept.offer(chosen).write(chosen.folder(root))
    run = Run(root)
    again = {planned.id: planned.seeds for planned in Run(rerun._planned(run, one, tmp_path / "again")).cells}
    assert again[one.id] == (1, 3) and rerun._planned(run, other, tmp_path / "again") == root


@pytest.mark.slow
def test_a_run_from_a_reference_computes_what_differs_and_marks_the_rest(finished, checkout, tmp_path):
    kept = tmp_path / "ref"
    pudle("reference", "update", finished.root, "--folder", kept)
    config = TOY | {"scale": "taken", "reference": str(kept)}
    workflow = Workflow(checkout, tmp_path, config)
    jobs = workflow.jobs()
    assert (jobs["take_learning"], jobs["take_unrolling"]) == (1, 1) and not [job for job in jobs if job.startswith("cell_")]
    assert "of 5 cells 5 are taken from it, 0 are left as not run, and 0 are computed here" in workflow("--dry-run")
    gone = next(path for path in kept.rglob("*.tar.xz") if "n_layers-4__estimator-ae-ls" in path.name)
    gone.unlink()
    workflow()
    assert workflow.jobs() == {} and pudle("audit", workflow.root, status=0)
    table = (workflow.root / "cells.csv").read_text()
    assert table.count(",not run,not run,") == 1 and table.count(",done,reference ") == 4
    assert "origin" in (workflow.root / "tables" / "learning.csv").read_text().splitlines()[0]
    assert "3 of 4 cells taken from reference results" in (workflow.root / "figures" / "learning" / "captions.md").read_text()
    assert (
        '<p id="taken">Of 5 cells 0 were computed here. 4 were taken' in (workflow.root / "report" / "index.html").read_text()
    )
    assert workflow.jobs("--config", "reference=null")["cell_learning"] == 4
    keep(kept, compute(cell(0), tmp_path / "other"))
    said = " ".join(pudle("audit", workflow.root, "--quick", status=1).split())
    assert "is not planned" in said and "1 finding" in said
    row = next((workflow.root / "cells" / "unrolling").glob("*/rows.csv"))
    row.write_text(row.read_text().replace("dec,0,1,", "dec,0,7,", 1))
    assert "differs from the file in" in " ".join(pudle("audit", workflow.root, "--quick", status=1).split())
    workflow.configure(
        config | {"experiments": TOY["experiments"] | {"learning": TOY["experiments"]["learning"] | {"n_layers": [3, 5]}}}
    )
    jobs = workflow.jobs()
    assert jobs["cell_learning"] == 2 and "cell_unrolling" not in jobs


METHOD = """
from pudle.methods import Method, register

@register("mine")
class Mine(Method):
    \"\"\"Does nothing.\"\"\"

    source = "this test"

    def update(self, batch):
        pass
"""
DENOISER = (
    METHOD.replace("methods import Method", "denoisers import Denoiser")
    .replace("(Method)", "(Denoiser)")
    .replace("update(self, batch):\n        pass", "denoise(self, image):\n        return image")
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plugin", "section", "cells"),
    [
        (METHOD, {"baselines": {"methods": {"mine": {}}}}, {"baselines": 3}),
        (DENOISER, {"denoising": {"denoisers": {"mine": {}}}}, {"denoising": 3}),
    ],
)
def test_a_users_plugin_at_the_papers_size_computes_its_own_cells_alone(checkout, tmp_path, plugin, section, cells):
    from skimage.io import imsave

    for name in ("bsd68", "set12", "cbsd432"):
        (tmp_path / "data" / name).mkdir(parents=True)
        imsave(tmp_path / "data" / name / f"{name}.png", np.zeros((40, 40), np.uint8), check_contrast=False)
    (tmp_path / "mine.py").write_text(plugin)
    overlay = yaml.safe_load(PAPER.read_text())
    for experiment, changes in section.items():
        for key, value in changes.items():
            overlay["experiments"][experiment].setdefault(key, {}).update(value)
    jobs = Workflow(checkout, tmp_path, overlay | {"plugins": [str(tmp_path / "mine.py")]}).jobs()
    assert {job.removeprefix("cell_"): count for job, count in jobs.items() if job.startswith("cell_")} == cells
    assert sum(job.startswith("take_") for job in jobs) == len(experiments.EXPERIMENTS) - 1  # denoising_best has no paper scale


@pytest.mark.slow
def test_the_readme_counts_the_verdicts_of_the_reference(tmp_path):
    kept, root = Reference(ROOT / "results" / "reference"), tmp_path / "paper"
    saved(root, merged(PAPER))
    for one in Run(root).cells:
        kept.offer(one).write(one.folder(root))
    pudle("verdicts", "--root", root)
    claims = pd.read_csv(root / "claims.csv")
    counts = claims[claims.kind != "ours"].verdict.value_counts()
    found = [counts.get(verdict, 0) for verdict in ("SUPPORTED", "CONTRADICTED", "INCONCLUSIVE", "NOT RUN")]
    words = "{} supported, {} contradicted, {} undecided, {} not run".format(*found)
    assert words in " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())


@pytest.mark.slow
def test_two_cheap_cells_of_the_reference_come_out_again(tmp_path):
    """Code that drifts from the reference is seen here."""
    kept, config = Reference(ROOT / "results" / "reference"), merged(PAPER)
    if not kept.kept:
        pytest.skip("the reference has no cells yet")
    root = tmp_path / "paper"
    saved(root, config)
    for one in Run(root).cells:
        if f"{one.experiment}/{one.id}" in kept.kept:
            kept.offer(one).write(one.folder(root))
    found, lines = rerun.rerun(root, 2, seed=0, budget=float(os.environ.get("PUDLE_RERUN_SECONDS", "60")))
    assert not found, (found, lines)
