"""Every experiment runs at toy size, deterministically, and its figures and claims take its rows."""

import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from click.testing import CliRunner
from workflows import ROOT, configured

from pudle import experiments
from pudle.analysis import style
from pudle.analysis.tables import Results
from pudle.audit import recompute
from pudle.cli import main
from pudle.core import convolution, networks
from pudle.core.initialization import random_filters
from pudle.core.unrolling import Unrolling
from pudle.experiments._shared.training import loss_weights
from pudle.experiments.denoising import grid as denoising_grid
from pudle.experiments.denoising import selection
from pudle.harness import cells

CONFIG = Path(__file__).parents[1] / "config"
_NETWORK = {
    "n_layers": 2,
    "step": 0.1,
    "lam": 0.1,
    "crop": 17,
    "batch": 1,
    "updates": 3,
    "evaluate_every": 2,
    "learning_rate": 0.003,
    "adam_eps": 0.001,
}
_NETWORKS = {
    "ten-minutes": {},
    "untied": {
        "untied": True,
        "learn_thresholds": True,
        "scaling": "operator-norm",
        "schedule": "cosine",
        "margin": 4,
        "shift_average_every": 4,
    },
}
SMALL = {"n_samples": 40, "n_features": 10, "n_atoms": 12, "batch": 10, "epochs": 1, "evaluate_every": 2}
TOY = {
    "baselines": SMALL | {"sparsity": [2], "methods": {"pudle-ae-ls": {"n_layers": 3}, "mod": {}, "mine": {"method": "noodl"}}},
    "robustness": SMALL
    | {
        "sparsity": 2,
        "variants": {"noise": {"noise": 0.1}, "batch-4": {"batch": 4}},
        "methods": {"pudle-dec": {}, "pudle-ae-ls": {}},
    },
    "unrolling": {"n_samples": 20, "n_layers": 4},
    "learning": {"n_samples": 20, "n_layers": [3], "updates": 2},
    "initialization": {
        "n_samples": 200,
        "test_samples": 20,
        "n_features": 10,
        "n_atoms": 8,
        "sparsity": [1, 2],
        "init_noise": [0.05, 0.3],
        "n_layers": 2,
        "batch": 20,
        "updates": 2,
        "max_pairs": 100,
    },
    "support": {
        "seeds": 2,
        "n_samples": 5,
        "n_features": 16,
        "sparsity": [1, 2],
        "init_noise": [0.0, 0.01],
        "lams": [0.2, 0.5],
        "n_layers": 3,
    },
    "bias": {
        "seeds": 2,
        "n_samples": 20,
        "n_features": 10,
        "n_atoms": 12,
        "sparsity": 1,
        "n_layers": 5,
        "updates": 3,
        "learning_layers": 3,
    },
    "jacobian": {"seeds": 2, "n_samples": 2, "n_features": 5, "n_atoms": 7, "n_layers": 200, "truncations": [5]},
    "stability": {
        "seeds": 2,
        "n_samples": 10,
        "n_features": 10,
        "n_atoms": 12,
        "sparsity": 1,
        "steps": [0.5, 2.0],
        "n_layers": [2, 4],
        "truncations": [1],
        "updates": 2,
        "learning_layers": 3,
    },
    "interpretability": {
        "n_atoms": 6,
        "n_layers": [3],
        "dec_layers": [3],
        "epochs": 4,
        "drop_epochs": [2],
        "evaluate_every": 2,
    },
    "denoising": {
        "seeds": 2,
        "sigmas": [25, 50],
        "n_filters": 4,
        "lams": [0.1, 0.16, 0.2],
        "thresholds": [0.05],
        "variants": {"cscnet": {"untied": True, "learn_thresholds": True}},
        "crop": 17,
        "batch": 1,
        "updates": 2,
        "evaluate_every": 2,
        "n_layers": 2,
        "denoisers": {"noisy": {}, "wavelet": {}},
    },
    "denoising_best": {
        "seeds": 2,
        "train": "skimage-train",
        "test": "skimage-test",
        "sigma": 25,
        "n_filters": 4,
        "kernel": 9,
        "stride": 4,
        "networks": {name: _NETWORK | changes for name, changes in _NETWORKS.items()},
    },
}


@pytest.fixture(scope="module")
def config() -> dict:
    config = yaml.safe_load((CONFIG / "config.yaml").read_text()) | {"scale": "toy", "seeds": 2}
    for experiment, toy in TOY.items():
        config["experiments"][experiment] = (config["experiments"][experiment] or {}) | toy
    return config


