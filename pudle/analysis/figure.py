"""A figure of an experiment. :mod:`pudle.analysis.style` draws and saves it."""

from collections.abc import Callable
from typing import NamedTuple


class Figure(NamedTuple):
    """A figure of an experiment: its file name, its caption, and ``draw(results) -> (matplotlib figure, plotted numbers)``.

    timed : it shows seconds or memory, which no other run repeats
    paper : what the paper shows with this figure, in one sentence; empty for figures that the paper does not have
    """

    name: str
    caption: str
    draw: Callable
    timed: bool = False
    paper: str = ""
