"""Notes when each phase of a request begins, while somebody wants to know; see ``corral profile``.

Nothing of it exists otherwise: the data path asks once a step whether there is a book.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import time
from typing import Any

from corral.batching.jobs import Batch
from corral.dataplane.worker_link import Request, WorkerLink
from corral.ipc import spans

#: moments before the batch, and those of the batch
_BEFORE, _RUN = 3, 5


class SpanBook:
    """The requests of one cell, written as they are answered.

    Args:
        fd: memory for the records; taken over.
        capacity: records that it holds; requests beyond are counted and not written.

    Attributes:
        begun: when the receiving of a message began, by the task that receives it.
        written: records.
        dropped: requests that found no room.
    """

    def __init__(self, fd: int, capacity: int) -> None:
        self._memory = mmap.mmap(fd, capacity * spans.SPAN.size)
        os.close(fd)
        self._view = memoryview(self._memory)
        self._capacity = capacity
        self._open: dict[int, tuple[list[float], tuple[int, int, int]]] = {}
        self.begun: dict[asyncio.Task[Any], float] = {}
        self.written = 0
        self.dropped = 0

    def queued(self, request: Request) -> None:
        """The request's tensor is there, and it waits for a worker from now on."""
        task = asyncio.current_task()
        begun_s = self.begun.pop(task, request.arrived_s) if task else request.arrived_s
        self._open[id(request)] = ([begun_s, request.arrived_s, time.monotonic()], (0, 0, 0))

    def ran(
        self, batch: Batch[Request], link: WorkerLink, engine_s: float, collected_s: float
    ) -> None:
        """A batch came back, and its results are copied."""
        # The worker's clock and ours are one; a worker that says otherwise is not believed.
        started_s = min(max(link.started_s, link.sent_s), collected_s)
        ended_s = min(started_s + engine_s, collected_s)
        moments = [batch.formed_s, link.sent_s, started_s, ended_s, collected_s]
        for span in batch.spans:
            found = self._open.get(id(span.job))
            if found is not None:
                before = found[0][:_BEFORE]
                # A request that came before the batch's decision was read off the clock.
                moments[0] = max(moments[0], before[-1])
                self._open[id(span.job)] = (
                    [*before, *moments],
                    (batch.number, link.worker, batch.count),
                )

    def answered(self, request: Request, now_s: float) -> None:
        """The request has its answer."""
        moments, head = self._open.pop(id(request), ([], (0, 0, 0)))
        if len(moments) != _BEFORE + _RUN:
            return
        if self.written >= self._capacity:
            self.dropped += 1
            return
        spans.pack_into(self._view, self.written, (*head, request.count), [*moments, now_s])
        self.written += 1

    def failed(self, request: Request) -> None:
        """The request ended without a result."""
        self._open.pop(id(request), None)

    def close(self) -> None:
        """Lets the memory go; what is written in it stays with who gave it."""
        self._view.release()
        self._memory.close()
