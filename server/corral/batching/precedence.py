"""Whose turn it is: interactive requests come first, bulk fills what they leave. Pure.

Three rules, all about the moment when a worker is free:

1. Interactive requests come first.
2. While interactive requests come, bulk leaves a worker to them: nothing that runs is
   interrupted, so a request that found every worker in a bulk batch would wait for one to end.
   With one worker, bulk runs one item at a time instead.
3. Bulk does not starve: while both wait, it gets its share of the workers' time. An account keeps
   the books: an interactive batch that bulk waits for adds ``share`` of its cost, a bulk batch
   takes ``1 - share`` of its own; where the account pays for one, it is bulk's turn.
"""

from __future__ import annotations

import math

from corral.priority import Priority


class Precedence:
    """The account of bulk, and the workers that run it. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._account_s = 0.0
        self._interactive_came_s = -math.inf
        self._bulk_came_s = -math.inf
        self._running_bulk: set[int] = set()

    def interactive_came(self, now_s: float) -> None:
        """An interactive request has been admitted."""
        self._interactive_came_s = now_s

    def bulk_came(self, now_s: float) -> None:
        """A bulk request has come, whatever becomes of it."""
        self._bulk_came_s = now_s

    def bulk_came_since(self, time_s: float) -> bool:
        """Whether a bulk request has come since then."""
        return self._bulk_came_s >= time_s

    def began(
        self, worker: int, priority: Priority, cost_s: float, *, share: float, bulk_waits: bool
    ) -> None:
        """A worker got a batch.

        Args:
            worker: its number.
            priority: of the batch.
            cost_s: what the batch should take.
            share: of the workers' time that bulk gets while both wait, 0 to 1.
            bulk_waits: whether bulk is left in the queue.
        """
        if priority is Priority.BULK:
            self._running_bulk.add(worker)
            # Debts are of one batch at most: what bulk got while there was room costs it nothing.
            self._account_s = max(self._account_s, 0.0) - (1.0 - share) * cost_s
        elif bulk_waits:
            self._account_s += share * cost_s

    def ended(self, worker: int) -> None:
        """A worker gave its batch back, or is gone."""
        self._running_bulk.discard(worker)

    def bulk_is_due(self, cost_s: float, share: float) -> bool:
        """Whether a bulk batch of that cost comes before interactive requests now."""
        return self._account_s > 0.0 and self._account_s >= (1.0 - share) * cost_s

    def leaves_room_at_s(self, workers: int, hold_s: float) -> float:
        """From when bulk may have one worker more; minus infinity for now.

        Args:
            workers: how many there are.
            hold_s: how long after an interactive request a worker is left to the next one.
        """
        if workers < 2 or len(self._running_bulk) + 1 < workers:
            return -math.inf
        return self._interactive_came_s + hold_s

    def is_shared(self, hold_s: float, now_s: float) -> bool:
        """Whether interactive requests have come lately."""
        return now_s < self._interactive_came_s + hold_s
