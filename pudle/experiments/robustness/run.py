"""One method under one variant, over all seeds."""

from collections.abc import Callable, Mapping, Sequence

from pudle import methods
from pudle.experiments._shared.recovery import learn
from pudle.harness.record import Record


def run(settings: Mapping, seeds: Sequence[int], record: Record, create: Callable = methods.create) -> None:
    """``create`` is only ever another one in negative controls."""
    for seed in seeds:
        learn(settings, seed, record, create)
