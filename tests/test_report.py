"""Published values beside ours, the list of claims, and the report, in a browser without a network."""

import itertools
import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import browser
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from workflows import configured

from pudle import cli, experiments
from pudle.analysis import comparison, style
from pudle.analysis.report import vector

ROOT = Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def _learned(n_layers: int, errors: dict[str, list[float]]) -> pd.DataFrame:
    rows = [
        {"n_layers": n_layers, "estimator": name, "seed": seed, "step": step, "quantity": "dictionary_error", "value": value}
        for name, finals in errors.items()
        for seed, final in enumerate(finals)
        for step, value in ((0, 0.6), (600, final))
    ]
    return pd.DataFrame(rows)


PUBLISHED = {"dec": [0.246] * 3, "ae-lasso": [0.171] * 3, "ae-ls": [0.085] * 3}


def _compared(errors: dict[str, list[float]], scale: str) -> pd.DataFrame:
    table = comparison.compare({"learning": _learned(25, errors)}, scale).set_index("id")
    return table.loc[[f"learning-25-{name}" for name in errors]]


def test_published_values_are_told_from_ours_by_the_rule():
    assert set(_compared(PUBLISHED, "paper").verdict) == {"replicates"}
    off = _compared(PUBLISHED | {"ae-ls": [0.05, 0.051, 0.052], "dec": [0.2, 0.5, 0.9]}, "paper")
    assert off.loc["learning-25-ae-ls", "verdict"] == "differs" and off.loc["learning-25-dec", "verdict"] == "cannot tell"
    assert off.loc["learning-25-ae-ls", "ratio"] == pytest.approx(0.051 / 0.085, rel=1e-3)


def test_a_published_value_is_not_judged_from_one_seed_or_from_runs_that_ended_early():
    one = comparison.compare({"learning": _learned(25, {"dec": [0.25], "ae-ls": [0.125] * 2})}, "paper").set_index("id")
    assert one.loc[["learning-25-dec", "learning-25-ae-ls"], "verdict"].tolist() == ["too few seeds"] * 2
    rows = _learned(25, PUBLISHED)
    left = rows[(rows.estimator != "dec") | (rows.seed != 1)]
    table = comparison.compare({"learning": rows}, "paper", {"learning": left}).set_index("id")
    assert table.loc["learning-25-dec", "verdict"] == "runs ended early"
    assert np.isnan(table.loc["learning-25-dec", "ours"]) and table.loc["learning-25-dec", "n_seeds"] == 2
    assert table.loc["learning-25-ae-ls", "order"] == "as published"  # against the others, which are complete
    assert table.loc["learning-25-ae-ls", "verdict"] == "replicates"


def test_only_paper_scale_may_say_that_a_value_replicates():
    assert set(_compared(PUBLISHED, "default").verdict) == {"ordering agrees"}
    swapped = _compared({"dec": [0.1] * 3, "ae-lasso": [0.2] * 3, "ae-ls": [0.05] * 3}, "default")
    assert swapped.verdict.tolist() == ["ordering differs", "ordering differs", "ordering agrees"]
    assert swapped.order.iloc[0] == "not as published against learning-25-ae-lasso"
    alone = comparison.compare({"learning": _learned(25, {"dec": [0.2] * 3})}, "default").set_index("id")
    assert alone.loc["learning-25-dec", "verdict"] == "nothing to order by"


def test_what_was_not_run_is_listed_as_such():
    table = comparison.compare({}, "default")
    assert set(table.verdict) == {"not run"} and len(table) == len(comparison.values()) > 25
    assert table.id.is_unique and (table.source != "").all() and (table.read != "").all()


