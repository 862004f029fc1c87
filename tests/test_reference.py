"""Reference results: what is taken is what was computed, to the byte; what cannot be taken is computed; nothing is taken unmarked."""

import io
import json
import os
import tarfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references import cell, compute, keep

from pudle.errors import PudleError
from pudle.experiments.denoising import galleries
from pudle.experiments.denoising.galleries import small_arrays
from pudle.harness import cells, files, reference, reference_files, stale
from pudle.harness.reference import Reference


def archive_of(members: dict[str, bytes]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:xz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return written.getvalue()


def lines(folder) -> list[str]:
    return (folder / "rows.csv").read_text().splitlines()


def test_what_is_taken_is_what_was_computed_and_says_so(tmp_path):
    made = compute(cell(0, 1), tmp_path / "made")
    offer = keep(tmp_path / "ref", made).offer(cell(0, 1))
    offer.write(tmp_path / "taken")
    for name in ("rows.csv", "timings.csv"):
        assert (tmp_path / "taken" / name).read_bytes() == (made / name).read_bytes()
    then, now = cells.read(made), cells.read(tmp_path / "taken")
    assert offer.is_written(tmp_path / "taken") and now["seeds"] == [0, 1] and now["not_run"] == []
    assert [run["commit"] for run in now["taken_from"]["runs"]] == ["a" * 40]
    assert all(now[key] == then[key] for key in ("settings", "status", "fingerprint", "code", "provenance", "started", "ended"))
    assert now["outputs"] == {name: files.sha256(tmp_path / "taken" / name) for name in now["outputs"]}
    with np.load(tmp_path / "taken" / "arrays.npz") as arrays:  # of the first seed alone
        assert dict(arrays).keys() == {"filters/0"} and (arrays["filters/0"] == 0.1).all()
    assert reference.origin(now) == "reference aaaaaaaa" and reference.origin(then) == "here"


def test_the_same_cells_make_the_same_bytes_in_any_order(tmp_path):
    made = [compute(cell(0, lam=lam), tmp_path / str(lam)) for lam in (0.1, 0.2, 0.3)]
    keep(tmp_path / "one", *made), keep(tmp_path / "two", *reversed(made)).update([(made[0], None)])
    contents = [
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*.*")}
        for root in (tmp_path / "one", tmp_path / "two")
    ]
    assert contents[0] == contents[1] and len(contents[0]) == 5  # with a README, and one provenance that all share


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(5)), st.integers(1, 4), st.sets(st.integers(0, 4), min_size=1))
def test_seeds_of_several_machines_are_those_of_one(tmp_path_factory, order, cut, wanted):
    folder = tmp_path_factory.mktemp("seeds")
    parts = [compute(cell(*seeds), folder / str(i)) for i, seeds in enumerate((order[:cut], order[cut:]))]
    alone = compute(cell(*sorted(wanted)), folder / "alone")
    keep(folder / "ref", *parts).offer(cell(*sorted(wanted))).write(folder / "taken")
    assert sorted(lines(folder / "taken")) == sorted(lines(alone))


def test_runs_with_other_labels_join_under_one_header(tmp_path):
    made = compute(cell(0), tmp_path / "0"), compute(cell(1), tmp_path / "1", label="x")
    keep(tmp_path / "ref", *made).offer(cell(0, 1)).write(tmp_path / "taken")
    found = lines(tmp_path / "taken")
    assert found[0] == "kind,seed,step,quantity,value" and ",0,0,error,0.0" in found and "x,1,0,error,1.0" in found


@pytest.mark.parametrize("changed", [cell(0, 1, lam=0.3), cell(0, 1, new=1), cell(0, 2)])
def test_other_settings_or_seeds_are_computed(tmp_path, changed):
    kept = keep(tmp_path / "ref", compute(cell(0, 1), tmp_path / "made"))
    kept.plan([cell(0, 1)])
    assert kept.offer(cell(0, 1)) and kept.offer(cell(1)) and kept.offer(changed) is None


def test_what_is_planned_and_not_there_is_left_as_not_run(tmp_path):
    kept = keep(tmp_path / "ref", compute(cell(0, 1), tmp_path / "made"))
    kept.plan([cell(0, 1, 2), cell(0, lam=0.3)])
    some, none = kept.offer(cell(0, 1, 2)), kept.offer(cell(0, lam=0.3))
    some.write(tmp_path / "some"), none.write(tmp_path / "none")
    taken, nothing = cells.read(tmp_path / "some"), cells.read(tmp_path / "none")
    assert (taken["status"], taken["seeds"], taken["not_run"]) == ("done", [0, 1], [2])
    assert reference.remark(taken) == "seeds 2: not run"
    assert (nothing["status"], nothing["seeds"], lines(tmp_path / "none")) == ("not run", [], ["seed,step,quantity,value"])
    readme = (tmp_path / "ref" / "README.md").read_text()
    assert "2 cells are planned. 1 of them are here, 1 were not run, and 1 more lack seeds." in readme
    assert f"| `{cell(0, lam=0.3).id}` | not run | 0 |" in readme and f"| `{cell(0).id}` | done | 0, 1 |" in readme


