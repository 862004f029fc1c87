"""Build the documentation site: ``python tools/build_docs.py [RESULTS]``, which `make docs` runs.

Gathers the repository's Markdown into build/docs, writes a page for each experiment and each public module, and lets mkdocs build
site/ strictly: a broken link or an unknown reference is an error. Figures and verdicts are those of the run in the folder RESULTS.
Without this argument Snakemake first makes them from the reference results, into build/paper.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path

import click
import pandas as pd
import yaml

import pudle
from pudle import experiments
from pudle.analysis import comparison
from pudle.analysis.claim import KINDS
from pudle.analysis.report import IN_PAPER
from pudle.analysis.verdicts import worded
from pudle.cli import SECTIONS
from pudle.cli import main as command_line

ROOT = Path(__file__).parents[1]
STAGE = Path("build/docs")
PAGES = {
    "README.md": "index.md",
    "config/README.md": "configuration.md",
    "benchmarks/README.md": "benchmarks.md",
    "results/README.md": "results.md",
    "results/reference/README.md": "reference-cells.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "CITATION.cff": "CITATION.cff",
    "LICENSE": "LICENSE.txt",
    "pudle/methods": "api/methods.md",
    "Dockerfile": "Dockerfile.txt",
}
LINK = re.compile(r"(?<=\]\()(?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?(?=\))")
NO_RUN = "This site was built without results of this experiment: there are no figures of it."
DASHED = (
    "Our versions of the figures of the paper. Thin dashed lines are the published curves, where our settings differ from the paper's"
    " only in sizes and length of the run. The sentence above each figure says what the paper shows with it."
)
MORE = "Figures that are not in the paper. [Those that are](paper.md) have a page of their own."
TARGETS = ("figures", "verdicts", "published")


def from_the_reference() -> Path:
    """The folder with figures, verdicts and published values at the paper's sizes, from the reference results alone."""
    options = ["--configfile", "config/paper.yaml", "--config", "results=build"]
    subprocess.run(
        [Path(sys.executable).parent / "snakemake", *options, "--quiet", "all", "--", *TARGETS], cwd=ROOT, check=True
    )
    return ROOT / "build" / "paper"


def run_in(folder: str) -> Path:
    """The folder of a run; SystemExit if none has finished there."""
    if not (Path(folder) / "claims.csv").is_file():
        raise SystemExit(
            f"RESULTS={folder}: there is no finished run (claims.csv is missing). `make paper` makes results/paper."
        )
    return Path(folder)


def place(source: str) -> str:
    """The place of a file of the repository in the site. Raises ValueError if it has none."""
    if source in PAGES:
        return PAGES[source]
    if source.startswith("docs/") and (ROOT / source).exists():
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
    """One experiment: its figures and verdicts, published values, its claims, its settings."""
    parts = [f"# {experiment}", str(import_module(f"pudle.experiments.{experiment}").__doc__), origin(results)]
    parts += ["## Figures", *(figures(experiment, results, stage) or [NO_RUN])]
    parts += ["## Claims", claims(experiment, results), *published_values(experiment, results)]
    parts += ["## Settings", "| key | meaning |\n| --- | --- |\n" + "\n".join(settings(experiment))]
    return "\n\n".join(parts) + "\n"


def plain(text: str) -> str:
    """``text`` in one line: outside of `code`, characters that mean something in Markdown are escaped."""
    return re.sub(r"(`[^`]*`)|([\\*_|<\[\]])", lambda found: found[1] or f"\\{found[2]}", " ".join(text.split()))


def origin(results: Path) -> str:
    """Where figures and verdicts of a page come from."""
    path = results / "config.json"
    if not path.is_file():
        return "This site was built without the results of a run."
    scale = json.loads(path.read_text(encoding="utf-8"))["scale"]
    return (
        f"Figures and verdicts on this page are those of a run at the scale `{scale}`. Small print in each figure counts the cells that"
        " were taken from [reference results](../reference-cells.md) and those that have not been run."
    )


