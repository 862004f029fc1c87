"""Whatever a user or a stranger puts in: an error for people, never a traceback, and nothing of theirs is run, unpickled or shown raw."""

import copy
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from workflows import ROOT, Workflow, pudle

from pudle import experiments, methods
from pudle.data.images import load_images
from pudle.errors import PudleError
from pudle.harness.record import FORMULAS, Record

CONFIG = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
SOURCES = [ROOT / "config" / "config.yaml"]
NAMES = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["../up", "a/b", "..", "=1+1", "@x", "<b>", "method", "seeds", "n_atoms", "pudle-dec", ""]),
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    NAMES,
    st.sampled_from([0, -1, 10**30, 1e300, float("nan"), float("inf"), "1e-3", "\0", [], {}, [[]], [0, 0]]),
)
WRONG_NUMBERS = st.sampled_from(
    [float("nan"), float("inf"), float("-inf"), 10**30, 1e300, 0, -1, 0.5, 1.0, True, None, "x" * 1000]
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=6
)
FUZZ = {"deadline": None, "derandomize": True, "database": None, "suppress_health_check": list(HealthCheck)}


def places(tree: object, keys: tuple = ()) -> list[tuple]:
    """The keys that lead to every value of a configuration."""
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [keys, *(place for key, value in inside for place in places(value, (*keys, key)))]


@st.composite
def broken(draw) -> object:
    """The default configuration with a value replaced (by anything, or by a number that is nearly right), a key dropped or a key added,
    up to three times."""
    config = copy.deepcopy(CONFIG)
    for _ in range(draw(st.integers(1, 3))):
        *above, last = draw(st.sampled_from(places(config)[1:] or [("scale",)]))
        holder = config
        for key in above:
            holder = holder[key]
        change = draw(st.sampled_from(["replace", "nearly", "nearly", "drop", "add"]))
        if change == "add" and isinstance(holder, dict):
            holder[draw(NAMES)] = draw(VALUES)
        elif change == "drop" and isinstance(holder, dict):
            holder.pop(last, None)
        elif isinstance(holder, dict) or last < len(holder):
            holder[last] = draw(WRONG_NUMBERS if change == "nearly" else VALUES)
    return config


def is_valid_or_a_clear_error(config: object) -> None:
    """The configuration is valid and can be planned, or the error is one paragraph without a traceback."""
    try:
        experiments.validate(config, SOURCES)
    except PudleError as error:
        assert str(error).strip() and "\n" not in str(error) and "Traceback" not in str(error) and len(str(error)) < 5000
        return
    for cell in experiments.plan(config):
        assert (
            re.fullmatch(r"[\w.+-]+", cell.id)
            and not set(cell.id) <= {"."}
            and cell.folder(Path("r")).parent.name == cell.experiment
        )
        json.dumps(dict(cell.settings))


@settings(max_examples=60, **FUZZ)
@given(broken())
def test_a_broken_configuration_is_an_error_for_people(config):
    is_valid_or_a_clear_error(config)


@pytest.mark.slow
@settings(max_examples=500, **FUZZ)
@given(broken() | VALUES)
def test_five_hundred_broken_configurations_are_errors_for_people(config):
    is_valid_or_a_clear_error(config)


@pytest.mark.parametrize(
    "name", ["../up", "a/b", "..", ".", "=1+1", "+x", "-x", "@x", "<b>bold</b>", "", "x" * 61, "a\nb", "a\n"]
)
def test_names_that_would_be_paths_formulas_or_html_are_refused(name):
    for keys in (("baselines", "methods"), ("robustness", "variants"), ("robustness", "methods")):
        config = copy.deepcopy(CONFIG)
        config["experiments"][keys[0]][keys[1]] = {name: {} if keys[1] == "variants" else {"method": "mod"}}
        with pytest.raises(PudleError, match=rf"experiments\.{keys[0]}\.{keys[1]}"):
            experiments.validate(config, SOURCES)


@pytest.mark.parametrize(
    "content",
    [
        b"raise SystemExit",
        b"import sys; sys.exit(0)",
        b"exit('x')",
        b"\0",
        b"\xff\xfe",
        b"def f(): f()\nf()",
        b"raise Exception",
        b"",
    ],
)
def test_a_plugin_that_ends_the_program_is_an_error_for_people(content, tmp_path):
    file = tmp_path / "mine.py"
    file.write_bytes(content)
    with pytest.raises(PudleError, match=r"plugin .*mine\.py"):
        methods.load_plugins([file])
    with pytest.raises(PudleError, match="no such file"):
        methods.load_plugins([tmp_path / "dir" / ".." / "none.py"])


@pytest.mark.parametrize(
    "text", [b"a: [1", b"\xff", b"a: &x [*x]\n", b"!!python/object/apply:os.system ['true']", b"- 1", b"3", b"", b"? [a]\n: 1"]
)
def test_an_overlay_of_any_content_is_an_error_for_people(text, tmp_path):
    """Read as the places of errors are, and merged as far as it is a mapping."""
    path = tmp_path / "mine.yaml"
    path.write_bytes(text)
    with pytest.raises(PudleError):
        experiments.validate({"scale": "x"}, [path])


