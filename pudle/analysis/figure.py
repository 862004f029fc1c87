"""A figure of an experiment. :mod:`pudle.analysis.style` draws and saves it."""

from collections.abc import Callable
from typing import NamedTuple


class Figure(NamedTuple):
    """A figure of an experiment: its file name, its caption, and ``draw(results) -> (matplotlib figure, plotted numbers)``.

    timed : whether it shows seconds or memory, which another run cannot repeat
    paper : what the paper shows with this figure, in one sentence; empty for figures that are not in the paper
    """

    name: str
    caption: str
    draw: Callable
    timed: bool = False
    paper: str = ""
