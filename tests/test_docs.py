"""What the documentation site is made from; that it builds strictly is `make docs`."""

import pytest
from workflows import ROOT

import pudle
from pudle.cli import SECTIONS, main


@pytest.fixture(autouse=True)
def tools(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))


def test_links_to_files_become_links_to_pages():
    import build_docs

    text = (
        "[a](docs/theory.md#x) [b](CONTRIBUTING.md) [c](#here) [d](https://example.org/docs/a.md) ![e](docs/images/scaling.png)"
    )
    assert build_docs.relinked(text, "README.md") == (
        "[a](theory.md#x) [b](contributing.md) [c](#here) [d](https://example.org/docs/a.md) ![e](images/scaling.png)"
    )
    assert build_docs.relinked("[a](../../README.md) [b](../theory.md)", "docs/tutorials/add-a-method.md") == (
        "[a](../index.md) [b](../theory.md)"
    )


def test_a_link_to_a_file_that_the_site_lacks_is_an_error_that_names_both():
    import build_docs

    with pytest.raises(ValueError, match=r"README\.md: Makefile has no place in the site"):
        build_docs.relinked("[a](Makefile)", "README.md")


def test_every_public_name_has_its_place_in_the_reference():
    import build_docs

    text = "\n".join(build_docs.api_pages().values())
    for name, module in (pudle._HOME).items():
        assert f"::: pudle.{module}.{name}" in text
    for module in pudle._MODULES.values():
        assert f"::: pudle.{module}\n" in text


def test_docstrings_become_markdown():
    pytest.importorskip("griffe")
    pytest.importorskip("latex2mathml")
    import docstrings

    text = "Codes of :class:`Unrolling`.\n\nlam : the level,\n    at least 0\nstep, n : others\n\n.. math::\n    x^2\n\nEnd :math:`y`."
    lines = docstrings.markdown(text).splitlines()
    assert lines[0] == "Codes of `Unrolling`."
    assert lines[2:5] == ["- **lam**: the level,", "    at least 0", "- **step, n**: others"]
    assert [line.count("<math") for line in lines if "<math" in line] == [1, 1] and "math::" not in "".join(lines)


def test_pages_of_experiments_show_what_the_run_has(tmp_path):
    import build_docs

    without = build_docs.experiment_page("learning", tmp_path, tmp_path / "stage")
    assert "No figures yet" in without and "no run here" in without
    (tmp_path / "figures" / "learning").mkdir(parents=True)
    (tmp_path / "figures" / "learning" / "dictionary_error.png").write_bytes(b"png")
    (tmp_path / "claims.csv").write_text("claim,verdict\nae-ls-best,SUPPORTED\n")
    page = build_docs.experiment_page("learning", tmp_path, tmp_path / "stage")
    assert "![dictionary_error](../figures/learning/dictionary_error.png)" in page and "SUPPORTED" in page
    assert (tmp_path / "stage" / "figures" / "learning" / "dictionary_error.png").read_bytes() == b"png"


def test_the_page_of_commands_has_every_command_and_help_lists_users_first():
    import build_docs

    page = build_docs.command_page("# Command line\n")
    assert {f"## {name}" for name in main.commands} <= set(page.splitlines())
    listed = [name for names in SECTIONS.values() for name in names]
    assert len(listed) == len(set(listed)) and set(listed) <= set(main.commands)
    assert list(SECTIONS)[-1].startswith("Stages") and "cell" in list(SECTIONS.values())[-1]
