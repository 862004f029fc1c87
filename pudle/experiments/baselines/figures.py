"""Error over updates and over seconds, and the final errors of all methods."""

import pandas as pd

from pudle.analysis import comparison, style
from pudle.analysis.figure import Figure
from pudle.analysis.tables import Results
from pudle.experiments._shared.palette import lines

ERROR = r"$\|D - D^*\|_F \,/\, \|D^*\|_F$"


def over_updates(results: Results):
    table = results.summary[results.summary.quantity == "dictionary_error"]
    return _curves(results, table, "step", "update")


def over_seconds(results: Results):
    keys = ["sparsity", "method_name", "step"]
    seconds = results.timings.groupby(keys).value.mean().rename("seconds").reset_index()
    table = results.summary[results.summary.quantity == "dictionary_error"].merge(seconds, on=keys)
    return _curves(results, table, "seconds", "seconds of updates", xscale="log")


def _curves(results: Results, table: pd.DataFrame, x: str, xlabel: str, **axes_options):
    sparsities = sorted(table.sparsity.unique())
    figure, axes = style.panels(len(sparsities), width=2.6, height=3.4, sharey=True)
    drawn = []
    for axis, sparsity in zip(axes, sparsities, strict=True):
        for look, line in lines(table[table.sparsity == sparsity], str, "method_name"):
            style.draw_band(axis, line, x=x, **look)
            if x == "step":
                drawn.append(comparison.draw(axis, results, line, look))
        axis.set(title=f"$s = {sparsity}$", yscale="log", xlabel=xlabel, **axes_options)
    axes[0].set_ylabel(ERROR)
    style.legend_below(figure, axes, 3)
    return figure, pd.concat([table, *drawn], ignore_index=True)


def final_errors(results: Results):
    """One row per method, with the best at the top, and one panel with intervals per sparsity."""
    table = final_table(results)
    order = table.groupby("method_name")["mean"].mean().sort_values().index
    sparsities = sorted(table.sparsity.unique())
    figure, axes = style.panels(len(sparsities), width=2.4, height=0.8 + 0.17 * len(order), sharey=True)
    for axis, sparsity in zip(axes, sparsities, strict=True):
        for look, line in lines(table[table.sparsity == sparsity], str, "method_name"):
            row, position = line.iloc[0], list(order).index(line.method_name.iloc[0])
            axis.plot([row.low, row.high], [position] * 2, color=look["color"], linewidth=3, alpha=0.4, solid_capstyle="butt")
            axis.plot(row["mean"], position, "X" if row.n_ended else "o", color=look["color"], markersize=5)
        axis.set(title=f"$s = {sparsity}$", xscale="log", xlabel=ERROR)
        axis.set_yticks(range(len(order)), order)
    axes[0].invert_yaxis()
    return figure, table


def final_table(results: Results) -> pd.DataFrame:
    """Final error with its interval, milliseconds per update and peak memory (MB) of each method at each sparsity."""
    summary = results.summary[results.summary.quantity == "dictionary_error"]
    keys = ["sparsity", "method_name"]
    table = summary.loc[summary.groupby(keys).step.idxmax()]
    timings = results.timings.assign(per_update=lambda frame: 1000 * frame.value / frame.step)
    last = timings.loc[timings.groupby([*keys, "seed"]).step.idxmax()].groupby(keys).per_update.median()
    memory = {
        (cell.settings["sparsity"], cell.settings["method_name"]): results.record(cell)["peak_memory_mb"]
        for cell in results.finished()
    }
    costs = last.rename("ms_per_update").reset_index()
    costs["peak_memory_mb"] = [memory[key] for key in zip(costs.sparsity, costs.method_name, strict=True)]
    return table.merge(costs, on=keys, how="left").sort_values([*keys], ignore_index=True)


FIGURES = (
    Figure(
        "error_over_updates",
        "Relative error of the dictionary over updates. All methods use the same data, start and batches. "
        + comparison.CAPTION,
        over_updates,
        paper="Decaying λ and hard thresholding remove the bias that a fixed λ leaves.",
    ),
    Figure(
        "error_over_seconds",
        "Relative error of the dictionary over the time of the updates in seconds (mean over seeds), on the machine of the run.",
        over_seconds,
        timed=True,
    ),
    Figure(
        "final_errors",
        "Relative error of the dictionary after the last update, with the best method at the top. A cross marks methods with a seed that "
        "diverged, failed or stalled. The CSV file has milliseconds per update (median over seeds) and the peak memory of the process.",
        final_errors,
        timed=True,
    ),
)
