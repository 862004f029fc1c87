"""Run one method at one sparsity, for all seeds."""

from collections.abc import Mapping, Sequence

from pudle.experiments._shared.recovery import learn
from pudle.harness.record import Record


def run(settings: Mapping, seeds: Sequence[int], record: Record) -> None:
    for seed in seeds:
        learn(settings, seed, record)
