"""Published values beside ours.

``pudle/published/values.csv`` holds a value a line: where it stands among our rows (experiment, settings, quantity, at which update),
the value, how far ours may be from it, its source and how it was read, and where the protocols differ.
In ``where``, ``min:10`` is 10 at the paper scale, and
the smallest value of the setting at others, which have other sizes; so are ``max`` the largest and ``first`` the one that comes
first. ``at`` is the last update; the lowest or highest value over the second half of them; or over that half the rate, the fall of the
value's logarithm for each layer or update.

What a comparison may say depends on the scale. Paper scale: *replicates*, if our mean is within the tolerance of the published value; else
*cannot tell*, if the published value lies in the 95 % Student-t interval of ours over seeds; else *differs*. *Too few seeds* are less
than three; where a run ended early, nothing else is said. The tolerance is 25 % (0.3 dB for
PSNR), as published values are single runs without intervals. Every other scale: only whether the values of a group come in the
published order. Means and intervals of what has a tolerance in per cent are of logarithms.
"""

from collections.abc import Iterable, Mapping
from importlib import resources

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
    "Paper scale: replicates if our mean is within 25 % (PSNR: 0.3 dB) of the published value; else cannot tell if that is in our "
    "95 % Student-t interval over seeds; else differs; with less than three seeds none of these. "
    "Other scales: whether the values of a group come in the published order. Ratio: ours over published."
)


