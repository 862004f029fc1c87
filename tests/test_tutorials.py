"""Tutorials run as they are written, and do what they say."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from workflows import ROOT, Workflow

BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and text of every block of code that a reader pastes, in order."""
    return BLOCK.findall((ROOT / "docs" / "tutorials" / f"{page}.md").read_text(encoding="utf-8"))


def run(page: str, folder: Path) -> dict:
    """All blocks of a page in ``folder``: commands by a shell, Python in one session; what that session knows at its end."""
    here = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": here, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    session: dict = {}
    for language, text in blocks(page):
        if language == "python":
            exec(compile(text, f"{page}.md", "exec"), session)
        else:
            text = re.sub(r"^pudle ", f"{sys.executable} -m pudle ", text, flags=re.MULTILINE)
            done = subprocess.run(["bash", "-ec", text], cwd=folder, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, text + done.stdout + done.stderr
            session["said"] = session.get("said", "") + done.stdout
    return session


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    return tmp_path


def test_learn_a_dictionary(tmp_path):
    known = run("learn-a-dictionary", tmp_path)
    assert known["errors"]["ae-ls"] < known["errors"]["dec"] < known["first"]


def test_denoise_a_photograph(tmp_path):
    known = run("denoise-a-photograph", tmp_path)
    assert known["after"] > known["before"]
    assert (tmp_path / "denoised.png").is_file()


def test_add_a_method(tmp_path):
    from pudle import methods

    try:
        known = run("add-a-method", tmp_path)
        assert known["after"] < known["before"]
        assert "FAIL" not in known["said"]
    finally:
        sys.modules.pop(methods.REGISTRY.classes.pop("my-method").__module__)


@pytest.mark.slow
def test_audit_a_number(smoke: Workflow, tmp_path):
    """On a smoke run that is there already: `make smoke` would set up an environment first."""
    shutil.copytree(smoke.root, tmp_path / "results" / "smoke")
    (tmp_path / "Makefile").write_text("smoke:\n\t@true\n", encoding="utf-8")
    said = run("audit-a-number", tmp_path)["said"]
    assert said.count("all is well") == 3 and "again" in said
