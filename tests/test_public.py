"""What a public repository tells about itself: licence, citation, and that its files agree."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from rocrate.rocrate import ROCrate

import pudle

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# Citation File Format 1.2.0: what a file must have, and what it may have
REQUIRED = {"cff-version", "message", "title", "authors"}
ALLOWED = REQUIRED | {
    *("abstract", "commit", "contact", "date-released", "doi", "identifiers", "keywords", "license", "license-url"),
    *("preferred-citation", "references", "repository", "repository-artifact", "repository-code", "type", "url", "version"),
}


def test_the_citation_is_of_this_version_and_names_the_paper():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert REQUIRED <= set(cited) <= ALLOWED
    assert (cited["cff-version"], cited["type"], str(cited["version"])) == ("1.2.0", "software", pudle.__version__)
    assert cited["license"] == PROJECT["license"]
    assert cited["authors"] == [{"name": author["name"]} for author in PROJECT["authors"]]
    assert all(isinstance(word, str) for word in cited["keywords"])
    (paper,) = cited["references"]
    assert {"type", "title", "authors"} <= set(paper) and [author["family-names"] for author in paper["authors"]] == [
        "Tolooshams",
        "Ba",
    ]
    (preprint,) = paper["identifiers"]
    assert preprint["type"] == "other" and re.fullmatch(r"arXiv:\d{4}\.\d{5}", preprint["value"])


def test_public_addresses_are_the_same_in_both_files_or_in_neither():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    urls = PROJECT["urls"]
    assert (cited.get("repository-code"), cited.get("url")) == (urls.get("Repository"), urls.get("Documentation"))


def test_licence_and_version_are_the_same_everywhere():
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert PROJECT["license"] == "BSD-3-Clause" and licence.startswith("BSD 3-Clause License")
    assert PROJECT["version"] == pudle.__version__
    assert PROJECT["authors"][0]["name"] in licence


def test_the_manifest_gives_pudles_licence_to_pudles_code_alone(small_run):
    crate = ROCrate(small_run)
    licences = {entity.id: entity.get("license") for entity in crate.data_entities}
    ours = {name for name, licence in licences.items() if licence is not None}
    assert ours == {name for name in licences if name.startswith("code/") and not name.startswith("code/plugins/")}
    assert {licences[name].id for name in ours} == {f"https://spdx.org/licenses/{PROJECT['license']}"}
    assert crate.license["name"] == "not stated"


def test_the_changelog_keeps_its_form():
    lines = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    headings = [line for line in lines if line.startswith("## ")]
    assert headings[0] == "## [Unreleased]"
    assert all(re.fullmatch(r"## \[(Unreleased|\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2})\]?", line) for line in headings)
    kinds = {line for line in lines if line.startswith("### ")}
    assert kinds <= {f"### {kind}" for kind in ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")}


@pytest.mark.parametrize("page", sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/*.md")))
def test_reference_pages_keep_no_diary(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    if (
        page == "docs/reading-the-results.md"
    ):  # which claims were set or changed after results had been seen, and when, belongs there
        text = re.sub(r"### Claims that were set or changed.*", "", text, flags=re.DOTALL)
    assert not re.search(r"\b(until|since) \d{4}-\d{2}-\d{2}", text, flags=re.IGNORECASE), "this belongs into CHANGELOG.md"


def _make_targets(text: str) -> set[str]:
    return {word for words in re.findall(r"\bmake ([a-z -]+)", text) for word in words.split()}


def test_what_github_runs_is_what_is_run_here():
    rules = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    flows = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in ROOT.glob(".github/workflows/*.yml")}
    commands = [
        step["run"] for flow in flows.values() for job in flow["jobs"].values() for step in job["steps"] if "run" in step
    ]
    on_github = _make_targets("\n".join(command.replace("PYTHON=python", "") for command in commands))
    here = _make_targets(re.sub(r"#.*", "", (ROOT / ".ci" / "run").read_text(encoding="utf-8")))
    assert here == {"lint", "docs", "test", "test-slow"} and here <= on_github <= rules
    oldest, newest = flows["test"]["jobs"]["linux"]["strategy"]["matrix"]["python"][::3]
    assert PROJECT["requires-python"] == f">={oldest}" and (oldest, newest) == ("3.11", "3.14")


def test_hooks_before_a_commit_are_linters_that_the_set_up_installs():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    lint = (ROOT / "Makefile").read_text(encoding="utf-8").split("\nlint:")[1].split("\n\n")[0]
    for hook in hooks:
        program = hook["entry"].removeprefix(".venv/bin/").split()[0]
        assert f"$(BIN)/{program}" in lint, hook["id"]


def test_the_container_installs_the_pins_before_the_code():
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = [line.split()[1:-1] for line in lines if line.startswith("COPY")]
    assert copied == [["requirements.txt"], ["."]]
    assert [line for line in lines if line.startswith("FROM")] == ["FROM debian:trixie-slim"]
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert {".venv", ".git", "results/*"} <= set(ignored)
