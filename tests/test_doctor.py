"""The command line as a person meets it: help in sections, completion, and what the doctor finds."""

import pytest
from click.testing import CliRunner

from pudle.cli import SECTIONS, doctor, main


def test_help_lists_every_command_once_and_the_stages_last():
    text = CliRunner().invoke(main, ["--help"]).output
    lines = text.splitlines()
    starts = [line.split()[0] for line in lines if line.startswith("  ")]
    for name in main.commands:
        assert starts.count(name) == 1, name
    titles = [line.rstrip(":") for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert titles == ["Options", *(title for title in SECTIONS if title in titles)] and titles[-1].startswith("Stages")


def test_a_command_that_no_section_lists_is_not_lost(monkeypatch):
    import click

    monkeypatch.setitem(main.commands, "brand-new", click.Command("brand-new", help="Something new."))
    assert "Others:\n  brand-new" in CliRunner().invoke(main, ["--help"]).output


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion(shell):
    assert "_PUDLE_COMPLETE" in CliRunner().invoke(main, ["completion", shell]).output


def test_names_of_experiments_complete():
    from click.shell_completion import ShellComplete

    found = ShellComplete(main, {}, "pudle", "_PUDLE_COMPLETE").get_completions(["figures"], "le")
    assert [item.value for item in found] == ["learning"]


def test_the_doctor_says_what_is_missing_and_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PUDLE_DATA", str(tmp_path))
    (tmp_path / "Snakefile").touch()
    (tmp_path / "profiles").write_text("workflow/profiles")  # what a ZIP makes of a link
    (tmp_path / "requirements.txt").write_text("numpy==0.0.1\nno-such-package==1.0\n")
    found = {line.what: line for line in doctor.findings(tmp_path, tmp_path)}
    assert found["packages"].how == "wrong" and "no-such-package" in found["packages"].said
    assert found["workflow"].how == "wrong" and "copy workflow/profiles" in found["workflow"].said
    assert found["data bsd68"].how == "note" and "pudle data fetch bsd68" in found["data bsd68"].said
    assert found["data digits"].how == "ok"
    (tmp_path / "requirements.txt").write_text("numpy==0.0.1\n")
    assert "pinned 0.0.1" in doctor._packages(tmp_path / "requirements.txt").said


def test_the_doctor_ends_with_status_1_if_anything_is_wrong(monkeypatch):
    for how, status in (("note", 0), ("wrong", 1)):
        monkeypatch.setattr(doctor, "findings", lambda *where, how=how: [doctor.Line("this", how, "so")])
        assert CliRunner().invoke(main, ["doctor"]).exit_code == status