def test_a_newer_commit_replaces_an_older_one_seed_by_seed(tmp_path):
    old = compute(cell(0, 1), tmp_path / "old")
    new = compute(cell(1, 2), tmp_path / "new", commit="b" * 40, ended="2026-01-02T00:00:00Z", shift=9)
    offer = keep(tmp_path / "ref", new, old).offer(cell(0, 1, 2))
    assert [(kept.commit[0], seeds) for kept, seeds in offer.parts] == [("b", (1, 2)), ("a", (0,))]
    complete = compute(cell(0, 1, 2), tmp_path / "complete", commit="c" * 40, ended="2026-01-03T00:00:00Z")
    kept = keep(tmp_path / "ref", complete)
    assert len(list((tmp_path / "ref").rglob("*.tar.xz"))) == 1 and kept.offer(cell(0, 1, 2)).parts[0][0].commit == "c" * 40


def test_two_results_of_the_same_cell_seed_and_commit_are_refused(tmp_path):
    kept = keep(tmp_path / "ref", compute(cell(0, 1), tmp_path / "one"))
    before = {path: path.read_bytes() for path in (tmp_path / "ref").rglob("*.*")}
    other, fine = compute(cell(1, 2), tmp_path / "two", shift=1e-9), compute(cell(0, lam=0.3), tmp_path / "three")
    with pytest.raises(PudleError, match=r"a different result of .* seed 1, from the same commit"):
        kept.update([(fine, None), (other, None)])
    assert {path: path.read_bytes() for path in (tmp_path / "ref").rglob("*.*")} == before


def test_what_is_damaged_or_half_written_is_never_taken(tmp_path):
    made = compute(cell(0), tmp_path / "made")
    kept = keep(tmp_path / "ref", made)
    (path,) = (tmp_path / "ref").rglob("*.tar.xz")
    path.with_name(f".{path.stem}.1.partial.xz").write_bytes(b"PK")
    assert Reference(tmp_path / "ref").offer(cell(0))
    complete = path.read_bytes()
    path.write_bytes(archive_of({"cell.json": b"[]", "rows.csv": b""}))
    with pytest.raises(PudleError, match=r"its cell.json, or a shared part of it, is damaged"):
        Reference(tmp_path / "ref").offer(cell(0))
    path.write_bytes(complete[:200])
    with pytest.raises(PudleError, match="cannot be read"):
        Reference(tmp_path / "ref").offer(cell(0))
    (made / "rows.csv").write_text("seed,step,quantity,value\n0,0,error,1.0\n")
    with pytest.raises(PudleError, match="is not the file that the cell wrote"):
        kept.update([(made, None)])


def test_parts_that_records_have_in_common_are_kept_once(tmp_path):
    made = [compute(cell(0, lam=lam), tmp_path / str(lam)) for lam in (0.1, 0.2)]
    for path in made:
        record = files.read_json(path / "cell.json")
        files.write(path / "cell.json", json.dumps(record | {"inputs": {f"data/{i}.png": f"{i:064x}" for i in range(999)}}))
    kept = keep(tmp_path / "ref", *made)
    parts = {path: path.read_text() for path in (tmp_path / "ref" / "shared").iterdir()}
    assert len(parts) == 2 and all(path.stat().st_size < 2000 for path in kept.folder.rglob("*.tar.xz"))
    for path, lam in zip(made, (0.1, 0.2), strict=True):
        (run,) = Reference(kept.folder).kept[f"learning/{cell(lam=lam).id}"]
        assert run.record == files.read_json(path / "cell.json")
    for path, text in parts.items():
        path.write_text(text.replace("1", "2"))
        with pytest.raises(PudleError, match=r"cell.json, or a shared part of it, is damaged"):
            Reference(kept.folder).offer(cell(0))
        path.unlink()
        with pytest.raises(PudleError, match=f"{path.name}: is missing or damaged; restore the file from git"):
            Reference(kept.folder).offer(cell(0))
        path.write_text(text)
    kept.plan([cell(0, lam=0.3)])
    (kept.folder / "shared" / ".0.1.partial.json").write_text("{")  # of another process
    assert len(kept.prune()) == 2 and [path.name for path in (kept.folder / "shared").iterdir()] == [".0.1.partial.json"]