def test_links_in_data_folders_are_followed_or_told(tmp_path):
    from imageio.v3 import imwrite

    folder, elsewhere = tmp_path / "set12", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    imwrite(elsewhere / "one.png", np.zeros((8, 8), np.uint8))
    (folder / "one.png").symlink_to(elsewhere / "one.png")
    assert list(load_images("set12", tmp_path)) == ["one"]
    (folder / "two.png").symlink_to(elsewhere / "none.png")
    with pytest.raises(PudleError, match=r"two\.png: a symbolic link to a file that does not exist"):
        load_images("set12", tmp_path)
    (folder / "two.png").unlink()
    (folder / "two.png").symlink_to(folder / "two.png")
    with pytest.raises(PudleError, match="to a file that does not exist"):
        load_images("set12", tmp_path)
    (folder / "two.png").unlink()
    (folder / "two.png").symlink_to("/etc/passwd")
    with pytest.raises(PudleError, match=r"two\.png: cannot be read as an image"):
        load_images("set12", tmp_path)


@pytest.mark.parametrize("label", [f"{first}HYPERLINK(1)" for first in FORMULAS])
def test_no_formula_gets_into_a_table(label):
    """An image's file name, say, is a label."""
    record = Record()
    with pytest.raises(PudleError, match="a formula in a spreadsheet"), record.seed(0):
        record.add(0, {"psnr": 1.0}, image=label)
    assert not len(record.rows())


def test_no_text_of_ours_or_theirs_begins_as_a_formula(small_run):
    for path in small_run.rglob("*.csv"):
        table = pd.read_csv(path, keep_default_na=False)
        for column in table.select_dtypes("str"):
            assert not [text for text in table[column] if text.startswith(FORMULAS)], (path, column)


EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&lt;"


def test_the_report_escapes_every_text_that_it_shows(small_run, tmp_path):
    root = shutil.copytree(small_run, tmp_path / "small")
    for name in ("claims", "published", "cells"):
        table = pd.read_csv(root / f"{name}.csv", dtype=str, keep_default_na=False)
        numbers = table.apply(pd.to_numeric, errors="coerce")
        texts = [
            column
            for column in table
            if column not in ("cell", "experiment") and (numbers[column].isna() & (table[column] != "")).any()
        ]
        table[texts] += EVIL
        table.to_csv(root / f"{name}.csv", index=False)
    captions = root / "figures" / "robustness" / "captions.md"
    captions.write_text(captions.read_text().replace("Scale:", f"{EVIL} Scale:"))
    for path in root.glob("cells/*/*/cell.json"):
        record = json.loads(path.read_text())
        record["provenance"] |= {"processor": EVIL, "git": {"commit": EVIL, "clean": True}, "packages": {EVIL: EVIL}}
        path.write_text(json.dumps(record))
    merged = json.loads((root / "config.json").read_text())
    merged["data"]["root"] = EVIL
    (root / "config.json").write_text(json.dumps(merged))
    pudle("report", "--root", root)
    html = (root / "report" / "index.html").read_text()
    assert "<script>alert" not in html and "<img src=x" not in html
    assert html.count("&lt;script&gt;alert(1)") > 20


PICKLES = {
    r"allow_pickle\s*=\s*True": "arrays are loaded without pickles",
    r"\b(pickle|dill|joblib|cloudpickle)\b": "nothing is unpickled",
    r"read_pickle|weights_only\s*=\s*False|yaml\.(unsafe_|full_)?load\b": "nothing that makes objects is loaded",
}


def test_nothing_is_ever_unpickled():
    """`np.load` says allow_pickle=False and `torch.load` weights_only=True wherever they are called."""
    for path in [*(ROOT / "pudle").rglob("*.py"), *(ROOT / "workflow").rglob("*.py"), *(ROOT / "workflow").rglob("*.smk")]:
        code = path.read_text()
        for pattern, why in PICKLES.items():
            assert not re.search(pattern, code.replace("allow_pickle=False", "")), f"{path}: {why}"
        for call in re.findall(r"np\.load\(.*", code):
            assert "allow_pickle=False" in call, path
        for call in re.findall(r"torch\.load\(.*", code):
            assert "weights_only=True" in call, path


def test_a_full_disk_and_a_folder_without_leave_are_one_line(small_run, monkeypatch):
    from pudle.harness import files

    def full(path, save):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(files, "replace", full)
    said = pudle("tables", "robustness", "--root", small_run, status=2)
    assert said == f"Error: {small_run}/tables/robustness.csv: No space left on device\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overlay", "plugin", "says"),
    [
        ("plugins: [mine.py]\n", "raise SystemExit(0)", "fails on import"),
        ("plugins: [mine.py]\n", "import os; os.nothing", "line 1: AttributeError"),
        ("experiments: {baselines: {methods: {../../up: {method: mod}}}}\n", "", "'../../up'"),
        ("scale: ../../up\n", "", "'../../up'"),
        ("seeds: 3\n  x: [\n", "", "not valid JSON or YAML"),  # Snakemake's own word: it reads the file before we do
    ],
)
def test_the_workflow_refuses_in_words_and_writes_nothing(checkout, tmp_path, overlay, plugin, says):
    workflow = Workflow(checkout, tmp_path, {})
    (tmp_path / "toy.yaml").rename(tmp_path / "mine.yaml")
    workflow.overlay = tmp_path / "mine.yaml"
    workflow.overlay.write_text(overlay)
    (tmp_path / "mine.py").write_text(plugin)
    said = workflow(status=1)
    assert says in said and "Traceback" not in said
    assert {path.name for path in tmp_path.iterdir()} <= {"mine.yaml", "mine.py", ".snakemake", "__pycache__"}


def test_the_command_line_has_no_traceback_for_wrong_words(tmp_path):
    done = subprocess.run([sys.executable, "-m", "pudle", "audit", "none"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr == "Error: none: there is no such folder or file\n"
