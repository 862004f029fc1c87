"""One page with everything: verdicts, published values, figures, coverage, settings, time. It opens from a file and needs no network.

:func:`page` fills ``page.html`` (Jinja2, everything escaped) with what lies under a scale's folder; ``page.css`` and ``page.js`` go inside.
"""

import base64
import json
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import jinja2
import numpy as np

from pudle.analysis import published
from pudle.analysis.claim import VERDICTS
from pudle.analysis.verdicts import BEYOND, counted, is_ours, worded
from pudle.harness import cells, files, reference

_TABLES = {
    "claims": ["claim", "kind", "verdict", "note"],
    "published": ["id", "verdict", "order"],
    "cells": ["cell", "status", "origin", "endings"],
}


class Picture(NamedTuple):
    """A figure as the page shows it; image and data are ``data:`` addresses."""

    name: str
    caption: str
    image: str
    data: str


def page(root: Path, scale: str, planned: Iterable[cells.Cell]) -> str:
    """The report on the results under ``root`` as HTML; ``planned`` cells that are not there are listed as missing."""
    text = dict.fromkeys(("note", "controls", "order", "endings"), str)
    claims, values, coverage = (
        files.read_csv(root / f"{name}.csv", [*columns, "experiment"], dtype=text) for name, columns in _TABLES.items()
    )
    along = files.read_csv(root / "published_curves.csv", ["curve", "experiment", "quantity", "farthest", "update"])
    told = {cell.id: _told(cell.folder(root)) for cell in planned}
    coverage["seconds"] = coverage.cell.map(lambda name: told[name].get("seconds", np.nan))
    ran = [record for record in told.values() if record and reference.was_run(record)]
    own = [record for record in ran if not reference.is_taken(record)]
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {
        "number": _number,
        "interval": _interval,
        "worded": lambda claim: worded(claim.kind, claim.verdict),
        "ratio": published.ratio,
        "farthest": published.farthest_text,
    }
    here = resources.files(__name__)
    return environment.from_string(here.joinpath("page.html").read_text()).render(
        scale=scale,
        style=here.joinpath("page.css").read_text(),
        script=here.joinpath("page.js").read_text(),
        verdicts={verdict: int((claims[~is_ours(claims)].verdict == verdict).sum()) for verdict in VERDICTS},
        claims=list(claims[~is_ours(claims)].fillna({"note": ""}).itertuples()),
        beyond_title=BEYOND,
        beyond_counts=counted(claims[is_ours(claims)]),
        beyond=list(claims[is_ours(claims)].fillna({"note": ""}).itertuples()),
        published=list(values.fillna({"order": ""}).itertuples()),
        rule=published.RULE,
        curves=list(along[along.farthest.notna()].itertuples()),
        curve_rule=published.CURVE_RULE,
        experiments={experiment: _pictures(root, experiment) for experiment in sorted(coverage.experiment.unique())},
        coverage=list(coverage.fillna({"endings": ""}).itertuples()),
        statuses=coverage.status.value_counts().to_dict(),
        minutes=coverage.groupby("experiment").seconds.sum().div(60).to_dict(),
        config=json.dumps(files.read_json(root / "config.json"), indent=1, ensure_ascii=False),
        environments=_environments(ran),
        started=min((record["started"] for record in own), default=""),
        taken=len(ran) - len(own),
        here=len(own),
        commits=sorted(
            {
                reference.short(run["commit"])
                for record in ran
                if reference.is_taken(record)
                for run in record["taken_from"]["runs"]
            }
        ),
    )


def _told(folder: Path) -> dict:
    return cells.read(folder) if (folder / "cell.json").exists() else {}


def _pictures(root: Path, experiment: str) -> list[Picture]:
    folder = root / "figures" / experiment
    captions = dict(part.split("\n\n", 1) for part in (folder / "captions.md").read_text().removeprefix("## ").split("\n## "))
    return [
        Picture(
            name,
            caption.strip(),
            _address(folder / f"{name}.svg", "image/svg+xml"),
            _address(folder / f"{name}.csv", "text/csv"),
        )
        for name, caption in captions.items()
    ]


def _address(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _environments(ran: list[dict]) -> list[dict]:
    """Each machine and set of versions that cells ran with, and how many did."""
    counts: dict[tuple[str, bool], int] = {}
    for record in ran:
        key = json.dumps(record["provenance"], sort_keys=True), reference.is_taken(record)
        counts[key] = counts.get(key, 0) + 1
    return [json.loads(key) | {"count": count, "taken": taken} for (key, taken), count in counts.items()]


def _number(value: float, digits: int = 3) -> str:
    return "" if value is None or np.isnan(value) else f"{value:.{digits}g}"


def _interval(row) -> str:
    """``1.2 [1.1, 1.3]`` of a row with ``low`` and ``high``."""
    centre = row.effect if hasattr(row, "effect") else row.ours
    ends = "" if np.isnan(row.low) else f" [{row.low:.3g}, {row.high:.3g}]"
    return _number(centre) + ends