def _run_all(config: dict, root: Path, experiment: str) -> Results:
    planned = experiments.plan(config)
    results = Results(experiment, planned, root)
    for cell in results.cells:
        cells.run(cell, cell.folder(root), experiments.get(experiment).run.load(), fingerprint="")
    return results


@pytest.mark.parametrize("experiment", experiments.EXPERIMENTS)
def test_a_experiment_from_cells_to_figures_and_claims(experiment, config, tmp_path):
    assert experiment in TOY, "give the new experiment a toy size here"
    results = _run_all(config, tmp_path, experiment)
    again = _run_all(config, tmp_path / "again", experiment)
    assert results.rows.equals(again.rows)
    table = results.summarise()
    (tmp_path / "tables").mkdir()
    table.to_csv(tmp_path / "tables" / f"{experiment}.csv", index=False)
    if experiment == "jacobian":  # its samples settle where they will
        assert table.n_seeds.max() == 2
    else:
        assert (table.n_seeds == 2).all()
    assert len(table)
    drawn = {figure.name: figure.draw(results) for figure in experiments.get(experiment).figures}
    for name, (image, plotted) in drawn.items():
        assert len(plotted), name
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            image.canvas.draw()
        plt.close(image)
    for claim in experiments.get(experiment).claims:
        assert claim.judge(results.rows)["verdict"] in ("INCONCLUSIVE", "NOT RUN")  # two seeds prove nothing


@pytest.mark.parametrize("experiment", experiments.EXPERIMENTS)
def test_figures_do_with_one_seed(experiment, config, tmp_path):
    one = config | {"experiments": {experiment: config["experiments"][experiment] | {"seeds": 1}}}
    results = _run_all(one, tmp_path, experiment)
    (tmp_path / "tables").mkdir()
    results.summarise().to_csv(tmp_path / "tables" / f"{experiment}.csv", index=False)
    for figure in experiments.get(experiment).figures:
        image, _ = figure.draw(results)
        image.canvas.draw()
        plt.close(image)


@pytest.mark.parametrize("experiment", experiments.EXPERIMENTS)
def test_where_every_run_fails_at_the_start_tables_figures_and_claims_say_so(experiment, config, tmp_path):
    results = Results(experiment, experiments.plan(config), tmp_path)
    for cell in results.cells:
        cells.run(cell, cell.folder(tmp_path), lambda _, seeds, record: record.fail(seeds, "no"), fingerprint="")
    table = results.summarise()
    assert not len(table) and list(table)[: len(results.cells[0].varies)] == list(results.cells[0].varies)
    (tmp_path / "tables").mkdir()
    table.to_csv(tmp_path / "tables" / f"{experiment}.csv", index=False)
    run = SimpleNamespace(root=tmp_path, records={}, of=lambda _: results.cells, path=lambda cell, name: cell.folder("") / name)
    assert list(recompute._table(run, experiment, recompute.gather(run, experiment))) == []
    for figure in experiments.get(experiment).figures:
        image, plotted = style.draw(figure, results)
        assert "no rows: every run ended early" in [text.get_text() for text in image.texts]
        assert not len(plotted) and list(plotted) == list(table)
        plt.close(image)
    for claim in experiments.get(experiment).claims:
        assert claim.judge(results.rows, results.completed)["verdict"] == "NOT RUN"


def test_the_first_data_set_is_not_that_of_a_cell_that_failed_at_the_start():
    rows = pd.DataFrame({"data_set": ["", "", "z", "a"], "quantity": ["failed", "diverged", "psnr", "psnr"]})
    assert selection.first_name(rows) == "z" and selection.first_name(rows[:2]) == ""
    assert selection.first_set(rows).quantity.tolist() == ["psnr"]


def test_the_main_lam_of_an_unfinished_grid_is_the_one_with_the_most_estimators():
    cells = [("dec", 0.16), ("ae-ls", 0.16), ("ae-lasso", 0.16), ("ae-ls", 0.08)]
    rows = selection.columns(pd.DataFrame([{"estimator": name, "lam": lam, "sigma": 25} for name, lam in cells]))
    assert selection.main_lam(rows) == 0.16
    assert selection.main_lam(rows[rows.estimator == "ae-ls"]) == 0.08, "the middle one, the lower of two"


def test_the_step_zero_of_learning_is_the_start(config, tmp_path):
    rows = _run_all(config, tmp_path, "learning").rows
    start = rows[(rows.step == 0) & (rows.quantity == "dictionary_error")].groupby("seed").value.nunique()
    assert (start == 1).all(), "all gradients must start from the same dictionary"


