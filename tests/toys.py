"""A toy experiment: a cell of it, and the function that runs it."""

import numpy as np

from pudle.harness import cells


def toy_cell(seeds=(0, 1, 2), **settings):
    return cells.Cell("toy", {"rate": 0.5, "method": "a/b c"} | settings, seeds, ("method", "rate"))


def run_toy(settings, seeds, record):
    for seed in seeds:
        with record.seed(seed):
            for step in range(3):
                value = np.nan if settings.get("breaks") == seed and step == 2 else seed + step * settings["rate"]
                record.add(step, {"error": value})
            record.array("final", [seed])