def test_smallest_and_largest_settings_and_decibels():
    def baselines(of):
        return pd.concat(
            _learned(0, {"dec": [value] * 3})
            .drop(columns=["n_layers", "estimator"])
            .assign(sparsity=s, method_name="pudle-ae-ls")
            for s, value in of.items()
        )

    both, smallest = ["baselines-10-pudle-ae-ls", "baselines-40-pudle-ae-ls"], baselines({10: 8.7e-3})
    for scale, of in (("default", {3: 8.7e-3, 6: 2.6e-2}), ("paper", {5: 1.0, 10: 8.7e-3, 40: 2.6e-2, 50: 1.0})):
        table = comparison.compare({"baselines": baselines(of)}, scale).set_index("id")
        assert table.loc[both, "ratio"].tolist() == pytest.approx([1, 1])
    table = comparison.compare({"baselines": smallest}, "paper").set_index("id")
    assert table.loc[both, "verdict"].tolist() == ["replicates", "not run"]  # not the smallest for the largest
    image = {
        "image": "",
        "estimator": "dec",
        "lam": 0.16,
        "sigma": 25,
        "variant": "",
        "quantity": "psnr_as_published",
        "step": 5,
    }
    rows = pd.DataFrame([image | {"seed": seed, "value": 25.0 + 0.1 * seed, "data_set": "bsd68"} for seed in range(3)])
    other = rows.assign(data_set="another", value=0.0)
    for scale, order in (("paper", [other, rows]), ("default", [rows, other])):  # the set by its name, or the first one
        found = comparison.compare({"denoising": pd.concat(order)}, scale).set_index("id").loc["denoising-0.16-dec"]
        assert found.ratio == pytest.approx(25.1 - 25.24)
        assert found.verdict == {"paper": "replicates", "default": "nothing to order by"}[scale]


def test_the_page_of_claims_is_in_step():
    page = (ROOT / "docs" / "claims.md").read_text()
    described = cli.described_claims() + "\n"
    assert page.endswith(described), "paste the output of `pudle claims --describe` below the introduction of docs/claims.md"
    assert page.removesuffix(described).startswith("# Claims")
    assert max(map(len, page.splitlines())) < 120


def test_the_readme_counts_the_claims_of_the_paper_and_its_theory():
    kinds = [claim.kind for experiment in experiments.EXPERIMENTS for claim in experiments.get(experiment).claims]
    said = f"{len(kinds) - kinds.count('ours')} of the {len(kinds)} claims are [of the paper or of its theory]"
    assert (
        said in (ROOT / "README.md").read_text()
        and f"The other {kinds.count('ours')} are claims of ours" in (ROOT / "README.md").read_text()
    )


def test_claims_name_figures_that_are_there():
    for experiment in experiments.EXPERIMENTS:
        names = {figure.name for figure in experiments.get(experiment).figures}
        assert {claim.figure for claim in experiments.get(experiment).claims} <= names


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """The page on results of one experiment at toy size, one of whose two cells is missing."""
    folder = tmp_path_factory.mktemp("report")
    root = folder / "toy"
    words = configured(root, "learning", n_samples=20, n_layers=[3], estimators=["dec", "ae-ls"], updates=3)
    _pudle("cell", *words)
    for words in (("tables", "learning"), ("coverage",), ("figures", "learning"), ("verdicts",), ("published",), ("report",)):
        _pudle(*words, "--root", str(root))
    return root / "report" / "index.html"


def _pudle(*words: str) -> None:
    done = CliRunner().invoke(cli.main, words)
    assert done.exit_code == 0, done.output


class Page(HTMLParser):
    """The ids, the addresses, and the claims in a page."""

    def __init__(self, html: str):
        super().__init__()
        self.ids, self.addresses, self.claims = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids += [found["id"]] if "id" in found else []
        self.addresses += [found[key] for key in ("href", "src") if key in found]
        self.claims += [found] if tag == "details" and found.get("id", "").startswith("claim-") else []


def test_every_link_of_the_report_leads_somewhere_and_none_leads_out(report):
    page = Page(report.read_text())
    assert len(set(page.ids)) == len(page.ids)
    for address in page.addresses:
        if address.startswith("data:"):
            continue
        path, _, anchor = address.partition("#")
        assert not re.match("[a-z]+:|//", address), address
        assert not anchor or anchor in page.ids, address
        assert not path or path.startswith("?") or (report.parent / path).exists(), address


def test_the_report_tells_everything(report):
    html, table = report.read_text(), pd.read_csv(report.parents[1] / "claims.csv")
    headline, beyond = html.split('<section id="beyond">')
    for row in table.itertuples():
        assert f'id="claim-{row.claim}"' in (beyond if row.kind == "ours" else headline)
    assert f"Of {(table.kind != 'ours').sum()} statements of the paper and its theory" in headline
    assert "1 done" in html and "1 missing" in html and html.count("<figure ") == len(experiments.get("learning").figures)
    assert "torch 2.13.0" in html and "&#34;scale&#34;: &#34;toy&#34;" in html
    assert "replicates</" not in html


