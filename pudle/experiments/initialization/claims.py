"""Claims about the basin of recovery and about Arora's start.

Thresholds were set before the reported seeds were run. Sizes and the learner's settings were chosen on seed 1000, which is not reported.
"""

import numpy as np
import pandas as pd

from pudle.analysis.claim import Claim, NotRun, final, select

_HALF = 0.5  # of the atoms


def _basin(recovered: pd.Series) -> float:
    """The largest δ at which half of the atoms are recovered, from fractions indexed by δ, interpolated linearly.

    Where this δ is outside the grid, the nearest end of the grid is returned, which can only bring two basins closer together.
    """
    noise, fraction = recovered.index.to_numpy(float), recovered.to_numpy(float)
    inside = np.flatnonzero(fraction >= _HALF)
    if not len(inside):
        return noise[0]
    last = inside[-1]
    if last == len(noise) - 1:
        return noise[-1]
    return float(np.interp(-_HALF, -fraction[last : last + 2], noise[last : last + 2]))


def _shrinkage(rows: pd.DataFrame) -> pd.Series:
    chosen = select(rows, "atoms_recovered", start="perturbed", signs="shared")
    chosen = chosen.assign(init_noise=pd.to_numeric(chosen.init_noise))
    fractions = final(chosen, "atoms_recovered", by=["sparsity", "init_noise"])
    sparsities = fractions.columns.unique("sparsity").sort_values()
    if len(sparsities) < 2:
        raise NotRun("only one sparsity")
    basins = {s: fractions[s].sort_index(axis=1).apply(_basin, axis=1) for s in (sparsities[0], sparsities[-1])}
    return basins[sparsities[-1]] / basins[sparsities[0]]


def _distance(quantity: str):
    """The distance of the atoms that Arora's start finds from true atoms, in units of 1 / log p, at the smallest s with independent signs."""

    def estimate(rows: pd.DataFrame) -> pd.Series:
        return _found(rows, quantity, 0) * np.log(_found(rows, "n_atoms", 0))

    return estimate


def _found(rows: pd.DataFrame, quantity: str, step: int) -> pd.Series:
    """A quantity of Arora's start for each seed, at ``step`` 0 or, for -1, at the last step."""
    run = {"start": "arora", "signs": "independent"}
    chosen = select(rows, quantity, sparsity=select(rows, "n_found", **run).sparsity.min(), **run)
    steps = chosen.pivot(index="seed", columns="step", values="value")
    return steps[0] if step == 0 else steps[steps.columns.max()]


_WHERE = "at the smallest s, with independent signs"
_SOURCE = (
    "no publication states this for a problem of this size; Arora et al. (2015), whom the paper cites for its start, state a rate, O(1/log p), "
    "without a constant, for s far below √m / log p"
)

CLAIMS = (
    Claim(
        id="basin-shrinks",
        kind="ours",
        statement="The basin of recovery shrinks as s grows.",
        place="no publication states this for the basin itself; in the theory of Section 4 the distance that suffices decreases with s",
        effect="largest δ from which half of the atoms are recovered, at the largest s divided by that at the smallest s",
        estimate=_shrinkage,
        below=1,
        ratio=True,
        why="equal basins give 1",
        rows="atoms_recovered of the start perturbed with shared signs after the last update, at every δ, smallest and largest s",
        figure="recovery_map",
    ),
    Claim(
        id="arora-lands-near",
        kind="ours",
        statement="The atoms that Arora's start finds are on average within O(1/log p) of true atoms.",
        place=_SOURCE,
        effect=f"mean distance of the atoms found to the nearest true ±atom, times log p, {_WHERE}",
        estimate=_distance("found_distance"),
        below=1,
        ratio=True,
        why="the constant of O is taken as 1, as in the method's own thresholds for σ₂ / σ₁ and for duplicates",
        rows=f"found_distance and n_atoms of the start arora before the first update, {_WHERE}",
        figure="arora",
    ),
    Claim(
        id="arora-lands-near-every-atom",
        kind="ours",
        statement="Every atom that Arora's start finds is within O(1/log p) of a true atom.",
        place=_SOURCE,
        effect=f"largest distance of an atom found to the nearest true ±atom, times log p, {_WHERE}",
        estimate=_distance("found_distance_max"),
        below=1,
        ratio=True,
        why="the constant of O is taken as 1, as for the average; the theorem is about every atom",
        rows=f"found_distance_max and n_atoms of the start arora before the first update, {_WHERE}",
        figure="arora",
    ),
    Claim(
        id="arora-then-converges",
        kind="ours",
        statement="Learning from Arora's start converges.",
        place=f"{_SOURCE}; in the theory learning converges if all atoms have been found, and this start does not find all of them here",
        effect=f"mean distance of the atoms found to the nearest true ±atom after learning divided by that before, {_WHERE}",
        estimate=lambda rows: _found(rows, "found_distance", -1) / _found(rows, "found_distance", 0),
        below=0.1,
        ratio=True,
        why="an unchanged distance gives 1; in the theory the convergence to the truth is geometric, so that 0.1 is a weak requirement",
        rows=f"found_distance of the start arora before the first and after the last update, {_WHERE}",
        figure="arora",
    ),
)