def figures(experiment: str, results: Path, stage: Path, of_the_paper: bool | None = None) -> list[str]:
    """Each figure that the run has drawn, with its caption; copies the images.

    of_the_paper : take only figures that are in the paper (true) or only others (false)
    """
    folder, found = stage / "figures" / experiment, []
    for figure in experiments.get(experiment).figures:
        image = results / "figures" / experiment / f"{figure.name}.png"
        if image.is_file() and of_the_paper in (None, bool(figure.paper)):
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(image, folder)
            shows = [f"**{plain(figure.paper)}**"] if figure.paper else []
            path = f"../figures/{experiment}/{figure.name}.png"
            link = f"[![{experiment}: {figure.name}]({path}){{ .figure loading=lazy }}]({path})"  # opens large
            found.append("\n\n".join([*shows, link, f"*{plain(figure.caption)}*"]))
    return found


def gallery(title: str, introduction: str, results: Path, stage: Path, names: Iterable[str], of_the_paper: bool) -> str:
    """A page of the figures of all experiments, one section per experiment."""
    parts = [f"# {title}", introduction, origin(results)]
    for name in names:
        if found := figures(name, results, stage, of_the_paper):
            parts += [
                f"## {name}",
                f"{import_module(f'pudle.experiments.{name}').__doc__} [Verdicts]({name}.md#claims)",
                *found,
            ]
    return "\n\n".join(parts) + "\n"


def published_values(experiment: str, results: Path) -> list[str]:
    """The published values of an experiment beside ours, as a section; nothing for an experiment without any."""
    path = results / "published.csv"
    if not path.is_file():
        return []
    rows = [row for row in pd.read_csv(path, keep_default_na=False).itertuples() if row.experiment == experiment]
    lines = [f"| {row.id} | {row.published} | {_rounded(row.ours)} | {row.verdict} |" for row in rows]
    head = ["| value | published | ours | verdict |", "| --- | --- | --- | --- |"]
    return ["## Published values", "\n".join([*head, *lines]), comparison.RULE] if lines else []


def _rounded(value: str | float) -> str:
    return f"{float(value):.3g}" if str(value) else ""


def licence_page() -> str:
    """The licence, and how to cite the paper and the suite."""
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    (paper,) = cited["references"]
    authors = " and ".join(f"{author['family-names']}, {author['given-names']}" for author in paper["authors"])
    (preprint,) = paper["identifiers"]
    entries = f"""@article{{pudle-paper,
  title = {{{paper["title"]}}},
  author = {{{authors}}},
  journal = {{{paper["journal"]}}},
  year = {{{paper["year"]}}},
  note = {{{preprint["value"]}}}
}}

@software{{pudle-suite,
  title = {{{cited["title"]}}},
  author = {{{{{cited["authors"][0]["name"]}}}}},
  version = {{{cited["version"]}}}
}}"""
    return (
        f"# Licence and citation\n\n## Citation\n\n{cited['message']} As BibTeX, from [CITATION.cff](CITATION.cff):\n\n"
        f"```bibtex\n{entries}\n```\n\n## Licence\n\n{cited['license']}:\n\n"
        f"```text\n{(ROOT / 'LICENSE').read_text(encoding='utf-8').strip()}\n```\n"
    )


def claims(experiment: str, results: Path) -> str:
    """The claims of an experiment as a table, with the verdicts of the run."""
    path = results / "claims.csv"
    judged = (
        pd.read_csv(path, keep_default_na=False, dtype=str) if path.is_file() else pd.DataFrame(columns=["claim", "verdict"])
    )
    verdicts = dict(zip(judged.claim, judged.verdict, strict=True))
    lines = []
    for claim in experiments.get(experiment).claims:
        verdict = worded(claim.kind, verdicts.get(claim.id, "no run here"))
        lines.append(f"| [{plain(claim.statement)}](../claims.md#{claim.id}) | {KINDS[claim.kind]} | {verdict} |")
    return "\n".join(["| claim | whose | verdict |", "| --- | --- | --- |", *lines])


def command_page(text: str) -> str:
    """The page about the command line, with the help of every command."""
    context = click.Context(command_line, info_name="pudle", terminal_width=100)  # not that of the terminal
    parts = [text.rstrip()]
    listed = [name for names in SECTIONS.values() for name in names]
    for name in [*listed, *sorted(set(command_line.commands) - set(listed))]:
        command = command_line.commands[name]
        inner = click.Context(command, info_name=name, parent=context)
        parts.append(f"## {name}\n\n```text\n{command.get_help(inner)}\n```")
    return "\n\n".join(parts) + "\n"


def settings(experiment: str) -> Iterator[str]:
    for key, field in experiments.get(experiment).settings.model_fields.items():
        yield f"| `{key}` | {plain(field.description)} |"


