"""From a number to the command that makes it again, and from one run to another."""

import json

import numpy as np
import pandas as pd
import pytest
from tampering import CELL, cell_file, edit_csv, edit_json, scale
from workflows import ROOT, pudle

from pudle.audit import diff
from pudle.audit.run import Run


def test_trace_follows_one_number_to_the_command_that_makes_it_again(small_run):
    table = pd.read_csv(small_run / "figures/robustness/curves.csv", dtype=str)
    row = next(
        i for i, one in enumerate(table.itertuples()) if (one.variant, one.method_name, one.step) == ("noise", "pudle-dec", "4")
    )
    said = pudle("trace", small_run / "figures/robustness/curves.csv", "--row", row + 1)
    number = table["mean"][row]
    assert said.count("as in the manifest") == 5 and "NOT AS" not in said
    lines = [line for line in said.splitlines() if line.startswith("  line ")]
    assert len(lines) == 4 and number in lines[0] and [line.split("seed=")[1][0] for line in lines[1:]] == ["0", "1", "2"]
    values = [float(line.rsplit("value=", 1)[1]) for line in lines[1:]]
    assert float(number) == pytest.approx(np.mean(values))
    assert (
        "cells/robustness/variant-noise__method_name-pudle-dec__" in said and "pudle-ae-ls" not in said.split("settings  ")[0]
    )
    assert (
        f"pudle cell {small_run} robustness/variant-noise__method_name-pudle-dec__" in said
        and "&& cmp again/rows.csv" in said
        and "the same as here" in said
    )


def test_trace_of_whole_files_and_of_verdicts(small_run):
    for name in (
        "figures/robustness/curves.png",
        "tables/robustness.csv",
        "claims.csv",
        "report/index.html",
        "config.json",
        "plan.json",
    ):
        said = pudle("trace", small_run / name)
        assert said.startswith(name) and "NOT AS" not in said
        assert name in ("config.json", "plan.json") or said.count("cell.json  SHA-256") == 4
    said = pudle("trace", small_run / "cells.csv", "--row", 2)
    assert said.count("cell.json  SHA-256") == 1
    claims = pd.read_csv(small_run / "claims.csv")
    row = int(np.flatnonzero(claims.experiment == "robustness")[0]) + 1
    assert pudle("trace", small_run / "claims.csv", "--row", row).count("cell.json  SHA-256") == 4


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["trace", "{run}/figures/robustness/none.csv"], "there is no such file"),
        (["trace", "{run}/tables/robustness.csv", "--row", "100000"], "has the rows 1 to"),
        (["trace", "{run}/tables/robustness.csv", "--row", "0"], "has the rows 1 to"),
        (["trace", "{run}/claims.md", "--row", "1"], "only CSV files have rows"),
        (["trace", f"{ROOT}/README.md"], "is not in the folder of a finished run"),
        (["audit", "{tmp}/none"], "there is no such folder or file"),
        (["audit", f"{ROOT}/README.md"], "not a ZIP file"),
        (["export", "{tmp}", "{tmp}/x.zip"], "config.json: not found"),
        (["export", "{run}", "{run}/x.zip"], "lies in the folder of the run"),
        (["export", "{run}", "{tmp}/x.tar"], "ends with .zip"),
        (["diff", "{run}", "{tmp}"], "config.json: not found"),
        (["manifest", "--root", "{tmp}"], "config.json: not found"),
    ],
)
def test_wrong_words_are_errors_for_people(small_run, tmp_path, words, says, monkeypatch):
    monkeypatch.chdir(ROOT)
    said = pudle(*(word.format(run=small_run, tmp=tmp_path) for word in words), status=2)
    assert said.startswith("Error: ") and says in said and "Traceback" not in said


