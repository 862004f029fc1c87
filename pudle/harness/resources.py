"""The time and memory that a job requests from a scheduler, and how jobs are divided into batches, from measured values."""

import math
from collections.abc import Hashable, Mapping

from pudle.harness.cells import Cell

MARGIN = 2  # for machines that are half as fast
LEAST_MINUTES = 10
LEAST_MEMORY = 1000  # MB


def minutes(cell: Cell, n_seeds: int, seconds: float, attempt: int, least: int = LEAST_MINUTES) -> int:
    """Minutes for ``n_seeds`` seeds with a measured time of ``seconds`` each, in attempt number ``attempt`` (from 1).

    They are at least ``attempt * least``.

    A cell with a time limit ends by itself. It receives at least its limit for each seed plus a tenth, so that the scheduler never
    stops it first.
    """
    measured = attempt * max(least, MARGIN * n_seeds * seconds / 60)
    return math.ceil(max(measured, 1.1 * n_seeds * (cell.settings.get("time_limit") or 0) / 60))


def memory(megabytes: float, attempt: int) -> int:
    """MB for a cell with a measured peak of ``megabytes``, in attempt number ``attempt`` (from 1)."""
    return math.ceil(attempt * max(LEAST_MEMORY, MARGIN * megabytes))


def measured(table: Mapping, scale: str, experiment: str) -> Mapping:
    """``seconds`` per seed and ``memory`` in MB of an experiment at a scale, from the table in ``workflow/resources.yaml``."""
    return table.get(scale, table["default"]).get(experiment, table["unmeasured"])


def batches(seconds: Mapping[Hashable, float], n: int) -> dict[Hashable, int]:
    """Divide jobs into at most ``n`` batches of about equal work; returns the batch of each job, from 0.

    The longest job first, each goes to the batch with the least work so far. So the largest batch is at most 4/3 - 1/(3n) times as
    long as the best division allows (R. L. Graham, Bounds on multiprocessing timing anomalies, SIAM J. Appl. Math. 17, 1969).

    Parameters
    ----------
    seconds : mapping
        The measured time of each job.
    n : int
        Number of batches.
    """
    work = [0.0] * n
    chosen = {}
    for job in sorted(seconds, key=lambda job: (-seconds[job], job)):
        chosen[job] = work.index(min(work))
        work[chosen[job]] += seconds[job]
    return chosen
