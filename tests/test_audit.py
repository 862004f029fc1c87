"""Every tampering is found and named; every number can be followed to the cell that made it, and archives are as good as folders."""

import errno
import json
import shutil
import zipfile
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from rocrate.rocrate import ROCrate
from tampering import CELL, cell_file, edit_csv, edit_json, edit_text, scale
from workflows import ROOT, configured, pudle

from pudle.analysis.statistics import bootstrap_band, holm
from pudle.audit import archive, checks, diff, manifest, recompute, rerun
from pudle.audit.run import CRATE, MANIFEST, Run, on_disk
from pudle.harness import files, plan


def test_an_untouched_run_is_well(small_run):
    assert "all is well" in pudle("audit", small_run)
    assert checks.audit(small_run) == []


def test_the_manifest_is_a_crate_that_its_own_library_reads(small_run):
    for source in (small_run, small_run / MANIFEST):
        crate = ROCrate(source)
        assert {entity.id for entity in crate.data_entities} == set(Run(small_run).files)
        profiles = {profile.id.removeprefix("https://w3id.org/") for profile in crate.root_dataset["conformsTo"]}
        assert profiles >= {f"ro/wfrun/{name}/0.6" for name in ("process", "workflow", "provenance")}
        assert crate.mainEntity.id == "code/Snakefile" and "ComputationalWorkflow" in crate.mainEntity.type
        actions = crate.get_by_type("CreateAction")
        for action in actions:
            for link in [action["instrument"], *action["object"], *action["result"]]:
                assert not isinstance(link, str), f"{action.id}: {link} is no entity of the crate"
        made = [entity.id for action in actions if action.id != "#run" for entity in action["result"]]
        assert len(made) == len(set(made)) and set(made) | set(Run(small_run).kept_code) == set(Run(small_run).files)


def test_the_manifest_chains_a_figure_to_settings_code_and_data(small_run):
    crate = ROCrate(small_run)
    makers = {
        entity.id: action for action in crate.get_by_type("CreateAction") if action.id != "#run" for entity in action["result"]
    }
    table = next(entity for entity in makers["figures/robustness/curves.png"]["object"] if entity.id.startswith("tables/"))
    rows = next(entity for entity in makers[table.id]["object"] if entity.id.endswith("rows.csv"))
    assert rows["sha256"] == files.sha256(small_run / rows.id)
    sources = {entity.id.split("/")[0]: entity for entity in makers[rows.id]["object"]}
    assert json.loads(sources["#settings"]["value"])["settings"]["n_atoms"] == 12
    modules = {part["name"]: part["sha256"] for part in sources["#code"]["hasPart"]}
    assert modules["source of pudle.experiments._shared.recovery"] == files.sha256(
        ROOT / "pudle" / "experiments" / "_shared" / "recovery.py"
    )


def test_a_cell_tells_what_it_read_and_ran_with(small_run, tmp_path):
    record = json.loads(cell_file(small_run, "cell.json").read_text())
    made = record["provenance"]
    assert made["packages"]["torch"].startswith("2.13.0") and "snakemake" in made["packages"] and len(made["packages"]) > 50
    assert (
        made["deterministic"] is True
        and made["dtype"] == "torch.float32"
        and made["blas"]
        and record["ended"] >= record["started"]
    )
    assert record["inputs"] == {}  # drawn from the seeds
    small = {
        "classes": [0, 1],
        "n_atoms": 5,
        "n_layers": [3],
        "epochs": 1,
        "drop_epochs": [],
        "evaluate_every": 1,
        "n_outputs": 10,
    }
    words = configured(tmp_path / "run", "interpretability", seeds=1, **small)
    pudle("cell", *words)
    (record,) = (tmp_path / "run").glob("cells/interpretability/*/cell.json")
    assert list(json.loads(record.read_text())["inputs"]) == ["sklearn/digits.csv.gz"]