DRAWN = ("tables robustness", "figures robustness", "verdicts")  # from rows
DAMAGES = {
    "claims.csv": ["claims --root {run}", "diff {run} {other}", "diff {other} {run}", "report --root {run}"],
    "published.csv": ["diff {run} {other}", "report --root {run}"],
    "cells.csv": ["report --root {run}"],
    "tables/robustness.csv": ["figures robustness --root {run}", "diff {other} {run}"],
    "config.json": [f"{command} --root {{run}}" for command in (*DRAWN, "coverage", "published", "report")],
    "plan.json": [f"{command} --root {{run}}" for command in (*DRAWN, "coverage", "published", "report")],
    f"{CELL}*/rows.csv": [f"{command} --root {{run}}" for command in DRAWN],
    f"{CELL}*/cell.json": ["coverage --root {run}", "report --root {run}"],
}


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "{}", "[" * 10**5, "\0"])
@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file_is_an_error_for_people(small_run, copy, name, content):
    (file,) = copy.glob(name)
    file.write_text(content)
    for command in DAMAGES[name]:
        said = pudle(*command.format(run=copy, other=small_run).split(), status=2)
        assert said.startswith("Error: ") and file.name in said and "Traceback" not in said and len(said.splitlines()) == 1


def test_trace_tells_of_an_empty_table(copy):
    (rows,) = copy.glob(f"{CELL}*/rows.csv")
    for file, traced in ((rows, rows), (copy / "tables/robustness.csv", copy / "figures/robustness/curves.csv")):
        file.write_text("")
        said = pudle("trace", traced, "--row", 1, status=2).splitlines()
        assert said[-1].startswith(f"Error: {file}: cannot be read as a table")


def test_diff_names_files_that_are_not_what_their_cells_wrote(small_run, copy):
    rows, timings = (cell_file(copy, name) for name in ("rows.csv", "timings.csv"))
    rows.write_text("")
    timings.unlink()
    assert diff.diff(Run(small_run), Run(copy)) == {
        "damaged": [
            {"run": "second", "file": rows.relative_to(copy).as_posix(), "found": "is not the file that the cell wrote"},
            {"run": "second", "file": timings.relative_to(copy).as_posix(), "found": "is missing"},
        ]
    }
    assert "rows.csv" in pudle("diff", copy, small_run, status=1)


def test_a_run_that_is_not_complete_has_no_manifest(copy):
    (copy / "claims.md").unlink()
    assert "claims.md: missing" in pudle("manifest", "--root", copy, "--snakefile", ROOT / "Snakefile", status=2)


def test_diff_compares_the_libraries_of_runs_whichever_cells_had_loaded_them(small_run, copy):
    path = cell_file(copy, "cell.json")
    made = json.loads(path.read_text())["provenance"]
    edit_json(provenance=made | {"blas": made["blas"][:1] * 2})(path)
    assert diff.diff(Run(small_run), Run(copy)) == {}
    edit_json(provenance=made | {"blas": ["openblas 9"]})(path)
    assert [row["what"] for row in diff.diff(Run(small_run), Run(copy))["versions"]] == ["blas"]


def test_diff_tells_settings_versions_verdicts_and_numbers(small_run, copy):
    assert pudle("diff", small_run, copy) == "nothing changed except times\n"
    edit_json(seeds=2)(copy / "config.json")
    scale("mean", factor=1.5)(copy / "tables/robustness.csv")
    edit_csv(lambda table: table.assign(verdict="SUPPORTED"))(copy / "claims.csv")
    path = cell_file(copy, "cell.json")
    record = json.loads(path.read_text())
    record["provenance"]["packages"]["torch"] = "3.0"
    edit_json(status="failed", provenance=record["provenance"])(path)
    sections = diff.diff(Run(small_run), Run(copy))
    assert set(sections) == {"settings", "cells", "versions", "verdicts", "numbers"}
    assert sections["settings"] == [{"key": "seeds", "first": 3, "second": 2}]
    assert [row["second"] for row in sections["cells"]] == ["failed"] and sections["versions"][0]["what"] == "torch"
    (numbers,) = sections["numbers"]
    assert numbers["changed"].startswith("1 of ") and numbers["came"] == numbers["went"] == 0
    assert "verdicts" in pudle("diff", small_run, copy, status=1)
    assert {row["second"] for row in sections["verdicts"]} == {"SUPPORTED", "holds here"}


def test_diff_with_a_run_from_before_claims_had_kinds(small_run, copy):
    edit_csv(lambda table: table.drop(columns="kind"))(copy / "claims.csv")
    assert all(row["second"] not in ("undecided here", "not run") for row in diff.diff(Run(small_run), Run(copy))["verdicts"])
