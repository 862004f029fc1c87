"""Build the documentation site: ``python tools/build_docs.py [RESULTS]``, which `make docs` runs.

Gathers the repository's Markdown into build/docs, writes a page for each experiment and each public module, and lets mkdocs build
site/ strictly: a broken link or an unknown reference is an error. Figures and verdicts are those of the run in the folder RESULTS;
results/paper unless given, which `make paper` makes. Without a run there the pages say so.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
import pandas as pd
import yaml

import pudle
from pudle import experiments
from pudle.analysis.claim import KINDS
from pudle.cli import SECTIONS
from pudle.cli import main as command_line

ROOT = Path(__file__).parents[1]
STAGE = Path("build/docs")
PAGES = {
    "README.md": "index.md",
    "config/README.md": "configuration.md",
    "benchmarks/README.md": "benchmarks.md",
    "results/README.md": "results.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "CITATION.cff": "CITATION.cff",
    "LICENSE": "LICENSE.txt",
    "pudle/methods": "api/methods.md",
    "Dockerfile": "Dockerfile.txt",
}
LINK = re.compile(r"(?<=\]\()(?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?(?=\))")
NO_RUN = (
    '!!! note "No figures yet"\n\n    This site was built without the results of a run, so that this page shows neither figures nor'
    " verdicts. `make docs RESULTS=results/paper` takes those of a run.\n"
)


def place(source: str) -> str:
    """Where a file of the repository stands in the site; ValueError for one that does not."""
    if source in PAGES:
        return PAGES[source]
    if source.startswith(("docs/", "results/reference/")) and (ROOT / source).exists():
        return source.removeprefix("docs/")
    raise ValueError(f"{source} has no place in the site: add it to PAGES in tools/build_docs.py")


def relinked(text: str, source: str) -> str:
    """``text`` of the page ``source`` with its links to files of the repository turned into links to pages of the site."""
    here = os.path.dirname(place(source))

    def replaced(found: re.Match) -> str:
        target = os.path.normpath(os.path.join(os.path.dirname(source), found[1]))
        try:
            return os.path.relpath(place(target), here or ".") + (found[2] or "")
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from None

    return LINK.sub(replaced, text)


def gather(stage: Path) -> None:
    """All pages and images of the repository."""
    sources = [path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*") if path.is_file()]
    for source in [*sources, *(name for name in PAGES if (ROOT / name).is_file())]:
        target = stage / place(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.endswith(".md"):
            target.write_text(relinked((ROOT / source).read_text(encoding="utf-8"), source), encoding="utf-8")
        else:
            shutil.copy(ROOT / source, target)


def experiment_page(experiment: str, results: Path, stage: Path) -> str:
    """One experiment: its figures and verdicts, its claims, its settings."""
    parts = [f"# {experiment}", str(import_module(f"pudle.experiments.{experiment}").__doc__), "## Figures"]
    parts += [*figures(experiment, results, stage)] or [NO_RUN]
    parts += ["## Claims", claims(experiment, results)]
    parts += ["## Settings", "| key | meaning |\n| --- | --- |\n" + "\n".join(settings(experiment))]
    return "\n\n".join(parts) + "\n"


def figures(experiment: str, results: Path, stage: Path) -> Iterator[str]:
    """Each figure that the run has drawn, with its caption; copies the images."""
    folder = stage / "figures" / experiment
    for figure in experiments.get(experiment).figures:
        image = results / "figures" / experiment / f"{figure.name}.png"
        if image.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(image, folder)
            yield f"![{figure.name}](../figures/{experiment}/{figure.name}.png)\n\n*{' '.join(figure.caption.split())}*"


def claims(experiment: str, results: Path) -> str:
    """The claims of an experiment as a table, with the verdicts of the run."""
    path = results / "claims.csv"
    judged = (
        pd.read_csv(path, keep_default_na=False, dtype=str) if path.is_file() else pd.DataFrame(columns=["claim", "verdict"])
    )
    verdicts = dict(zip(judged.claim, judged.verdict, strict=True))
    lines = [
        f"| [{claim.statement}](../claims.md#{claim.id}) | {KINDS[claim.kind]} | {verdicts.get(claim.id, 'no run here')} |"
        for claim in experiments.get(experiment).claims
    ]
    return "\n".join(["| claim | whose | verdict |", "| --- | --- | --- |", *lines])


def command_page(text: str) -> str:
    """The page about the command line, with the help of every command."""
    context = click.Context(command_line, info_name="pudle", max_content_width=100)
    parts = [text.rstrip()]
    listed = [name for names in SECTIONS.values() for name in names]
    for name in [*listed, *sorted(set(command_line.commands) - set(listed))]:
        command = command_line.commands[name]
        inner = click.Context(command, info_name=name, parent=context, max_content_width=100)
        parts.append(f"## {name}\n\n```text\n{command.get_help(inner)}\n```")
    return "\n\n".join(parts) + "\n"


def settings(experiment: str) -> Iterator[str]:
    for key, field in experiments.get(experiment).settings.model_fields.items():
        yield f"| `{key}` | {field.description} |"


def api_pages() -> dict[str, str]:
    """Page of the site → its Markdown: public functions, the estimator, and each public module."""
    homes = {name: f"pudle.{module}" for name, module in pudle._HOME.items()}
    functions = [f"::: {module}.{name}" for name, module in homes.items() if module != "pudle.estimator"]
    functions += ["::: pudle.core.unrolling.Unrolling", "::: pudle.data.synthetic.SparseData"]  # what they take and give
    pages = {
        "functions": "# Functions\n\nEach is `pudle.NAME`. Arrays are torch tensors of float32 or float64, on any device.\n\n"
        + "\n\n".join(functions),
        "estimator": "# pudle.UnrolledDictionaryLearning\n\n::: pudle.estimator.UnrolledDictionaryLearning\n"
        "    options: { inherited_members: [fit_transform, get_params, set_params] }",
        "errors": "# Errors\n\nWhat pudle raises where the mistake is the user's.\n\n::: pudle.errors.PudleError",
    }
    for name, module in pudle._MODULES.items():
        options = "    options: { show_root_heading: false, show_root_toc_entry: false }"
        pages[name] = f"# pudle.{name}\n\n::: pudle.{module}\n{options}"
    return {f"api/{name}.md": text + "\n" for name, text in pages.items()}


def write(stage: Path, page: str, text: str) -> None:
    (stage / page).parent.mkdir(parents=True, exist_ok=True)
    (stage / page).write_text(text, encoding="utf-8")


def nav(own: list, made: dict[str, list[str]], stage: Path) -> list:
    """The navigation: empty sections hold what was made; pages that nobody listed stand under "More"."""
    listed = [{title: made.get(title) or pages} for section in own for title, pages in section.items()]
    named = set(re.findall(r"[\w/.-]+\.md", str(listed)))
    more = sorted(path.relative_to(stage).as_posix() for path in stage.rglob("*.md"))
    return [*listed, {"More": [page for page in more if page not in named]}]


def main(results: Path) -> None:
    stage = ROOT / STAGE
    shutil.rmtree(stage, ignore_errors=True)
    gather(stage)
    if not (results / "claims.csv").is_file():
        print(f"{results} holds no finished run: pages have neither figures nor verdicts", file=sys.stderr)
    pages = {f"experiments/{name}.md": experiment_page(name, results, stage) for name in experiments.EXPERIMENTS}
    drawn = [(name, list(figures(name, results, stage))) for name in experiments.EXPERIMENTS]
    gallery = [f"## {name}\n\n" + "\n\n".join(found) for name, found in drawn if found] or [NO_RUN]
    pages["experiments/gallery.md"] = "\n\n".join(["# All figures", *gallery]) + "\n"
    pages |= api_pages()
    pages["command-line.md"] = command_page((stage / "command-line.md").read_text(encoding="utf-8"))
    for page, text in pages.items():
        write(stage, page, text)
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    own = yaml.safe_load(config[config.index("nav:") :])["nav"]
    made = {"Experiments": ["experiments/gallery.md", *(f"experiments/{name}.md" for name in experiments.EXPERIMENTS)]}
    made["API"] = list(api_pages())
    derived = {"INHERIT": "../mkdocs.yml", "docs_dir": "docs", "site_dir": "../site", "nav": nav(own, made, stage)}
    (ROOT / "build" / "mkdocs.yml").write_text(yaml.safe_dump(derived, sort_keys=False), encoding="utf-8")
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    subprocess.run([sys.executable, "-m", "mkdocs", "--quiet", "build", "--strict", "--config-file", "build/mkdocs.yml"],
                   cwd=ROOT, env=environment, check=True)  # fmt: skip


if __name__ == "__main__":
    main(Path(*(sys.argv[1:] or ["results/paper"])))
