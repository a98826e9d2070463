"""The latest traced request of each bucket of ``corral_request_seconds``."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import NamedTuple


class Example(NamedTuple):
    """A traced request.

    Attributes:
        trace_id: 32 hexadecimal digits.
        seconds: from its arrival to its answer.
        unix_s: when it was answered.
    """

    trace_id: str
    seconds: float
    unix_s: float


class Exemplars:
    """One thread writes, any thread reads.

    Args:
        bounds_s: the buckets' upper bounds; one more is for what lies above.
    """

    def __init__(self, bounds_s: Sequence[float]) -> None:
        self._bounds_s = bounds_s
        self._examples: list[Example | None] = [None] * (len(bounds_s) + 1)

    def note(self, example: Example) -> None:
        """A traced request was answered with a result."""
        self._examples[bisect.bisect_left(self._bounds_s, example.seconds)] = example

    def by_bucket(self) -> list[Example | None]:
        """For each bucket the latest, or None."""
        return list(self._examples)
