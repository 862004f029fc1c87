"""Published values beside ours.

Each line of ``pudle/published/values.csv`` describes one published value: the rows of ours that it is compared with (experiment,
settings, quantity and update), the value, its tolerance, its source and how it was read, and the differences of the protocols.

- In ``where``, ``min:10`` is 10 at the paper scale, and the smallest value of the setting at other scales, which have other sizes.
  ``max`` selects the largest value and ``first`` the first one.
- ``at`` selects the last update, the lowest or highest value over the second half of the updates, or the rate over this half, which is
  the decrease of the value's logarithm per layer or update.

The result of a comparison depends on the scale. At the paper scale it is *replicates* if our mean is within the tolerance of the
published value; otherwise *cannot tell* if the published value lies in the 95 % Student-t interval of ours over seeds; otherwise
*differs*. With fewer than three seeds it is *too few seeds*, and if a run ended early it is *runs ended early*. The tolerance is 25 %
(0.3 dB for PSNR), since published values are single runs without intervals. At every other scale only the order of the values in a
group is compared. For values with a tolerance in per cent, means and intervals are computed from logarithms.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd

from pudle.analysis.statistics import MIN_SEEDS, Interval, slope, t_interval
from pudle.harness.settings import read

_DATA = resources.files("pudle.published")
PAPER = "paper"
_LATE = {
    "lowest": lambda line: line.value.min(),
    "highest": lambda line: line.value.max(),
    "rate": lambda line: -slope(line.step, np.log(line.value))[0],
}
_PICK = {"min": pd.Series.min, "max": pd.Series.max, "first": lambda values: values.iloc[0]}
RULE = (
    "Paper scale: 'replicates' if our mean is within 25 % (PSNR: 0.3 dB) of the published value; otherwise 'cannot tell' if the "
    "published value is in our 95 % Student-t interval over seeds; otherwise 'differs'. With fewer than three seeds there is no "
    "verdict. Other scales: whether the values of a group have the published order. Ratio: ours over published."
)


def values() -> pd.DataFrame:
    """The published values: id, experiment, group, where, quantity, at, published, tolerance, source, read, protocol."""
    with _DATA.joinpath("values.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, keep_default_na=False)


def compare(rows: Mapping[str, pd.DataFrame], scale: str, completed: Mapping[str, pd.DataFrame] | None = None) -> pd.DataFrame:
    """A row for each published value: our value with its interval over seeds, the ratio (PSNR: the difference in dB), and the verdict.

    rows : experiment → its rows, as claims use them
    completed : the same without runs that ended early, if there are any
    """
    table = values()
    found, left = (
        [_ours(some.get(value.experiment, pd.DataFrame()), value, scale) for value in table.itertuples()]
        for some in (rows, rows if completed is None else completed)
    )
    ended = [one[1] > 0 and (one[1], one[0].mean) != (other[1], other[0].mean) for one, other in zip(found, left, strict=True)]
    intervals = [Interval(np.nan, np.nan, np.nan) if early else one[0] for one, early in zip(found, ended, strict=True)]
    table["ours"], table["low"], table["high"] = zip(*intervals, strict=True)
    table["n_seeds"] = [count for _, count in left]
    decibel = ~table.tolerance.str.endswith("%")
    table["ratio"] = np.where(decibel, table.ours - table.published, table.ours / table.published)
    table["order"] = [_order(value, table[table.group == value.group]) for value in table.itertuples()]
    table["verdict"] = [
        "runs ended early" if early else _verdict(value, scale) for value, early in zip(table.itertuples(), ended, strict=True)
    ]
    first = [
        "id",
        "experiment",
        "where",
        "quantity",
        "at",
        "ours",
        "low",
        "high",
        "n_seeds",
        "published",
        "ratio",
        "verdict",
        "order",
    ]
    return table[[*first, "tolerance", "source", "read", "protocol"]]


def markdown(table: pd.DataFrame, scale: str) -> str:
    """The comparison as a Markdown page."""
    shown = pd.DataFrame(
        {
            "value": table.id,
            "ours [95 % interval]": [
                "" if np.isnan(row.ours) else f"{row.ours:.3g} [{row.low:.3g}, {row.high:.3g}]" for row in table.itertuples()
            ],
            "published": table.published,
            "ratio": [ratio(row) for row in table.itertuples()],
            "verdict": table.verdict,
            "order": table.order,
            "protocol": table.protocol,
            "source": table.source + ", " + table.read,
        }
    )
    return f"# Published values at the scale '{scale}'\n\n{RULE}\n\n{shown.to_markdown(index=False, disable_numparse=True)}\n"


def ratio(row) -> str:
    """The ratio of our value to the published one, or their difference in dB, as text."""
    return "" if np.isnan(row.ratio) else f"{row.ratio:.2f}" if row.tolerance.endswith("%") else f"{row.ratio:+.2f} dB"


def _ours(rows: pd.DataFrame, value, scale: str) -> tuple[Interval, int]:
    """The interval of our value over seeds, and the number of seeds."""
    chosen = rows[rows.quantity == value.quantity] if len(rows) else rows
    for key, _, wanted in (part.partition("=") for part in value.where.split(";") if part):
        if key not in chosen or not len(chosen):
            return Interval(np.nan, np.nan, np.nan), 0
        pick, _, published = wanted.partition(":")
        if published:
            wanted = published if scale == PAPER else _PICK[pick](chosen[key])
        chosen = chosen[chosen[key].astype(str) == str(wanted)]
    if not len(chosen):
        return Interval(np.nan, np.nan, np.nan), 0
    if value.at == "last":
        by_seed = chosen.sort_values("step").groupby("seed").value.last()
    else:
        late = chosen[chosen.step > chosen.step.max() / 2].groupby("seed")[["step", "value"]]
        by_seed = late.apply(_LATE[value.at])
    values = by_seed.to_numpy()
    if not value.tolerance.endswith("%"):
        return t_interval(values), len(values)
    return Interval(*np.exp(t_interval(np.log(values)))), len(values)


def _order(value, group: pd.DataFrame) -> str:
    """Whether our values of the group lie on the same side of this value as the published ones do, in words."""
    others = group[(group.id != value.id) & group.ours.notna()]
    if np.isnan(value.ours) or not len(others):
        return ""
    wrong = others[(others.published - value.published) * (others.ours - value.ours) < 0]
    return f"not as published against {', '.join(wrong.id)}" if len(wrong) else "as published"


def _verdict(value, scale: str) -> str:
    if np.isnan(value.ours):
        return "not run"
    if scale != PAPER:
        return {"": "nothing to order by", "as published": "ordering agrees"}.get(value.order, "ordering differs")
    if value.n_seeds < MIN_SEEDS:
        return "too few seeds"
    amount = float(value.tolerance.removesuffix("%"))
    near = abs(value.ratio - 1) <= amount / 100 if value.tolerance.endswith("%") else abs(value.ratio) <= amount
    return "replicates" if near else "cannot tell" if value.low <= value.published <= value.high else "differs"


CURVE_RULE = (
    "The largest factor (PSNR: difference in dB) between our curve and the published one, and the update (unrolling: the layer) at "
    "which it occurs. Our curve is the mean over seeds, computed from logarithms except for PSNR, and interpolated at the published "
    "updates. The sizes of reduced scales differ from the paper's."
)
CAPTION = "Thin dashed lines show the published curves, where our settings differ from the paper's only in sizes and length of the run."


@cache
def curves() -> pd.DataFrame:
    """The points of the published curves: curve, update, value, experiment, where, quantity, source, read."""
    tables = (pd.read_csv(file, keep_default_na=False) for file in map(_DATA.joinpath, ("curves.csv", "sources.csv")))
    return pd.merge(*tables, on="curve", how="left", sort=False)


@cache
def protocols() -> dict[str, dict]:
    """experiment → the settings of its published runs, by the keys of the experiment."""
    return read(Path(str(_DATA / "protocols.yaml")))


def protocol(experiment: str, settings: Mapping) -> dict:
    """The published settings that correspond to a cell with ``settings``, by key; empty if they are unknown.

    If the protocol of the experiment has ``variants``, only that of the cell's ``variant`` is included.
    """
    common = {key: value for key, value in protocols().get(experiment, {}).items() if key != "sizes"}
    if "variants" not in common:
        return common
    changes = common.pop("variants").get(settings["variant"])
    return common | dict(changes) if isinstance(changes, Mapping) else {}


def departures(experiment: str, settings: Mapping) -> dict[str, object]:
    """The settings of a cell that differ from the published ones, by key. Settings of its method count as those of the cell."""
    ours = {**settings.get("method_settings", {}), **settings}
    return {
        key: ours[key]
        for key, wanted in protocol(experiment, settings).items()
        if key in ours and (ours[key] not in wanted if isinstance(wanted, list) else ours[key] != wanted)
    }


def beyond_sizes(experiment: str, settings: Mapping) -> dict[str, object]:
    """The :func:`departures` of a cell other than sizes."""
    sizes = protocols().get(experiment, {}).get("sizes", ())
    return {key: value for key, value in departures(experiment, settings).items() if key not in sizes}


def not_as_published(experiment: str, cells: Iterable[Mapping], sizes: bool = False) -> str:
    """The reason why claims of the paper cannot be judged from cells with these settings; empty if they can.

    The reason names the settings, other than sizes, whose values differ from the paper's in every cell that has them. With ``sizes``, the
    paper's sizes are required too.
    """
    ours: dict[str, list] = {}
    for settings in cells:
        found = (departures if sizes else beyond_sizes)(experiment, settings)
        for key in protocol(experiment, settings).keys() & {**settings.get("method_settings", {}), **settings}.keys():
            ours.setdefault(key, []).append(found.get(key))
    changed = {key: values[0] for key, values in sorted(ours.items()) if None not in values}
    return f"at paper scale only; here {', '.join(f'{key} = {value}' for key, value in changed.items())}" if changed else ""


def compare_curves(rows: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """A row for each published curve with the largest distance of our curve from it; NaN if we have no rows.

    ``farthest`` is ours over published (PSNR: ours − published, in dB) at ``update``.

    rows : experiment → its rows, without runs that ended early
    """
    table = []
    for name, points in curves().groupby("curve", sort=False):
        curve = points.iloc[0]
        found = {"farthest": np.nan, "update": np.nan, "n_points": 0, "n_seeds": 0}
        ours = _along(rows.get(curve.experiment, pd.DataFrame()), curve)
        if len(ours):
            found |= farthest(ours.groupby("seed"), points, decibel=curve.quantity.startswith("psnr"))
        table.append(
            {"curve": name} | curve[["experiment", "where", "quantity"]].to_dict() | found | curve[["source", "read"]].to_dict()
        )
    return pd.DataFrame(table)


def farthest(seeds, points: pd.DataFrame, decibel: bool) -> dict[str, float]:
    """The largest distance between the mean over ``seeds`` (groups with step, value) and ``points`` (update, value).

    Only updates that all seeds cover are compared.
    """
    scale = (lambda values: values) if decibel else np.log
    start, end = seeds.step.min().max(), seeds.step.max().min()
    points = points[points["update"].between(start, end)]
    if not len(points):
        return {"n_seeds": seeds.ngroups}
    along = [
        np.interp(points["update"], seed.step, scale(seed.value)) for seed in (one.sort_values("step") for _, one in seeds)
    ]
    gap = np.mean(along, axis=0) - scale(points.value.to_numpy())
    at = int(np.argmax(np.abs(gap)))
    far = gap[at] if decibel else np.exp(gap[at])
    return {"farthest": far, "update": points["update"].iloc[at], "n_points": len(points), "n_seeds": seeds.ngroups}


def curves_markdown(table: pd.DataFrame, scale: str) -> str:
    """The comparison of curves as a Markdown page."""
    shown = table.assign(
        farthest=[farthest_text(row) for row in table.itertuples()],
        update=["" if np.isnan(update) else f"{update:.0f}" for update in table["update"]],
    )
    shown = shown[["curve", "farthest", "update", "n_points", "n_seeds", "source", "read"]]
    return f"# Published curves at the scale '{scale}'\n\n{CURVE_RULE}\n\n{shown.to_markdown(index=False, disable_numparse=True)}\n"


def farthest_text(row) -> str:
    """The largest factor, or difference in dB, as text."""
    decibel = row.quantity.startswith("psnr")
    return "not run" if np.isnan(row.farthest) else f"{row.farthest:+.2f} dB" if decibel else f"× {row.farthest:.3g}"


def farthest_place(row) -> str:
    """What :func:`farthest_text` compares, and the update or layer that it is about, as text."""
    compared = "ours minus published" if row.quantity.startswith("psnr") else "ours over published"
    return f"{compared}, at {'layer' if row.experiment == 'unrolling' else 'update'} {row.update:.0f}"


def distance(row) -> float:
    """The largest distance of a curve from the published one: the absolute logarithm of the factor, or the absolute number of decibels."""
    return abs(row.farthest if row.quantity.startswith("psnr") else np.log(row.farthest))


def draw(axis, results, line: pd.DataFrame, look: Mapping[str, str]) -> pd.DataFrame:
    """Draw the published curve beside ``line`` (rows of one line of ``results.summary``), thin and dashed in the colour of ``look``.

    Nothing is drawn if no curve is published, or if our settings differ from the published ones in more than sizes.
    Returns the drawn points as rows for the CSV of the figure: ``mean`` is the published value and ``curve`` its name.
    """
    drawn = []
    for name, quantity, where, points in _curves_of(results.experiment) if len(line) else ():
        if not _covers(line, quantity, where) or not _as_published(results, where):
            continue
        axis.plot(
            points["update"], points.value, color=look["color"], linestyle=(0, (4, 2)), linewidth=0.8, gid="curve-published"
        )
        labels = {"quantity": points.quantity, "step": points["update"], "mean": points.value, "curve": name}
        drawn.append(pd.DataFrame(labels | {key: line[key].iloc[0] for key in where}))
    return pd.concat(drawn) if drawn else pd.DataFrame()


@cache
def _curves_of(experiment: str) -> list[tuple[str, str, dict[str, str], pd.DataFrame]]:
    """The published curves of an experiment: name, quantity, settings of our rows, and points."""
    of_experiment = curves()[curves().experiment == experiment].groupby("curve", sort=False)
    return [(name, points.quantity.iloc[0], _where(points.iloc[0]), points) for name, points in of_experiment]


def _covers(line: pd.DataFrame, quantity: str, where: Mapping[str, str]) -> bool:
    """Whether all rows of ``line`` have the quantity and settings of a published curve."""
    return (line.quantity == quantity).all() and all(
        key in line and all(str(value) == wanted for value in line[key].unique()) for key, wanted in where.items()
    )


def _where(curve) -> dict[str, str]:
    return {key: wanted for key, _, wanted in (part.partition("=") for part in curve["where"].split(";") if part)}


def _along(rows: pd.DataFrame, curve) -> pd.DataFrame:
    """Our rows with the quantity and settings of a published curve."""
    chosen = rows[rows.quantity == curve.quantity] if len(rows) else rows
    for key, wanted in _where(curve).items():
        chosen = chosen[chosen[key].astype(str) == wanted] if key in chosen else chosen[:0]
    return chosen


def _as_published(results, where: Mapping[str, str]) -> bool:
    """Whether the cells of a line were run with the published settings, except for sizes."""
    cells = [
        cell.settings
        for cell in results.cells
        if all(str(cell.settings.get(key, wanted)) == wanted for key, wanted in where.items())
    ]
    return bool(cells) and all(
        protocol(results.experiment, settings) and not beyond_sizes(results.experiment, settings) for settings in cells
    )