def test_the_figures_of_the_paper_come_first_with_the_verdicts_that_rest_on_them(report):
    html = report.read_text()
    assert html.index('id="paper-learning-dictionary_error"') < html.index('id="published"') < html.index('id="claims"')
    article = html.split('id="paper-learning-dictionary_error"')[1].split("</article>")[0]
    rests = [c.id for c in experiments.get("learning").claims if c.figure == "dictionary_error" and c.kind != "ours"]
    assert rests and re.findall('href="#claim-([^"]+)"', article) == rests
    assert article.count("data:image/") == 1  # each drawing once
    assert html.count('src="data:image/') == len(experiments.get("learning").figures)


def test_the_report_escapes_what_others_wrote(report, tmp_path):
    shutil.copytree(report.parents[1], tmp_path / "toy")
    path = tmp_path / "toy" / "cells.csv"
    table = pd.read_csv(path)
    table["endings"] = "seed 0: <script>alert(1)</script>"
    table.to_csv(path, index=False)
    _pudle("report", "--root", str(tmp_path / "toy"))
    html = (tmp_path / "toy" / "report" / "index.html").read_text()
    assert "<script>alert(1)" not in html and "&lt;script&gt;alert(1)" in html


def test_the_report_does_without_git(report, tmp_path):
    shutil.copytree(report.parents[1], tmp_path / "toy")
    (path,) = (tmp_path / "toy" / "cells").rglob("cell.json")
    record = json.loads(path.read_text())
    record["provenance"]["git"] = None
    path.write_text(json.dumps(record))
    _pudle("report", "--root", str(tmp_path / "toy"))
    assert "no git repository" in (tmp_path / "toy" / "report" / "index.html").read_text()


@pytest.mark.parametrize("tolerance", [0, 0.1, 1, 10])
def test_a_thinned_line_keeps_its_ends_and_passes_every_point_within_the_tolerance(tolerance):
    draw = np.random.default_rng(0)
    lines = [draw.normal(size=(n, 2)).cumsum(0) for n in (2, 3, 10, 200)]
    for points in (*lines, np.concatenate([lines[-1], lines[-1][:1]]), np.zeros((5, 2))):  # one returns to its start
        kept = vector.thin(points, tolerance)
        assert np.array_equal(kept[[0, -1]], points[[0, -1]]) and set(map(tuple, kept)) <= set(map(tuple, points))
        near = [vector._distances(points, *ends) for ends in itertools.pairwise(kept)]
        assert np.min(near, axis=0).max() <= tolerance + 1e-9


def test_a_straight_line_is_thinned_to_its_ends():
    line = np.linspace([0, 1], [3, 7], 1000)
    assert np.array_equal(vector.thin(line, 0.05), line[[0, -1]])
    corner = np.concatenate([line, np.linspace([3, 7], [9, 7], 1000)])
    assert np.array_equal(vector.thin(corner, 0.05), [[0, 1], [3, 7], [9, 7]])


def test_a_slim_drawing_has_the_same_parts_and_a_fraction_of_the_bytes(tmp_path):
    sheet, (axis,) = style.panels()
    x = np.arange(5000)
    table = pd.DataFrame({"step": x, "mean": 1 / (1 + x), "low": 0.9 / (1 + x), "high": 1.1 / (1 + x), "n_ended": 0})
    style.draw_band(axis, table, label='it\'s <&> "ae-ls" %')
    style.save(sheet, table, tmp_path / "band", "stamp")
    drawn = (tmp_path / "band.svg").read_text()
    slim = vector.slim(drawn)
    parts = [[(part.tag, part.get("id")) for part in ElementTree.fromstring(svg).iter()] for svg in (drawn, slim)]
    seen = [part for part in parts[0] if not re.search("#}|elements|metadata", part[0])]
    assert parts[1] == seen and ("{http://www.w3.org/2000/svg}path", None) in seen
    assert len(slim) < len(drawn) / 5
    address = vector.address(slim)
    assert not set('"<>&#\n') & set(address)
    sent = ElementTree.fromstring(unquote(address.removeprefix("data:image/svg+xml,")))
    assert [part.attrib for part in sent.iter()] == [part.attrib for part in ElementTree.fromstring(slim).iter()]


def _browse(address: str, folder: Path, *words: str) -> tuple[str, str]:
    """What headless Chromium makes of a page with no network, and what it writes to the console."""
    if not CHROMIUM:
        pytest.skip("needs Chromium (Debian: apt-get install chromium)")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync",
               "--disable-component-update", "--no-first-run", "--proxy-server=127.0.0.1:9", "--enable-logging=stderr", "--v=0",
               f"--user-data-dir={folder}/profile", *words, address]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | {"HOME": str(folder)})
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


