"""Asks every frontend to note its requests' phases for a while, and collects what they wrote."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence

import msgspec

from corral.ipc import spans
from corral.ipc.messages import StartTrace, StopTrace, Traced
from corral.supervisor import frontend_link
from corral.supervisor.slots import FrontendSlot
from corral.system import memfd

#: a longer trace fills the memory of a busy cell
MOST_SECONDS = 60.0
#: requests of a cell that are written down
CAPACITY = 50_000
#: for a frontend to say how many it has written
_PATIENCE_S = 5.0


class CellTrace(msgspec.Struct, frozen=True, kw_only=True):
    """What one frontend wrote: records as ``ipc.spans`` has them, and how many found no room."""

    cell: int
    records: bytes
    dropped: int


class Tracer:
    """Traces the frontends of a server, one trace at a time.

    Args:
        frontends: all of them.
    """

    def __init__(self, frontends: Sequence[FrontendSlot]) -> None:
        self._frontends = frontends
        self._waiting: dict[int, asyncio.Future[Traced]] = {}
        #: whether a trace is under way
        self.busy = False

    def traced(self, message: Traced) -> None:
        """A frontend has stopped writing."""
        future = self._waiting.pop(message.cell, None)
        if future is not None and not future.done():
            future.set_result(message)

    async def trace(self, seconds: float) -> list[CellTrace]:
        """Lets the frontends write for so long; those that end meanwhile are left out.

        Where it is cancelled, they stop writing at once.

        Raises:
            OSError: no memory or descriptor to be had.
        """
        self.busy = True
        memory: dict[int, int] = {}
        try:
            for frontend in self._frontends:
                fd = memfd.create("trace", CAPACITY * spans.SPAN.size)
                memory[frontend.cell] = fd
                frontend_link.tell(frontend, StartTrace(capacity=CAPACITY), (fd,))
            await asyncio.sleep(seconds)
            return await self._collect(memory)
        except asyncio.CancelledError:
            for frontend in self._frontends:
                frontend_link.tell(frontend, StopTrace())
            raise
        finally:
            self._waiting.clear()
            self.busy = False
            for fd in memory.values():
                os.close(fd)

    async def _collect(self, memory: dict[int, int]) -> list[CellTrace]:
        loop = asyncio.get_running_loop()
        waiting = {cell: loop.create_future() for cell in memory}
        self._waiting = dict(waiting)
        for frontend in self._frontends:
            frontend_link.tell(frontend, StopTrace())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                await asyncio.gather(*waiting.values())
        self._waiting.clear()
        found = [future.result() for future in waiting.values() if _has_result(future)]
        return [
            CellTrace(
                cell=told.cell,
                records=os.pread(memory[told.cell], told.requests * spans.SPAN.size, 0),
                dropped=told.dropped,
            )
            for told in found
        ]


def _has_result(future: asyncio.Future[Traced]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None
