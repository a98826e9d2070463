"""What unanswered requests hold, and whether there is room for one more. Pure."""

from __future__ import annotations

from typing import Generic

from corral.batching.jobs import J
from corral.batching.lines import Lines
from corral.batching.policy import Policy
from corral.priority import Priority


class Room(Generic[J]):
    """The places and the memory of a queue.

    Bulk has a line of its own, half as long as that of interactive requests, and half of the
    memory, so that neither fills the other's place.

    Args:
        lines: what waits.
    """

    def __init__(self, lines: Lines[J]) -> None:
        self._lines = lines
        self._bytes = dict.fromkeys(Priority, 0)
        #: bytes that unsettled jobs hold
        self.held_bytes = 0

    def takes(self, policy: Policy, priority: Priority, count: int, size_bytes: int) -> bool:
        """Whether there is room for a request of ``count`` items that holds ``size_bytes``."""
        waiting = self._lines.waiting[priority]
        if self.held_bytes + size_bytes > policy.max_bytes:
            return False
        if priority is Priority.INTERACTIVE:
            return waiting + count <= policy.max_queue
        # One that is alone is taken whatever its size.
        held = self._bytes[priority]
        return (
            count <= policy.max_queue
            and (not waiting or waiting + count <= policy.max_queue / 2)
            and (not held or held + size_bytes <= policy.max_bytes / 2)
        )

    def hold(self, job: J) -> None:
        """The job is admitted."""
        self.held_bytes += job.size_bytes
        self._bytes[job.priority] += job.size_bytes

    def release(self, job: J) -> None:
        """The job is settled."""
        self.held_bytes -= job.size_bytes
        self._bytes[job.priority] -= job.size_bytes