def values() -> pd.DataFrame:
    """The published values: id, experiment, group, where, quantity, at, published, tolerance, source, read, protocol."""
    with _DATA.joinpath("values.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, keep_default_na=False)


def compare(rows: Mapping[str, pd.DataFrame], scale: str, whole: Mapping[str, pd.DataFrame] | None = None) -> pd.DataFrame:
    """A row for each published value: ours with its interval over seeds, the ratio (PSNR: the difference in dB), and what follows.

    rows : experiment → its rows, as claims take them; whole : the same without runs that ended early, if some did
    """
    table = values()
    found, left = (
        [_ours(some.get(value.experiment, pd.DataFrame()), value, scale) for value in table.itertuples()]
        for some in (rows, rows if whole is None else whole)
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
    """The comparison for reading."""
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
    """Ours over published, or their difference in dB, for reading."""
    return "" if np.isnan(row.ratio) else f"{row.ratio:.2f}" if row.tolerance.endswith("%") else f"{row.ratio:+.2f} dB"


def _ours(rows: pd.DataFrame, value, scale: str) -> tuple[Interval, int]:
    """The interval of our value over seeds, and how many there are."""
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
    """Whether ours and the published values of the group lie on the same side of this one."""
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
    "The largest factor (PSNR: difference in dB) between our curve and the published one, and the update at which it is "
    "(unrolling: the layer). Ours is the mean over seeds, of logarithms but for PSNR, interpolated at the published updates. "
    "Reduced scales have other sizes than the paper."
)
CAPTION = "Thin and dashed, where settings are the paper's but for sizes and how long they ran: the published curve."


def curves() -> pd.DataFrame:
    """The points of the published curves: curve, update, value, experiment, where, quantity, source, read."""
    tables = (pd.read_csv(file, keep_default_na=False) for file in map(_DATA.joinpath, ("curves.csv", "sources.csv")))
    return pd.merge(*tables, on="curve", how="left", sort=False)


def protocols() -> dict[str, dict]:
    """experiment → the settings of its published runs, by the keys of the experiment."""
    return read(_DATA / "protocols.yaml")


def protocol(experiment: str, settings: Mapping) -> dict:
    """The settings that a cell with ``settings`` ran with in the paper, by their keys; none where that is not known.

    An experiment whose protocol has ``variants`` has those of the cell's ``variant`` only.
    """
    common = {key: value for key, value in protocols().get(experiment, {}).items() if key != "sizes"}
    if "variants" not in common:
        return common
    changes = common.pop("variants").get(settings["variant"])
    return common | changes if isinstance(changes, Mapping) else {}


def departures(experiment: str, settings: Mapping) -> dict[str, object]:
    """Those settings of a cell, by their keys, which are not the published ones. Settings of its method count as the cell's."""
    ours = {**settings.get("method_settings", {}), **settings}
    return {
        key: ours[key]
        for key, wanted in protocol(experiment, settings).items()
        if key in ours and (ours[key] not in wanted if isinstance(wanted, list) else ours[key] != wanted)
    }


def beyond_sizes(experiment: str, settings: Mapping) -> dict[str, object]:
    """Those of the :func:`departures` of a cell that are no sizes."""
    sizes = protocols().get(experiment, {}).get("sizes", ())
    return {key: value for key, value in departures(experiment, settings).items() if key not in sizes}


def not_as_published(experiment: str, cells: Iterable[Mapping]) -> str:
    """Why claims of the paper cannot be judged from cells with these settings; empty where they can.

    The reason names the settings that every cell which has them runs otherwise than the paper did, sizes aside.
    """
    ours: dict[str, list] = {}
    for settings in cells:
        found = beyond_sizes(experiment, settings)
        for key in protocol(experiment, settings).keys() & {**settings.get("method_settings", {}), **settings}.keys():
            ours.setdefault(key, []).append(found.get(key))
    changed = {key: values[0] for key, values in sorted(ours.items()) if None not in values}
    return f"at paper scale only; here {', '.join(f'{key} = {value}' for key, value in changed.items())}" if changed else ""


def compare_curves(rows: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """A row for each published curve: how far ours is from it where that is farthest; empty where we have no rows.

    rows : experiment → its rows, without runs that ended early. ``farthest`` : ours over published (PSNR: ours − published, dB), at ``update``
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
    """Where the mean over ``seeds`` (groups with step, value) is farthest from ``points`` (update, value) among updates of all seeds."""
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
    """The comparison of curves for reading."""
    shown = table.assign(
        farthest=[farthest_text(row) for row in table.itertuples()],
        update=["" if np.isnan(update) else f"{update:.0f}" for update in table["update"]],
    )
    shown = shown[["curve", "farthest", "update", "n_points", "n_seeds", "source", "read"]]
    return f"# Published curves at the scale '{scale}'\n\n{CURVE_RULE}\n\n{shown.to_markdown(index=False, disable_numparse=True)}\n"


def farthest_text(row) -> str:
    """The largest factor, or difference in dB, for reading."""
    decibel = row.quantity.startswith("psnr")
    return "not run" if np.isnan(row.farthest) else f"{row.farthest:+.2f} dB" if decibel else f"× {row.farthest:.3g}"


def distance(row) -> float:
    """How far a curve is from the published one where that is farthest: the logarithm of the factor, or decibels, without sign."""
    return abs(row.farthest if row.quantity.startswith("psnr") else np.log(row.farthest))


def draw(axis, results, line: pd.DataFrame, look: Mapping[str, str]) -> pd.DataFrame:
    """Draw the published curve beside ``line`` (rows of one line of ``results.summary``) thin and dashed in the colour of ``look``.

    Nothing is drawn where none is published, or where our settings differ from the published ones by more than sizes.
    Returns what was drawn, as rows for the CSV of the figure: ``mean`` is the published value and ``curve`` its name.
    """
    table = curves()
    table = table[(table.experiment == results.experiment) & table.quantity.isin(line.quantity.unique())]
    drawn = []
    for name, points in table.groupby("curve", sort=False):
        where = _where(points.iloc[0])
        if not len(line) or len(_along(line, points.iloc[0])) < len(line) or not _as_published(results, where):
            continue
        axis.plot(
            points["update"], points.value, color=look["color"], linestyle=(0, (4, 2)), linewidth=0.8, gid="curve-published"
        )
        labels = {"quantity": points.quantity, "step": points["update"], "mean": points.value, "curve": name}
        drawn.append(pd.DataFrame(labels | {key: line[key].iloc[0] for key in where}))
    return pd.concat(drawn) if drawn else pd.DataFrame()


def _where(curve) -> dict[str, str]:
    return {key: wanted for key, _, wanted in (part.partition("=") for part in curve["where"].split(";") if part)}


def _along(rows: pd.DataFrame, curve) -> pd.DataFrame:
    """Our rows beside a published curve."""
    chosen = rows[rows.quantity == curve.quantity] if len(rows) else rows
    for key, wanted in _where(curve).items():
        chosen = chosen[chosen[key].astype(str) == wanted] if key in chosen else chosen[:0]
    return chosen


def _as_published(results, where: Mapping[str, str]) -> bool:
    """Whether the cells of a line were run with the published settings, but for sizes."""
    cells = [
        cell.settings
        for cell in results.cells
        if all(str(cell.settings.get(key, wanted)) == wanted for key, wanted in where.items())
    ]
    return bool(cells) and all(
        protocol(results.experiment, settings) and not beyond_sizes(results.experiment, settings) for settings in cells
    )
