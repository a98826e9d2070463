"""What a request costs the frontend on this machine, from the CPU time of the frontends that serve.

No run of its own is needed and nothing is added to a request, whichever frontend serves: the
kernel counts the CPU time of its process, and its counter page the requests. The figure is of the
traffic that the plan is for: its tensors or pictures, its connections, TLS or none. It is taken
only while a frontend is busy, so that start-up and idle time are not in it, and only while nearly
all requests succeed, since a refusal costs a fraction of an answer.
"""

from __future__ import annotations

import asyncio
import dataclasses
import statistics
from collections import deque
from collections.abc import Callable, Iterator

from corral.ipc.status import StatusBoard
from corral.metrics.counters import Pages
from corral.system import procfs
from corral.tensors import View

#: CPU time is counted in ticks of 10 ms: an error of 5 % at 0.4 ms for each of 500 requests
WINDOW_S = 5.0
_LEAST_REQUESTS = 500
_LEAST_SUCCEEDED = 0.95
#: fewer windows than these say nothing, and the latest of more are enough
_LEAST_WINDOWS = 3
_MOST_WINDOWS = 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """One frontend at one moment; the numbers only grow.

    Attributes:
        pid: of its process.
        cpu_s: CPU time that the process has used.
        received: requests that its cell has received.
        succeeded: requests that its cell has answered with a result.
    """

    pid: int
    cpu_s: float
    received: int
    succeeded: int


def cost_us(before: Sample, after: Sample) -> float | None:
    """Microseconds of CPU a request between two samples; None where they do not say."""
    succeeded = after.succeeded - before.succeeded
    if before.pid != after.pid or succeeded < _LEAST_REQUESTS:
        return None
    if succeeded < _LEAST_SUCCEEDED * (after.received - before.received):
        return None
    return (after.cpu_s - before.cpu_s) / succeeded * 1e6


class FrontMeter:
    """Looks at the frontends every few seconds, on the running loop.

    Args:
        board: knows their processes.
        pages: their counters.
        cpu_seconds: CPU time of a process by its id.
    """

    def __init__(
        self,
        board: StatusBoard,
        pages: Pages,
        cpu_seconds: Callable[[int], float] = procfs.process_cpu_seconds,
    ) -> None:
        self._board = board
        self._pages = pages
        self._cpu_seconds = cpu_seconds
        self._loop = asyncio.get_running_loop()
        self._last: dict[int, Sample] = {}
        self._costs_us: deque[float] = deque(maxlen=_MOST_WINDOWS)
        self._requests = 0
        self._timer = self._loop.call_later(WINDOW_S, self._look)

    def _look(self) -> None:
        self._timer = self._loop.call_later(WINDOW_S, self._look)
        self.look()

    def look(self) -> None:
        """Takes a sample of every frontend that runs."""
        samples = dict(self._samples())
        for cell, sample in samples.items():
            before = self._last.get(cell)
            cost = None if before is None else cost_us(before, sample)
            if before is not None and cost is not None:
                self._costs_us.append(cost)
                self._requests += sample.succeeded - before.succeeded
        self._last = samples

    def _samples(self) -> Iterator[tuple[int, Sample]]:
        for cell in self._board.current().cells:
            if cell.pid is None:
                continue
            try:
                cpu_s = self._cpu_seconds(cell.pid)
            except ProcessLookupError:
                continue
            yield (
                cell.cell,
                Sample(
                    pid=cell.pid,
                    cpu_s=cpu_s,
                    received=self._count(cell.cell, "received"),
                    succeeded=self._count(cell.cell, "succeeded"),
                ),
            )

    def _count(self, cell: int, name: str) -> int:
        return sum(self._pages.read(f"view/{view}/{name}", cell) for view in View)

    def stop(self) -> tuple[float, int] | None:
        """Looks no more; returns microseconds a request and over how many, or None if unknown."""
        self._timer.cancel()
        if len(self._costs_us) < _LEAST_WINDOWS:
            return None
        return statistics.median(self._costs_us), self._requests