@pytest.mark.slow
def test_filters_in_the_address_are_applied_without_an_error(report, tmp_path):
    html, console = _browse(f"{report.as_uri()}?experiment=learning&text=ae-lasso", tmp_path, "--dump-dom")
    assert not console
    claims = Page(html).claims
    shown = {claim["id"] for claim in claims if "hidden" not in claim}
    assert shown and all("learning" in claim["data-experiment"] for claim in claims if claim["id"] in shown)
    assert len(shown) < len(claims) and f"{len(shown)} of {len(claims)}" in html
    assert "<button>Ours [95 %]</button>" in html  # headings sort


def _after(report: Path, folder: Path, script: str, *words: str, query: str = "") -> str:
    """The page after ``script`` ran in a copy of it, which must stand in the same place for its links; nothing goes to the console."""
    copy = report.with_name("changed.html")
    copy.write_text(report.read_text(encoding="utf-8").replace("</body>", f"<script>{script}</script></body>"))
    html, console = _browse(copy.as_uri() + query, folder, *words, "--dump-dom")
    copy.unlink()
    assert not console
    return html


@pytest.mark.slow
def test_sorting_and_typing_work_in_a_browser(report, tmp_path):
    script = """
    const heading = [...document.querySelectorAll("#published-table th")].find((th) => th.textContent === "Published");
    heading.querySelector("button").click(); heading.querySelector("button").click();
    const box = document.querySelector("input[name=text]"); box.value = "lower with T = 100";
    box.dispatchEvent(new Event("input", {bubbles: true}));
    """
    html = _after(report, tmp_path, script)
    assert 'aria-sort="descending"' in html
    assert {claim["id"] for claim in Page(html).claims if "hidden" not in claim} == {
        f"claim-more-layers-help-{x}" for x in ("dec", "ae-lasso", "ae-ls")
    }
    table = html.split('<table id="published-table">')[1].split("</table>")[0]
    numbers = [float(value) for value in re.findall(r'<td data-value="[^"]*">[^<]*</td>\s*<td data-value="([^"]+)">', table)]
    assert len(numbers) > 25 and numbers == sorted(numbers, reverse=True)


@pytest.mark.slow
def test_a_link_to_a_claim_opens_it(report, tmp_path):
    html = _after(report, tmp_path, "", query="#claim-ae-ls-best")
    opened = [claim["id"] for claim in Page(html).claims if "open" in claim]
    assert opened == ["claim-ae-ls-best"]


@pytest.mark.slow
def test_a_figure_opens_large_and_its_curves_can_be_switched_off(report, tmp_path):
    script = """
    document.querySelector("#paper-learning-dictionary_error button").click();
    const names = [...document.querySelectorAll("#large .curves label")].map((label) => label.textContent.trim());
    document.querySelector("#large .curves input").click();
    const root = document.querySelector("#large .drawing").shadowRoot;
    const parts = [...root.querySelectorAll("[id^='curve-']")];
    const off = parts.filter((part) => part.style.display === "none");
    const ids = [...new Set(off.map((part) => part.id))];
    document.title = [document.getElementById("large").open, names.join("+"), ids.join("+"), off.length > 1];
    """
    html = _after(report, tmp_path, script)
    assert "<title>true,dec,curve-dec,true</title>" in html  # the line and its band


@pytest.mark.slow
def test_a_keyboard_skips_to_the_results_and_opens_and_closes_a_figure(report, tmp_path):
    if not CHROMIUM:
        pytest.skip("needs Chromium (Debian: apt-get install chromium)")
    focus = "document.activeElement.getAttribute('aria-label') || document.activeElement.textContent"
    large = "document.getElementById('large').open"
    with browser.browsing(CHROMIUM, tmp_path) as page:
        page.open(report.as_uri())
        page.press("Tab")
        assert page.script(focus) == "Skip to the results"
        page.press("Enter", "Tab")
        first = page.script(focus)
        assert first.startswith("Open large: learning") and not page.script(large)
        for opening, closing in (("Enter", "Escape"), (" ", "Enter")):
            page.press(opening)
            assert page.script(large) and page.script(focus) == "Close"
            page.press(closing)
            assert not page.script(large) and page.script(focus) == first  # the focus is back where it was
        page.press("Shift+Tab")
        assert page.script(focus) != first


@pytest.mark.slow
@pytest.mark.parametrize("width", [500, 800, 1300])
def test_the_page_has_no_sideways_scroll(report, tmp_path, width):
    script = "document.title = document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert "<title>0</title>" in _after(report, tmp_path, script, f"--window-size={width},900")