def test_galleries_are_kept_for_the_first_planned_seed_alone(tmp_path):
    kept = Reference(tmp_path / "ref")
    kept.plan([cell(0, 1)])
    first, second = (compute(cell(seed), tmp_path / str(seed)) for seed in (0, 1))
    kept.update([(second, dict)])
    kept.offer(cell(1)).write(tmp_path / "taken")
    assert sorted(os.listdir(tmp_path / "taken")) == ["cell.json", "rows.csv", "timings.csv"]
    assert cells.read(tmp_path / "taken")["outputs"].keys() == {"rows.csv", "timings.csv"}
    kept.update([(first, dict)])
    kept.offer(cell(0, 1)).write(tmp_path / "taken")
    with np.load(tmp_path / "taken" / "arrays.npz") as arrays:
        assert list(arrays) == ["filters/0"]
    assert [len(galleries._image_grid(blocks)[1]) for blocks in ([], [[]])] == [0, 0]  # of a run without pictures
    other = keep(tmp_path / "other", second).offer(cell(1))  # arrays that are not reduced are no gallery
    assert other.contents().keys() == {"rows.csv", "timings.csv", "arrays.npz"}


def test_too_many_bytes_are_refused(tmp_path, monkeypatch):
    made = compute(cell(0), tmp_path / "made")
    for name, words in (("LARGEST", "takes .* bytes"), ("LARGEST_SUM", "would hold")):
        with monkeypatch.context() as changed, pytest.raises(PudleError, match=words):
            changed.setattr(reference, name, 500)
            keep(tmp_path / "ref", made)
    assert not list(tmp_path.rglob("*.tar.xz"))


def test_a_taken_cell_is_stale_where_it_is_to_be_computed_or_the_reference_changed(tmp_path):
    old = keep(tmp_path / "ref", compute(cell(0), tmp_path / "old")).offer(cell(0))
    old.write(tmp_path / "taken")
    assert stale.reason(cell(0), tmp_path / "taken", "f", "cpu", lambda name: None) == "origin"
    assert stale.reason(cell(0), tmp_path / "old", "f", "cpu", lambda name: None) == ""
    new = compute(cell(0), tmp_path / "new", commit="b" * 40, ended="2026-01-02T00:00:00Z")
    assert not keep(tmp_path / "ref", new).offer(cell(0)).is_written(tmp_path / "taken")


def test_what_was_computed_here_stays_and_missing_data_stop_nothing(tmp_path):
    kept = keep(tmp_path / "ref", compute(cell(0), tmp_path / "made"))
    here, there, new = cell(0, lam=0.1), cell(0), cell(0, lam=0.3)
    settled = reference.settle([here, there, new], kept, lambda one: one is here, lambda one: "mnist" if one is new else "")
    assert set(settled) == {f"learning/{there.id}", f"learning/{new.id}"}
    assert settled[f"learning/{new.id}"].reason == "data set 'mnist' is not here"
    assert reference.settle([here, there, new], None, lambda one: False, lambda one: "") == {}


def test_pictures_are_rounded_to_what_an_eye_sees():
    pixels = np.random.default_rng(0).normal(size=(3, 60, 50)).astype(np.float32)
    seen = reference_files.as_picture(pixels, 48)
    assert seen.shape == (3, 48, 48) and np.abs(seen - pixels[:, 6:54, 1:49]).max() <= np.abs(pixels).max() * (1 / 510 + 2**-11)
    arrays = {f"clean/{name}/a.png/0": pixels[0] for name in ("bsd68", "set12")} | {"filters/0": pixels}
    assert small_arrays(arrays).keys() == {"clean/bsd68/a.png/0", "filters/0"}
    assert (small_arrays(arrays)["filters/0"] == pixels).all()


def test_pictures_that_were_kept_at_different_sizes_show_the_same_part_of_an_image():
    pixels = np.random.default_rng(0).normal(size=(60, 50))
    block = [("dec", "a.png", pixels[6:54, 1:49], 25.2), ("ae-ls", "a.png", pixels[14:46, 9:41], 25.7)]
    assert all((image == pixels[14:46, 9:41]).all() for _, _, image, _ in galleries._same_centre(block))
    assert galleries._same_centre([]) == []


def test_a_reference_that_is_not_there_is_one_paragraph(tmp_path):
    with pytest.raises(PudleError, match=r"'reference' is 'nowhere': there is no such folder"):
        reference.find("nowhere", tmp_path)
    assert reference.find(None, tmp_path) is None
