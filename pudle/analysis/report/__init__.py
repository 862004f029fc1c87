"""One page that answers "does the paper hold?" and shows the evidence. It opens from a file and needs no network.

The figures of the paper come first, each with the verdicts that it supports and its distance from the published curves. Published
values, claims, all figures, coverage, settings and environment follow. :func:`page` fills ``page.html`` (Jinja2, with all values
escaped) with the results in a scale's folder, and includes ``page.css`` and ``page.js``.
"""

import base64
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import jinja2
import numpy as np
import pandas as pd
from PIL import Image

from pudle.analysis import comparison
from pudle.analysis.claim import VERDICTS
from pudle.analysis.figure import Figure
from pudle.analysis.report import vector
from pudle.analysis.verdicts import BEYOND, counted, is_ours, worded
from pudle.harness import cells, files, reference

_TABLES = {
    "claims": ["claim", "kind", "verdict", "note"],
    "published": ["id", "verdict", "order"],
    "cells": ["cell", "status", "origin", "endings"],
}


# experiments with figures of the paper, in its order
IN_PAPER = ("unrolling", "learning", "baselines", "robustness", "denoising", "interpretability")
_EMBEDDED = 100_000  # bytes: larger tables of numbers are linked, not embedded
_LARGEST = 200_000  # bytes of an SVG that is embedded as such
_WIDEST = 1600  # pixels


class Picture(NamedTuple):
    """A figure as the page shows it: ``image`` is a ``data:`` address, ``size`` its pixels, ``numbers`` an address or a link to the file.

    paper : what the paper shows with it, in a sentence; empty for other figures
    distance : the largest distance to a published curve, as a factor or in dB; empty if none is drawn
    place : what the distance compares, and at which update or layer, in words
    claims : rows of the claims table that refer to it, without claims of ours
    """

    experiment: str
    name: str
    caption: str
    paper: str
    image: str
    size: tuple[int, int]
    numbers: str
    distance: str
    place: str
    claims: list


def page(root: Path, scale: str, planned: Iterable[cells.Cell], figures: Mapping[str, Sequence[Figure]]) -> str:
    """The report on the results under ``root`` as HTML. ``planned`` cells without results are listed as missing.

    figures : experiment → its figures
    """
    text = dict.fromkeys(("note", "controls", "order", "endings"), str)
    claims, values, coverage = (
        files.read_csv(root / f"{name}.csv", [*columns, "experiment"], dtype=text) for name, columns in _TABLES.items()
    )
    along = files.read_csv(root / "published_curves.csv", ["curve", "experiment", "quantity", "farthest", "update"])
    records = {cell.id: _record(cell.folder(root)) for cell in planned}
    coverage["seconds"] = coverage.cell.map(lambda name: records[name].get("seconds", np.nan))
    ran = [record for record in records.values() if record and reference.was_run(record)]
    own = [record for record in ran if not reference.is_taken(record)]
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {
        "number": _number,
        "interval": _interval,
        "worded": lambda claim: worded(claim.kind, claim.verdict),
        "ratio": comparison.ratio,
        "farthest": comparison.farthest_text,
    }
    drawn = {
        name: [figure for figure in figures[name] if _stem(root, name, figure).with_suffix(".svg").exists()]
        for name in figures
        if (coverage.experiment == name).any()
    }
    pictures = {name: [_picture(root, name, figure, claims, along) for figure in drawn[name]] for name in drawn}
    here = resources.files(__name__)
    return environment.from_string(here.joinpath("page.html").read_text(encoding="utf-8")).render(
        scale=scale,
        style=here.joinpath("page.css").read_text(encoding="utf-8"),
        script=here.joinpath("page.js").read_text(encoding="utf-8"),
        verdicts={verdict: int((claims[~is_ours(claims)].verdict == verdict).sum()) for verdict in VERDICTS},
        claims=list(claims[~is_ours(claims)].fillna({"note": ""}).itertuples()),
        beyond_title=BEYOND,
        beyond_counts=counted(claims[is_ours(claims)]),
        beyond=list(claims[is_ours(claims)].fillna({"note": ""}).itertuples()),
        published=list(values.fillna({"order": ""}).itertuples()),
        rule=comparison.RULE,
        curves=list(along[along.farthest.notna()].itertuples()),
        curve_rule=comparison.CURVE_RULE,
        experiments=pictures,
        of_paper=[picture for name in IN_PAPER for picture in pictures.get(name, ()) if picture.paper],
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


def _record(folder: Path) -> dict:
    return cells.read(folder) if (folder / "cell.json").exists() else {}


def _stem(root: Path, experiment: str, figure: Figure) -> Path:
    return root / "figures" / experiment / figure.name


def _picture(root: Path, experiment: str, figure: Figure, claims: pd.DataFrame, along: pd.DataFrame) -> Picture:
    stem = _stem(root, experiment, figure)
    table = stem.with_suffix(".csv")
    names = (
        set(files.read_csv(table, ["curve"]).curve.dropna()) if "curve" in table.read_text(encoding="utf-8")[:1000] else set()
    )
    near = along[along.curve.isin(names) & along.farthest.notna()]
    farthest = max(near.itertuples(), key=comparison.distance, default=None)
    rests = claims[(claims.experiment == experiment) & (claims.figure == figure.name) & ~is_ours(claims)]
    return Picture(
        experiment,
        figure.name,
        figure.caption,
        figure.paper,
        *_image(stem),
        f"data:text/csv,{quote(table.read_bytes(), safe=' ,:;/=()')}"
        if table.stat().st_size < _EMBEDDED
        else f"../figures/{experiment}/{figure.name}.csv",
        *(("", "") if farthest is None else (comparison.farthest_text(farthest), f" ({comparison.farthest_place(farthest)})")),
        list(rests.fillna({"note": ""}).itertuples()),
    )


def _image(stem: Path) -> tuple[str, tuple[int, int]]:
    """The ``data:`` address of a figure, and its size in pixels.

    The figure is embedded as SVG or, if this is too large, as for photographs, as a picture of at most :data:`_WIDEST` pixels.
    """
    drawn = vector.address(vector.slim(stem.with_suffix(".svg").read_text(encoding="utf-8")))
    with Image.open(stem.with_suffix(".png")) as picture:
        if len(drawn) < _LARGEST:
            return drawn, picture.size
        small, buffer = picture.convert("RGB"), io.BytesIO()
    small.thumbnail((_WIDEST, _WIDEST))
    small.save(buffer, "WebP", quality=85)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}", small.size


def _environments(ran: list[dict]) -> list[dict]:
    """Each machine and set of versions, with the number of cells that ran with it."""
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
