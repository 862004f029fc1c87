"""Run one method on one variant, for all seeds."""

from collections.abc import Callable, Mapping, Sequence

from pudle import methods
from pudle.experiments._shared.recovery import learn
from pudle.harness.record import Record


def run(settings: Mapping, seeds: Sequence[int], record: Record, create: Callable = methods.create) -> None:
    """Run one cell. Only negative controls override ``create``."""
    for seed in seeds:
        learn(settings, seed, record, create)