def api_pages() -> dict[str, str]:
    """Page of the site → its Markdown: public functions, the estimator, and each public module."""
    homes = {name: f"pudle.{module}" for name, module in pudle._HOME.items()}
    functions = [f"::: {module}.{name}" for name, module in homes.items() if module != "pudle.estimator"]
    functions += ["::: pudle.core.unrolling.Unrolling", "::: pudle.data.synthetic.SparseData"]  # their arguments and results
    pages = {
        "functions": "# Functions\n\nEach is `pudle.NAME`. Arrays are torch tensors of float32 or float64, on any device:"
        " n samples, m features, p atoms.\n\n" + "\n\n".join(functions),
        "estimator": "# pudle.UnrolledDictionaryLearning\n\n::: pudle.estimator.UnrolledDictionaryLearning\n"
        "    options: { inherited_members: [fit_transform, get_params, set_params] }",
        "errors": "# Errors\n\nThe error that pudle raises for mistakes of the user.\n\n::: pudle.errors.PudleError",
    }
    for name, module in pudle._MODULES.items():
        options = "    options: { show_root_heading: false, show_root_toc_entry: false }"
        pages[name] = f"# pudle.{name}\n\n::: pudle.{module}\n{options}"
    registered = [
        f"::: pudle.harness.plugins.Registry.{name}" for name in ("register", "names", "get", "validate", "source_file")
    ]
    load = "::: pudle.harness.plugins.load\n    options: { heading: load_plugins, toc_label: load_plugins }"
    pages["methods"] += "\n\n".join(["", *registered, load])
    return {f"api/{name}.md": text + "\n" for name, text in pages.items()}


def addresses() -> dict[str, str]:
    """The settings of mkdocs that name public addresses: those which [project.urls] in pyproject.toml has."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    return {key: urls[name] for key, name in {"repo_url": "Repository", "site_url": "Documentation"}.items() if name in urls}


def write(stage: Path, page: str, text: str) -> None:
    (stage / page).parent.mkdir(parents=True, exist_ok=True)
    (stage / page).write_text(text, encoding="utf-8")


def nav(own: list, made: dict[str, list[str]], stage: Path) -> list:
    """The navigation: empty sections contain the generated pages; pages that are not listed are under "More"."""
    listed = [{title: made.get(title) or pages} for section in own for title, pages in section.items()]
    named = set(re.findall(r"[\w/.-]+\.md", str(listed)))
    more = [page for page in sorted(path.relative_to(stage).as_posix() for path in stage.rglob("*.md")) if page not in named]
    return [*listed, *([{"More": more}] if more else [])]


def main(results: Path) -> None:
    stage = ROOT / STAGE
    shutil.rmtree(stage, ignore_errors=True)
    gather(stage)
    pages = {f"experiments/{name}.md": experiment_page(name, results, stage) for name in experiments.EXPERIMENTS}
    pages["experiments/paper.md"] = gallery("The figures of the paper", DASHED, results, stage, IN_PAPER, True)
    pages["experiments/gallery.md"] = gallery("Other figures", MORE, results, stage, experiments.EXPERIMENTS, False)
    pages["licence.md"] = licence_page()
    pages |= api_pages()
    pages["command-line.md"] = command_page((stage / "command-line.md").read_text(encoding="utf-8"))
    for page, text in pages.items():
        write(stage, page, text)
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    own = yaml.safe_load(config[config.index("nav:") :])["nav"]
    made = {
        "Experiments": [
            "experiments/paper.md",
            "experiments/gallery.md",
            *(f"experiments/{name}.md" for name in experiments.EXPERIMENTS),
        ]
    }
    made["API"] = [{"Estimator": page} if page == "api/estimator.md" else page for page in api_pages()]
    derived = {
        "INHERIT": "../mkdocs.yml",
        "docs_dir": "docs",
        "site_dir": "../site",
        "nav": nav(own, made, stage),
        **addresses(),
    }
    (ROOT / "build" / "mkdocs.yml").write_text(yaml.safe_dump(derived, sort_keys=False), encoding="utf-8")
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    subprocess.run([sys.executable, "-m", "mkdocs", "--quiet", "build", "--strict", "--config-file", "build/mkdocs.yml"],
                   cwd=ROOT, env=environment, check=True)  # fmt: skip


if __name__ == "__main__":
    main(run_in(sys.argv[1]) if sys.argv[1:] else from_the_reference())