@pytest.mark.parametrize("estimator", ["dec", "ae-lasso", "ae-ls"])
@pytest.mark.parametrize(("loss", "margin"), [("mean", 0), ("mean", 2), ("sum", 0)])
def test_the_loss_of_denoising_is_the_formula_and_its_gradient_is_that_of_the_closed_form(estimator, loss, margin):
    """mean: ½(x − Dz)² averaged over pixels + λ Σ over filters of |z| averaged over positions; against numpy, and plain autograd."""
    images, filters = torch.rand(2, 1, 17, 17, dtype=torch.float64), random_filters(5, 9, 0, torch.float64)
    unrolling = Unrolling(lam=0.1, step=0.1, n_layers=3)
    scale, weight = loss_weights({"crop": 17, "kernel": 9, "stride": 4, "loss": loss, "margin": margin})
    found = networks.filter_gradient(images, filters, estimator, unrolling, stride=4, l1_weight=weight, margin=margin)

    filters.requires_grad_()
    codes = convolution.encode(images, filters, lam=0.1, step=0.1, n_layers=3, stride=4)
    codes = codes.detach() if estimator == "dec" else codes
    error = (convolution.decode(codes, filters, stride=4) - images)[..., margin : 17 - margin, margin : 17 - margin]
    penalty = 0.1 * codes.abs().sum(1) * (estimator == "ae-lasso")
    halves = error.square() / 2
    plain = halves.mean() + penalty.mean() if loss == "mean" else (halves.sum() + penalty.sum()) / len(images)
    errors, penalties = 0.5 * error.numpy(force=True) ** 2, penalty.numpy(force=True)
    written = errors.mean() + penalties.mean() if loss == "mean" else (errors.sum() + penalties.sum()) / len(images)
    assert scale * found.loss == pytest.approx(written, rel=1e-12)
    np.testing.assert_allclose(scale * found.gradient, torch.autograd.grad(plain, filters)[0], rtol=1e-8, atol=1e-15)


def test_the_gradient_of_the_mean_loss_is_that_of_the_sum_over_the_pixels_of_a_crop():
    """At the paper's size: 129² pixels and 31² positions of codes; an experiment without the setting sums."""
    size = {"crop": 129, "kernel": 9, "stride": 4}
    scale, weight = loss_weights(size | {"loss": "mean"})
    assert 1 / scale == pytest.approx(16641) and scale * weight == pytest.approx(1 / 31**2)
    assert loss_weights(size | {"loss": "sum"}) == loss_weights(size) == (1, 1)


def test_variants_of_denoising_may_be_of_other_gradients_and_another_loss(config):
    settings = config["experiments"]["denoising"] | {"loss": "mean"}
    settings |= {"variants": {"sum": {"loss": "sum", "estimators": ["dec", "ae-ls"]}, "untied": {"untied": True}}}
    cells = [cell for cell in denoising_grid.plan(settings) if cell.get("variant")]
    found = [(cell["variant"], cell["estimator"], cell["loss"], "estimators" in cell) for cell in cells]
    assert found == [("sum", "dec", "sum", False), ("sum", "ae-ls", "sum", False), ("untied", "ae-ls", "mean", False)]


def _pudle(*words: str):
    return CliRunner().invoke(main, list(words))


def test_a_cell_keeps_to_its_threads(tmp_path):
    """ADMM on two BLAS threads beside another cell took five times as long."""
    words = ["cell", *configured(tmp_path / "run", "unrolling", seeds=1, **TOY["unrolling"])]
    script = (
        "from pudle.cli import main\nfrom threadpoolctl import threadpool_info\n"
        f"main({words!r}, standalone_mode=False)\nprint({{pool['num_threads'] for pool in threadpool_info()}})"
    )
    free = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=free)
    assert done.stdout.strip() == "{1}", done.stdout + done.stderr


def test_claims_command_tells_what_is_contradicted(tmp_path):
    header = "experiment,claim,kind,verdict,effect,low,high,threshold,n_seeds,measured,statement,place,why,note\n"
    line = "learning,{id},{kind},{verdict},0.5,0.4,0.6,> 0,3,m,It holds.,p,w,\n"
    table = tmp_path / "claims.csv"
    table.write_text(
        header
        + line.format(id="a", kind="paper", verdict="SUPPORTED")
        + line.format(id="b", kind="ours", verdict="CONTRADICTED")
    )
    said = _pudle("claims", "--root", str(tmp_path))
    headline, beyond = said.output.split("Beyond the paper: ")
    assert said.exit_code == 0 and "1 SUPPORTED, 0 CONTRADICTED" in headline and "0.5 [0.4, 0.6] > 0" in headline
    assert beyond.startswith("holds here: 0, does not hold here: 1") and "CONTRADICTED" not in beyond
    for kind in ("paper", "theory"):
        table.write_text(header + line.format(id="a", kind=kind, verdict="CONTRADICTED"))
        assert _pudle("claims", "--root", str(tmp_path)).exit_code == 1


