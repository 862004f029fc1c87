"""What a job asks a scheduler for, from what has been measured."""

import math
from collections.abc import Mapping

from pudle.harness.cells import Cell

MARGIN = 2  # machines are half as fast
LEAST_MINUTES = 10
LEAST_MEMORY = 1000  # MB


def minutes(cell: Cell, n_seeds: int, seconds: float, attempt: int) -> int:
    """Minutes for ``n_seeds`` seeds that have been measured to take ``seconds`` each, for the ``attempt``-th time, from 1.

    A cell with a time limit ends by itself: it is given its limit for each seed, and a tenth, so that it is never stopped before.
    """
    measured = attempt * max(LEAST_MINUTES, MARGIN * n_seeds * seconds / 60)
    return math.ceil(max(measured, 1.1 * n_seeds * (cell.settings.get("time_limit") or 0) / 60))


def memory(megabytes: float, attempt: int) -> int:
    """MB for a cell whose peak has been measured to be ``megabytes``, for the ``attempt``-th time, from 1."""
    return math.ceil(attempt * max(LEAST_MEMORY, MARGIN * megabytes))


def measured(table: Mapping, scale: str, experiment: str) -> Mapping:
    """``seconds`` of a seed and ``memory`` in MB, as ``workflow/resources.yaml`` has them for an experiment at a scale."""
    return table.get(scale, table["default"]).get(experiment, table["unmeasured"])
