"""Workers that hang: noticed by how long their batch should have taken. Pure.

A stopped process, an engine that never returns and a machine that lost a page all look the same:
no answer. How long is too long follows from the measured cost of the batch, so that a batch of 64
gets its time and a single item does not wait for ever.
"""

from __future__ import annotations

#: A batch may take this often what it is expected to: CPUs are throttled, and shared.
_MARGIN = 10.0
#: Who looks this much later than it meant to stood still itself.
_STOOD_STILL_S = 1.0
#: Event loops call a little early.
_EARLY_S = 0.001


class HangWatch:
    """When each busy worker must have answered; clock readings in, hung workers out.

    Args:
        floor_s: no worker is given less time than this.
    """

    def __init__(self, floor_s: float) -> None:
        self.floor_s = floor_s
        self._due_s: dict[int, float] = {}

    @property
    def next_look_s(self) -> float | None:
        """When to look next; None while no worker is busy."""
        return min(self._due_s.values(), default=None)

    def began(self, worker: int, expected_s: float, now_s: float) -> float:
        """A worker got a batch; returns when it must have answered."""
        due_s = now_s + max(self.floor_s, _MARGIN * expected_s)
        self._due_s[worker] = due_s
        return due_s

    def ended(self, worker: int) -> None:
        """The worker answered, or is gone."""
        self._due_s.pop(worker, None)

    def look(self, now_s: float) -> list[int]:
        """The workers that hang; call it when ``next_look_s`` has come.

        Called much later, it finds none: the caller stood still, its workers perhaps with it (a
        frozen container), and answers may lie there unread. All get that time once more.
        """
        late_s = now_s - min(self._due_s.values(), default=now_s)
        if late_s > _STOOD_STILL_S:
            for worker in self._due_s:
                self._due_s[worker] += late_s
            return []
        return [worker for worker, due_s in self._due_s.items() if due_s <= now_s + _EARLY_S]
