"""Writes down the moments of each request, while somebody wants to know; see ``corral profile``."""

from __future__ import annotations

import mmap
import os

from corral.ipc import spans
from corral.telemetry.timeline import Timeline


class SpanBook:
    """The requests of one cell, written as they are answered.

    Args:
        fd: memory for the records; taken over.
        capacity: records that it holds; requests beyond are counted and not written.

    Attributes:
        written: records.
        dropped: requests that found no room.
    """

    def __init__(self, fd: int, capacity: int) -> None:
        self._memory = mmap.mmap(fd, capacity * spans.SPAN.size)
        os.close(fd)
        self._view = memoryview(self._memory)
        self._capacity = capacity
        self.written = 0
        self.dropped = 0

    def write(self, timeline: Timeline) -> None:
        """Writes a request down that has ended; nothing where it has no result."""
        if not timeline.answered_s or not timeline.runs:
            return
        if self.written >= self._capacity:
            self.dropped += 1
            return
        run = timeline.runs[-1]
        # A request that came before the batch's decision was read off the clock.
        formed_s = max(run.formed_s, timeline.queued_s)
        moments = [
            timeline.begun_s,
            timeline.received_s,
            timeline.queued_s,
            formed_s,
            run.sent_s,
            run.started_s,
            run.ended_s,
            run.collected_s,
            timeline.answered_s,
        ]
        head = (run.batch, run.worker, run.items, timeline.items)
        spans.pack_into(self._view, self.written, head, moments)
        self.written += 1

    def close(self) -> None:
        """Lets the memory go; what is written in it stays with who gave it."""
        self._view.release()
        self._memory.close()
