"""Work on one request that takes longer than the others should wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from corral.errors import QueueFull

T = TypeVar("T")

_THREADS = 2
#: what is shorter is done at once
_QUICK_BYTES = 64 * 2**10
#: what the bodies that wait for it, or are worked on, may hold; each becomes up to twice as much
_MAX_BYTES = 128 * 2**20
_RETRY_MS = 100


class SideWork:
    """Threads for long JSON, forms and answers and what is packed; use it from one event loop."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="rest")
        self._bytes = 0

    async def run(self, work: Callable[[], T], size_bytes: int, *, packed: bool = False) -> T:
        """What ``work`` returns or raises.

        Args:
            work: run in another thread where the body is long.
            size_bytes: of the body that it holds.
            packed: whether that says nothing of how long the work takes.

        Raises:
            QueueFull: too much waits already.
        """
        if size_bytes <= _QUICK_BYTES and not packed:
            return work()
        if self._bytes and self._bytes + size_bytes > _MAX_BYTES:
            raise QueueFull("too many long bodies are being read", _RETRY_MS)
        self._bytes += size_bytes
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._bytes -= size_bytes

    async def write(self, work: Callable[[], T], size_bytes: int) -> T:
        """The same for an answer, which is never refused: it is there, and two grow at a time."""
        if size_bytes <= _QUICK_BYTES:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)
