"""Drawings of matplotlib as SVG in fewer bytes, for a page that contains many of them."""

import re
from urllib.parse import quote

import numpy as np

TOLERANCE = 0.05  # points: an eighth of a pixel where a drawing fills the page
_POLYLINE = re.compile(r"M (\S+ \S+) ?\n((?:L \S+ \S+ ?\n){20,})")
_COORDINATES = re.compile(r'\sd="[^"]*"|translate\([^)]*\)|\s(?:x|y|width|height)="[^"]*"')
_UNSEEN = re.compile(r"<metadata>.*?</metadata>|<!--.*?-->|<\?xml.*?\?>|<!DOCTYPE.*?>", re.DOTALL)


def slim(svg: str) -> str:
    """The same drawing without metadata, with two decimals, and without points of lines that are not seen (:func:`thin`)."""
    svg = _POLYLINE.sub(_thinned, _UNSEEN.sub("", svg))
    svg = _COORDINATES.sub(lambda part: re.sub(r"-?\d+\.\d{3,}", _rounded, part[0]), svg)
    return re.sub(r"\s*\n\s*", " ", svg).strip()


def thin(points: np.ndarray, tolerance: float) -> np.ndarray:
    """The vertices (m, 2) that a line through ``points`` (n, 2) needs to pass all of them within ``tolerance``, ends included.

    Source: Douglas and Peucker, Cartographica 10 (1973).
    """
    keep: np.ndarray = np.zeros(len(points), dtype=bool)
    keep[[0, -1]] = True
    parts = [(0, len(points) - 1)]
    while parts:
        first, last = parts.pop()
        between = _distances(points[first + 1 : last], points[first], points[last])
        if between.max(initial=0) > tolerance:
            farthest = first + 1 + int(between.argmax())
            keep[farthest] = True
            parts += [(first, farthest), (farthest, last)]
    return points[keep]


def address(svg: str) -> str:
    """The drawing as a ``data:`` address that may stand in double quotes as it is. It is shorter than base64."""
    quoted_once = re.sub(r"=\"([^\"']*)\"", r"='\1'", svg)
    return "data:image/svg+xml," + quote(quoted_once, safe=" '()*,-./:;=@!$+?_~{}[]|^")


def _thinned(line: re.Match) -> str:
    points = np.array([line[1].split(), *(vertex.split()[1:] for vertex in line[2].splitlines())], dtype=float)
    first, *others = (f"{x:.2f} {y:.2f}" for x, y in thin(points, TOLERANCE))
    return f"M {first} L {' '.join(others)} "


def _rounded(number: re.Match) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def _distances(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Distances of ``points`` (n, 2) from the segment between ``start`` and ``end``."""
    along = end - start
    length = float(along @ along) or 1.0  # where the ends are one point, every share is 0
    share = np.clip((points - start) @ along / length, 0, 1)
    return np.hypot(*(points - start - share[:, None] * along).T)