def mutate(data: st.DataObject, root: Path) -> dict[Path, bytes | None]:
    """Change one file or two under ``root``; returns what they held before."""
    paths = list(on_disk(root))
    path = data.draw(st.sampled_from(paths), label="file")
    before = path.read_bytes()
    held: dict[Path, bytes | None] = {path: before}
    lines = before.splitlines(keepends=True)
    digits = [place for place, byte in enumerate(before) if byte in b"0123456789"]
    kinds = ["delete", "append", "rename", "link", "swap files"] + ["flip", "truncate"] * bool(before)
    kinds += ["swap lines", "drop a line", "double a line"] * (len(lines) > 1) + ["change a digit"] * bool(digits)
    kind = data.draw(st.sampled_from(kinds), label="kind")
    if kind == "delete":
        path.unlink()
    elif kind == "append":
        path.write_bytes(before + data.draw(st.sampled_from([b"\n", b" ", b"0"])))
    elif kind == "rename":
        other = path.with_name(f"other-{path.name}")
        held[other] = None
        path.rename(other)
    elif kind == "link":
        other = root / "logs" / "elsewhere"
        held[other] = None
        other.parent.mkdir(exist_ok=True)
        path.rename(other)
        path.symlink_to(other)
    elif kind == "swap files":
        other = data.draw(st.sampled_from(paths), label="other")
        held[other] = other.read_bytes()
        path.write_bytes(held[other])
        other.write_bytes(before)
    elif kind == "flip":
        place = data.draw(st.integers(0, len(before) - 1))
        path.write_bytes(before[:place] + bytes([before[place] ^ 1 << data.draw(st.integers(0, 7))]) + before[place + 1 :])
    elif kind == "truncate":
        path.write_bytes(before[: data.draw(st.integers(0, len(before) - 1))])
    elif kind == "change a digit":
        place = data.draw(st.sampled_from(digits))
        path.write_bytes(
            before[:place] + str((int(chr(before[place])) + data.draw(st.integers(1, 9))) % 10).encode() + before[place + 1 :]
        )
    else:
        one, two = (data.draw(st.integers(0, len(lines) - 1)) for _ in range(2))
        changed = list(lines)
        if kind == "swap lines":
            changed[one], changed[two] = lines[two], lines[one]
        else:
            changed[one : one + 1] = [] if kind == "drop a line" else [lines[one]] * 2
        path.write_bytes(b"".join(changed))
    return held


def is_found_and_named(data: st.DataObject, root: Path) -> None:
    held = mutate(data, root)
    try:
        now = {path: path.read_bytes() if path.is_file() and not path.is_symlink() else None for path in held}
        assume(now != held)
        found = checks.audit(root, recompute=False)
        for path in held:
            name = path.relative_to(root).as_posix()
            if now[path] != held[path] and not name.startswith("logs/"):
                assert any(finding.file == name or name in finding.found for finding in found), (name, found)
    finally:
        for path, content in held.items():
            path.unlink(missing_ok=True)
            if content is not None:
                path.write_bytes(content)


@pytest.fixture(scope="module")
def scratch(small_run, tmp_path_factory) -> Path:
    return shutil.copytree(small_run, tmp_path_factory.mktemp("scratch") / "small")


TAMPER = {"deadline": None, "derandomize": True, "database": None, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=100, **TAMPER)
@given(data=st.data())
def test_any_change_is_found_and_named(scratch, data):
    is_found_and_named(data, scratch)


@pytest.fixture(scope="module")
def smoke_scratch(smoke, tmp_path_factory) -> Path:
    return shutil.copytree(smoke.root, tmp_path_factory.mktemp("scratch") / "smoke")


@pytest.mark.slow
@settings(max_examples=250, **TAMPER)
@given(data=st.data())
def test_any_change_is_found_and_named_at_smoke_scale(smoke_scratch, data):
    is_found_and_named(data, smoke_scratch)