def test_the_claims_of_two_runs_side_by_side(tmp_path):
    header = "experiment,claim,kind,verdict,effect,low,high,threshold,n_seeds,statement,note\n"
    line = "learning,{},{},{},{},> 0,3,It holds.,\n"
    verdicts = {"a": ("SUPPORTED", "SUPPORTED"), "b": ("SUPPORTED", "INCONCLUSIVE"), "c": ("NOT RUN", "CONTRADICTED")}
    roots = [tmp_path / name for name in ("default", "paper")]
    for i, root in enumerate(roots):
        root.mkdir()
        counted = [
            line.format(name, "paper", of[i], ",," if of[i] == "NOT RUN" else "0.5,0.4,0.6") for name, of in verdicts.items()
        ]
        only_here = [line.format("d", "theory", "SUPPORTED", "1,1,1")] * i
        ours = [line.format("e", "ours", ("SUPPORTED", "CONTRADICTED")[i], "1,1,1")]
        (root / "claims.csv").write_text(header + "".join([*counted, *only_here, *ours]))
    said = _pudle("claims", "--compare", *map(str, roots))
    assert said.exit_code == 1 and "4 claims of the paper and its theory. Agree: yes: 1, no: 1, not run: 2." in said.output
    lines = [[cell.strip() for cell in text.split("|")[2:-1]] for text in said.output.splitlines() if text.startswith("|")]
    assert lines[0] == ["claim", "kind", "default", "paper", "agree"]
    known = "0.5 [0.4, 0.6]"
    assert lines[2:] == [
        ["a", "paper", f"SUPPORTED, {known}", f"SUPPORTED, {known}", "yes"],
        ["b", "paper", f"SUPPORTED, {known}", f"INCONCLUSIVE, {known}", "no"],
        ["c", "paper", "NOT RUN", f"CONTRADICTED, {known}", "not run"],
        ["d", "theory", "NOT RUN", "SUPPORTED, 1 [1, 1]", "not run"],
    ]
    assert _pudle("claims", "--compare", *map(str, roots[:1] * 2)).exit_code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("claims", "--compare", "nowhere", "nor here"), "run `snakemake` first"),
        (("claims", "--root", "nowhere"), "run `snakemake` first"),
        (("tables", "lerning"), "did you mean 'learning'"),
        (("controls", "learn"), "unknown experiment with negative controls 'learn'"),
        (("claims", "--scale", "nowhere"), "run `snakemake` first"),
        (("report", "--root", "nowhere"), "run `snakemake` first"),
        (("figures", "learning", "--root", "nowhere"), "run `snakemake` first"),
        (("cell", "nowhere", "learning/x"), "run `snakemake` first"),
        (("cell", "nowhere", "learning/x", "--threads", "0"), "'--threads'"),
    ],
)
def test_wrong_words_are_told_in_one_paragraph(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = _pudle(*words)
    assert said.exit_code == 2 and message in said.output
    assert "Traceback" not in said.output and not list(tmp_path.iterdir())


def test_a_cell_that_is_not_in_the_plan_is_refused_with_the_nearest(tmp_path):
    root, name = configured(tmp_path / "run", "unrolling", seeds=1, **TOY["unrolling"])
    said = _pudle("cell", root, name[:-1])
    assert said.exit_code == 2 and f"did you mean {name!r}" in said.output and not (tmp_path / "run" / "cells").exists()


def test_a_method_has_other_settings_at_one_sparsity_and_may_be_left_out_there():
    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    section = {
        "sparsity": [3, 6],
        "methods": {"noodl": {"learning_rate": 2.0}, "mod": {}, "k-svd": None},
        "at_sparsity": {"6": {"noodl": {"learning_rate": 1.0}, "mod": None}, "9": {"noodl": {}}},
    }
    cells = experiments.plan(config | {"experiments": {"baselines": config["experiments"]["baselines"] | section}})
    found = {(c.settings["sparsity"], c.settings["method_name"]): c.settings["method_settings"] for c in cells}
    assert {key: value.get("learning_rate") for key, value in found.items()} == {
        (3, "noodl"): 2.0,
        (3, "mod"): None,
        (6, "noodl"): 1.0,
    }
    assert not any("at_sparsity" in c.settings for c in cells)
