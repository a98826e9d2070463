"""One timer for all workers of a cell that hold a batch: who does not answer in time hangs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from corral.batching.watchdog import HangWatch


class HangTimer:
    """It belongs to the event loop that runs while it is made.

    Args:
        floor_s: no worker hangs before it has had a batch for so long.
        on_hung: called with the id of each worker that does.
    """

    def __init__(self, floor_s: float, on_hung: Callable[[int], None]) -> None:
        self._watch = HangWatch(floor_s)
        self._on_hung = on_hung
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def set_floor(self, floor_s: float) -> None:
        """Another one holds from now on."""
        self._watch.floor_s = floor_s

    def began(self, worker: int, expected_s: float, now_s: float) -> None:
        """A worker got a batch that should take so long; it hangs unless it answers in time."""
        due_s = self._watch.began(worker, expected_s, now_s)
        if self._timer is None or due_s < self._timer.when():
            self._look_at(due_s)

    def ended(self, worker: int) -> None:
        """It has answered, or is gone."""
        self._watch.ended(worker)

    def close(self) -> None:
        """Nobody hangs any more."""
        self._look_at(None)

    def _look_at(self, when_s: float | None) -> None:
        # It is rarely moved, and costs a batch a comparison.
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if when_s is not None:
            self._timer = self._loop.call_at(when_s, self._look)

    def _look(self) -> None:
        self._timer = None
        for worker in self._watch.look(time.monotonic()):
            self._on_hung(worker)
        self._look_at(self._watch.next_look_s)