FORGERIES = [
    ("tables/robustness.csv", scale("mean"), "tables/robustness.csv", "table"),
    ("tables/robustness.csv", scale("high"), "tables/robustness.csv", "table"),
    ("tables/robustness.csv", edit_csv(lambda table: table[:-1]), "tables/robustness.csv", "table"),
    ("figures/robustness/curves.csv", scale("low"), "figures/robustness/curves.csv", "figure"),
    ("figures/robustness/captions.md", edit_text("Relative", "Absolute"), "figures/robustness/captions.md", "figure"),
    ("claims.csv", edit_csv(lambda table: table.assign(verdict="SUPPORTED")), "claims.csv", "verdict"),
    ("claims.csv", edit_csv(lambda table: table.assign(kind="ours")), "claims.csv", "verdict"),
    ("claims.md", edit_text("NOT RUN", "SUPPORTED"), "claims.md", "verdict"),
    ("published.csv", scale("published"), "published.csv", "published"),
    ("cells.csv", edit_csv(lambda table: table.assign(status="failed")), "cells.csv", "coverage"),
    ("report/index.html", edit_text("NOT RUN", "SUPPORTED"), "report/index.html", "report"),
    (f"{CELL}*/rows.csv", scale("value"), "tables/robustness.csv", "table"),
    (f"{CELL}*/rows.csv", edit_csv(lambda table: table[table.seed < 2]), "rows.csv", "rows"),
    (f"{CELL}*/cell.json", edit_json(status="failed"), "cell.json", "rows"),
    (f"{CELL}*/cell.json", edit_json(fingerprint="0" * 16), "cell.json", "code"),
    (f"{CELL}*/cell.json", edit_json(settings={"n_atoms": 13}), "cell.json", "settings"),
    (f"{CELL}*/cell.json", edit_json(seeds=[0, 1, 2, 3]), "cell.json", "settings"),
    (f"{CELL}*/cell.json", edit_json(inputs={"sklearn/digits.csv.gz": "0"}), "cell.json", "data"),
    ("config.json", edit_text('"seeds": 3', '"seeds": 4', times=2), "plan.json", "plan"),
    ("plan.json", edit_text("[0, 1, 2]", "[0, 1, 2, 3]"), "plan.json", "plan"),
    ("plan.json", edit_text("[0, 1, 2]", "[0, 1, 2, 3]"), "cell.json", "settings"),
    ("plan.json", edit_text("\n]", "\n\n]"), "plan.json", "plan"),
]


@pytest.mark.parametrize(("name", "edit", "file", "check"), FORGERIES)
def test_a_forger_who_mends_the_hashes_is_found_by_what_follows_from_the_rows(copy, name, edit, file, check):
    """The cell's record and the manifest are made to agree with the edited file."""
    (path,) = copy.glob(name)
    edit(path)
    if path.name == "rows.csv":
        record = json.loads(path.with_name("cell.json").read_text())
        edit_json(outputs=record["outputs"] | {"rows.csv": files.sha256(path)})(path.with_name("cell.json"))
    manifest.write(Run(copy), ROOT / "Snakefile")
    found = checks.audit(copy)
    assert any(finding.file.endswith(file) and finding.check == check for finding in found), found
    assert not any(finding.check in ("hash", "manifest", "files") for finding in found)


def test_cells_that_are_not_planned_or_not_there_are_named(copy):
    folder = cell_file(copy, "cell.json").parent
    shutil.copytree(folder, folder.with_name("variant-batch-4__other"))
    name = folder.relative_to(copy).as_posix()
    found = {finding.file: finding.found for finding in checks.audit(copy, recompute=False)}  # the last one of each file
    assert "its cell is not in plan.json" in found["cells/robustness/variant-batch-4__other/rows.csv"]
    shutil.rmtree(folder)
    found = {finding.file for finding in checks.audit(copy)}
    assert {f"{name}/rows.csv", f"{name}/cell.json", "cells/robustness"} <= found


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"@graph": 3}', '{"@graph": [{"a": 1}]}', "[" * 10**5])
def test_a_manifest_or_configuration_of_any_content_is_a_finding(copy, content):
    (copy / MANIFEST).write_text(content)
    assert {MANIFEST, CRATE} <= {finding.file for finding in checks.audit(copy, recompute=False)}
    for name in ("plan.json", "config.json"):
        (copy / name).write_text(content)
        assert [finding.check for finding in checks.audit(copy) if finding.file == name][-1] == "plan"


def test_a_cell_that_leaves_the_plan_or_joins_it_is_a_finding(copy):
    cells = plan.read(copy)
    other = replace(cells[0], settings=dict(cells[0].settings) | {"n_atoms": 13})
    for planned, words in ((cells[1:], "lacks the cell"), ([*cells, other], "has the cell"), (cells[::-1], "in the order")):
        (copy / "plan.json").write_text(plan.text(planned))
        found = [finding.found for finding in checks.audit(copy, recompute=False) if finding.check == "plan"]
        assert len(found) == 1 and words in found[0], found


def test_arrays_are_never_unpickled(copy):
    """An array of objects in an archive of arrays would run code when it is unpickled."""
    results = recompute.tables.Results("robustness", Run(copy).cells, copy)
    cell = results.cells[0]
    np.savez(cell.folder(copy) / "arrays.npz", **{"filters/0": np.array([print], dtype=object)})
    with pytest.raises(ValueError, match="allow_pickle=False"):
        results.arrays(cell)


