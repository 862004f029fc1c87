"""Errors for users, which say what is wrong, where, what is allowed, and the nearest valid name."""

from collections.abc import Iterable
from difflib import get_close_matches


class PudleError(ValueError):
    """An error that the user can correct. The message is one paragraph and is shown without a traceback."""


def one_of(value: str, allowed: Iterable[str], what: str) -> str:
    """Return ``value`` if it is among ``allowed``; otherwise raise :class:`PudleError`, which names the nearest one.

    >>> one_of("ae-ls", ["dec", "ae-ls"], "estimator")
    'ae-ls'
    """
    allowed = list(allowed)
    if value in allowed:
        return value
    raise PudleError(f"unknown {what} {shown(value)}{nearest(value, allowed)}")


def nearest(value: object, allowed: Iterable[str]) -> str:
    """The end of an error message, such as ``: did you mean 'x'? Allowed: 'x', 'y'.``"""
    allowed = [str(name) for name in allowed]
    close = get_close_matches(str(value), allowed, n=1, cutoff=0.5)
    guess = f": did you mean {close[0]!r}?" if close else ":"
    return f"{guess} Allowed: {', '.join(map(repr, allowed))}."


def shown(value: object) -> str:
    """The ``repr`` of ``value``, truncated after 200 characters."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
