"""The time that a search has, and what is left of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from corral.slo.pace import Pace, fits


class Budget:
    """Seconds for measuring, counted from ``begin``, and what the steps took.

    Args:
        seconds: of it; infinite for all that it takes.
        now_s: a clock.
    """

    def __init__(self, seconds: float, now_s: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self.pace = Pace()
        self._now_s = now_s
        self._begun_s = now_s()
        self._uncounted_s = 0.0

    def begin(self) -> None:
        """Counts from here on."""
        self._begun_s = self._now_s()
        self._uncounted_s = 0.0

    @property
    def passed_s(self) -> float:
        """Since it began, what is not counted included."""
        return self._now_s() - self._begun_s

    @property
    def spent_s(self) -> float:
        """What is counted of it."""
        return self.passed_s - self._uncounted_s

    @property
    def left_s(self) -> float:
        """Below 0 where it is over."""
        return self.seconds - self.spent_s

    def fits(self, takes_s: float, kept_s: float = 0.0) -> bool:
        """Whether one more step fits, where some seconds are kept for others; see pace.fits."""
        return fits(self.left_s - kept_s, takes_s)

    @contextlib.contextmanager
    def uncounted(self) -> Iterator[None]:
        """The block is not counted."""
        begun_s = self._now_s()
        try:
            yield
        finally:
            self._uncounted_s += self._now_s() - begun_s

    @contextlib.contextmanager
    def timed(self, note: Callable[[float], None]) -> Iterator[None]:
        """Notes what the block took, unless it failed."""
        begun_s = self._now_s()
        yield
        note(self._now_s() - begun_s)