def test_an_archive_is_as_good_as_its_folder(small_run, tmp_path):
    for name in "ab":
        assert "files" in pudle("export", small_run, tmp_path / f"{name}.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert "all is well" in pudle("audit", tmp_path / "a.zip")
    with archive.opened(tmp_path / "a.zip") as folder:
        assert not list(diff.diff(Run(small_run), Run(folder)))
        (folder / "claims.md").write_text("")
        with zipfile.ZipFile(tmp_path / "forged.zip", "w") as forged:
            for path in on_disk(folder):
                forged.write(path, path.relative_to(folder))
    assert "claims.md" in pudle("audit", tmp_path / "forged.zip", "--quick", status=1)


def test_an_archive_cannot_write_outside_of_its_folder(tmp_path):
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as evil:
        evil.writestr("../../escaped", "x")
        evil.writestr("/tmp/escaped-too", "x")
    with archive.opened(tmp_path / "evil.zip") as folder:
        assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == ["escaped", "escaped-too"]
    assert "config.json" in pudle("audit", tmp_path / "evil.zip", status=1)


@pytest.mark.slow
def test_cells_run_again_give_the_same_bytes_and_a_forged_one_does_not(small_run, copy):
    said = pudle("audit", small_run, "--quick", "--rerun", 2, "--seed", 1)
    assert said.count("again, byte by byte") == 2 and "all is well" in said
    for path in copy.glob("cells/*/*/rows.csv"):
        scale("value")(path)
        record = json.loads(path.with_name("cell.json").read_text())
        edit_json(outputs=record["outputs"] | {"rows.csv": files.sha256(path)})(path.with_name("cell.json"))
    assert "another run here gives other bytes" in pudle("audit", copy, "--quick", "--rerun", 1, status=1)


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
def test_the_second_path_to_the_bootstrap_leads_to_the_same_interval(seeds):
    values = np.random.default_rng(seeds).normal(size=(seeds, 50))
    _, low, high = bootstrap_band(values)
    np.testing.assert_allclose(recompute._band(values.T), np.stack([low, high], axis=1), rtol=1e-12)


def test_the_second_path_to_holm_leads_to_the_same_p():
    for seed in range(20):
        p = np.random.default_rng(seed).uniform(size=6).round(2)
        p[seed % 6] = np.nan
        np.testing.assert_allclose(recompute._holm(p), holm(p), rtol=1e-14)


@pytest.mark.parametrize("how", ["no semaphores", "killed"])
def test_an_audit_needs_no_second_process(how, copy, monkeypatch):
    """As where /dev/shm is missing or read-only, or where memory is short."""
    table = next(copy.glob("figures/robustness/*.csv"))
    table.write_text(table.read_text(encoding="utf-8").replace("0", "1"), encoding="utf-8")
    run = Run(copy)
    expected = [finding for finding in recompute.findings(run) if finding.check == "figure"]
    assert expected
    if how == "killed":
        found = recompute._result(run, "robustness", {"robustness": _broken()})
    else:
        monkeypatch.setattr(recompute, "ProcessPoolExecutor", _refused)
        with pytest.warns(UserWarning, match="can start no second process: .*Read-only"):
            found = list(recompute.findings(run))
    assert [finding for finding in found if finding.check == "figure"] == expected


def _refused(*arguments):
    raise OSError(errno.EROFS, "Read-only file system")


def _broken() -> Future:
    broken: Future = Future()
    broken.set_exception(BrokenProcessPool("a process was terminated abruptly"))
    return broken


def test_values_that_a_rerun_may_change_by_rounding_have_the_scale_of_what_they_measure():
    old = pd.DataFrame({"step": [0, 1, 0], "quantity": ["error", "error", "output_gap"], "value": [2.0, 1.0, 1e-3]})
    new = old.assign(value=[2.0, 1.001, 1.5e-3])
    assert rerun._apart(old, new) == pytest.approx(5e-4)
    large = old.assign(value=[2.0, 1.0, 10.0])
    assert rerun._apart(large, large.assign(value=[2.0, 1.0, 10.2])) == pytest.approx(0.02)
    assert rerun._apart(old, new.assign(step=[0, 2, 0])) == float("inf")
