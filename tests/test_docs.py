"""What the documentation site is made from; that it builds strictly is `make docs`."""

import inspect
import re
from collections.abc import Iterator

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


def public_names() -> dict[str, object]:
    """Every public function and class, and the methods of its own of each class, by its name for users."""
    found: dict[str, object] = {f"pudle.{name}": getattr(pudle, name) for name in pudle._HOME}
    for name in pudle._MODULES:
        module = getattr(pudle, name)
        own = {key: value for key, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__}
        found |= {f"pudle.{name}.{key}": value for key, value in own.items() if not key.startswith("_")}
    for name, value in list(found.items()):
        members = vars(value).items() if inspect.isclass(value) else ()
        found |= {f"{name}.{key}": member for key, member in members if inspect.isfunction(member) and key[0] != "_"}
    return found


SHAPE = re.compile(r"\((\.\.\.|[a-z][\w']*( [a-z]['²]?)*)(, [\w' ²]*)+\)")  # (n, p), (m,), (n h w, p k²), (..., h, w)
REFUSES = re.compile(r"PudleError\(|\bcheck_\w+\(|_check_\w+\(|\bnumber\(|\bone_of\(|\bUnrolling\(")
SOURCE = re.compile(r"Source:|derived\s+above|\(.*, (?:19|20)\d\d\)|\((?:19|20)\d\d\)|formula is that of")
NO_SOURCE = {"decode", "fit_size", "operator_norm", "check_image_shapes", "pixel_codes"}  # what the page's introduction defines


def missing(name: str, public) -> Iterator[str]:
    """What the docstring of a public name lacks."""
    text = inspect.getdoc(public)
    if not text:
        yield f"{name}: a docstring"
        return
    parameters = inspect.signature(public).parameters.values()
    tensors = [p.name for p in parameters if re.search(r"\bTensor\b", str(p.annotation)) and "float" not in str(p.annotation)]
    yield from (
        f"{name}: {argument}" for argument in tensors if not re.search(rf"``{argument}``|^{argument} : ", text, re.MULTILINE)
    )
    if tensors and not SHAPE.search(text):
        yield f"{name}: a shape"
    if not inspect.isfunction(public):
        return
    if REFUSES.search(inspect.getsource(public)) and not re.search(r"Raises?\s+:class:", text):
        yield f"{name}: errors"
    function = public.__module__.startswith("pudle.core") and public.__name__ == public.__qualname__
    if function and public.__name__ not in NO_SOURCE and not SOURCE.search(text):
        yield f"{name}: a source"


def test_docstrings_of_public_names_give_arguments_shapes_errors_and_sources():
    names = public_names()
    assert len(names) > 40
    assert [gap for name, public in names.items() for gap in missing(name, public)] == []


def test_docstrings_become_markdown():
    pytest.importorskip("griffe")
    pytest.importorskip("latex2mathml")
    import docstrings

    text = "Codes of :class:`Unrolling`.\n\nlam : the level,\n    at least 0\nstep, n : others\n\n.. math::\n    x^2\n\nEnd :math:`y`."
    lines = docstrings.markdown(text).splitlines()
    assert lines[0] == "Codes of `Unrolling`."
    assert lines[2:5] == ["- **lam**: the level,", "    at least 0", "- **step, n**: others"]
    assert [line.count("<math") for line in lines if "<math" in line] == [1, 1] and "math::" not in "".join(lines)
    linked = docstrings.markdown("See :func:`~psnr`::\n\n    psnr(x, y)", {"psnr": "pudle.core.metrics.psnr"}.get)
    assert linked.startswith('See <autoref identifier="pudle.core.metrics.psnr" optional><code>psnr</code></autoref>:\n')


def test_pages_of_experiments_show_what_the_run_has(tmp_path):
    import build_docs

    without = build_docs.experiment_page("learning", tmp_path, tmp_path / "stage")
    assert build_docs.NO_RUN in without and "no run here" in without
    (tmp_path / "figures" / "learning").mkdir(parents=True)
    (tmp_path / "figures" / "learning" / "dictionary_error.png").write_bytes(b"png")
    (tmp_path / "claims.csv").write_text("claim,verdict\nae-ls-best,SUPPORTED\n")
    (tmp_path / "config.json").write_text('{"scale": "toy"}')
    (tmp_path / "published.csv").write_text(
        "id,experiment,published,ours,verdict\n"
        "learning-25-dec,learning,0.246,0.25012,replicates\nunrolling-codes,unrolling,1,,not run\n"
    )
    page = build_docs.experiment_page("learning", tmp_path, tmp_path / "stage")
    assert "![learning: dictionary_error](../figures/learning/dictionary_error.png)" in page and "SUPPORTED" in page
    assert "scale `toy`" in page and "| learning-25-dec | 0.246 | 0.25 | replicates |" in page and "unrolling-codes" not in page
    assert (tmp_path / "stage" / "figures" / "learning" / "dictionary_error.png").read_bytes() == b"png"


def test_the_page_of_commands_has_every_command_and_help_lists_users_first():
    import build_docs

    page = build_docs.command_page("# Command line\n")
    assert {f"## {name}" for name in main.commands} <= set(page.splitlines())
    listed = [name for names in SECTIONS.values() for name in names]
    assert len(listed) == len(set(listed)) and set(listed) <= set(main.commands)
    assert list(SECTIONS)[-1].startswith("Stages") and "cell" in list(SECTIONS.values())[-1]


def test_text_that_looks_like_markdown_stays_as_it_is():
    import build_docs

    assert build_docs.plain("the code z* and\n z_T of |x|, `a_b`") == r"the code z\* and z\_T of \|x\|, `a_b`"


def test_figures_of_the_paper_and_others_have_a_page_each(tmp_path):
    import build_docs

    (tmp_path / "figures" / "learning").mkdir(parents=True)
    for name in ("dictionary_error", "dictionary_error_aligned"):
        (tmp_path / "figures" / "learning" / f"{name}.png").write_bytes(b"png")
    of_paper, others = (
        build_docs.gallery("A title", "Text.", tmp_path, tmp_path / "stage", ("unrolling", "learning"), of_the_paper)
        for of_the_paper in (True, False)
    )
    assert "learning/dictionary_error.png" in of_paper and "aligned" not in of_paper and "## unrolling" not in of_paper
    assert "learning/dictionary_error_aligned.png" in others and "dictionary_error.png" not in others


def test_a_folder_without_a_finished_run_is_refused(tmp_path):
    import build_docs

    with pytest.raises(SystemExit, match=f"RESULTS={tmp_path}: there is no finished run"):
        build_docs.run_in(str(tmp_path))
    (tmp_path / "claims.csv").touch()
    assert build_docs.run_in(str(tmp_path)) == tmp_path


def test_the_page_about_the_licence_has_its_text_and_the_paper_to_cite():
    import build_docs

    page = build_docs.licence_page()
    assert "Redistribution and use in source and binary forms" in page
    assert "author = {Tolooshams, Bahareh and Ba, Demba}" in page and f"version = {{{pudle.__version__}}}" in page


def test_the_page_of_the_command_line_does_not_depend_on_the_terminal(monkeypatch):
    import build_docs

    pages = set()
    for columns in ("50", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        pages.add(build_docs.command_page("# Commands"))
    assert len(pages) == 1
