"""The highest rate that something holds at, by trying some. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

_Found = TypeVar("_Found")

#: about how far a guess is from what is found
_GUESSED_WITHIN = 0.06
#: of the most, below which no rate is looked for
_LEAST = 0.02


def highest_that_holds(
    at: Callable[[float], _Found | None],
    most: float,
    *,
    near: float,
    guess: float | None = None,
) -> tuple[float, _Found] | None:
    """The highest rate that holds, and what was found there; None where the least does not.

    Args:
        at: what is found at a rate; None where it does not hold. What is too much stays so.
        most: a rate that does not hold; below a fiftieth of it none is asked for.
        near: how near the next rate that does not hold may be, as a share.
        guess: a rate that may be near, where the search begins; it spares most of the steps.
    """
    least = most * _LEAST
    low, high = _around(at, least, most, guess) if guess else (None, most)
    if low is None:
        if (found := at(least)) is None:
            return None
        low = least, found
    while high / low[0] > 1 + near:
        middle = (low[0] * high) ** 0.5 if high > 2 * low[0] else (low[0] + high) / 2
        if (found := at(middle)) is None:
            high = middle
        else:
            low = middle, found
    return low


def _around(
    at: Callable[[float], _Found | None], least: float, most: float, guess: float
) -> tuple[tuple[float, _Found] | None, float]:
    """What holds below a guess, or None, and a rate above it that does not; both rather near."""
    low: tuple[float, _Found] | None = None
    high, rate, step = most, guess, 1 + _GUESSED_WITHIN
    while least < rate < most and (low is None or high == most):
        if (found := at(rate)) is None:
            high = rate
        else:
            low = rate, found
        rate = rate / step if low is None else rate * step
        step *= step
    return low, high
