"""The C library's heap: what was freed goes back to the kernel when it is of no more use.

The frontend keeps freed buffers mapped (see planning.environment), because the next message needs
them at once. After a peak, or when nobody comes any more, they are of use to somebody else.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable

from corral.system import procfs

_LOOK_S = 1.0
#: a heap may be so much larger than it was at first before it is trimmed although it is of use
_KEPT_BYTES = 32 * 2**20
#: and then it is trimmed so often at most, in looks
_BUSY_LOOKS = 4


class MallocTrimmer:
    """Trims the heap of this process once a second, when there is a reason to.

    Args:
        activity: a number that has changed when there was something to do.
        resident_bytes: what the process holds now.
        trim: gives freed memory back.
        keeps: whether the first request after a silence is to find its buffers mapped; then a
            silence is no reason to trim a heap that is not much larger than it was at first.
    """

    def __init__(
        self,
        activity: Callable[[], int],
        resident_bytes: Callable[[], int] = lambda: procfs.resident_bytes(os.getpid()),
        trim: Callable[[], None] | None = None,
        *,
        keeps: Callable[[], bool] = lambda: False,
    ) -> None:
        self._activity = activity
        self._resident_bytes = resident_bytes
        self._trim = _malloc_trim() if trim is None else trim
        self._keeps = keeps
        self._seen = activity()
        self._kept = False
        self._busy_looks = 0
        self._least_bytes = resident_bytes()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Looks from now on, as long as the loop runs."""
        self.look()
        loop.call_later(_LOOK_S, self.start, loop)

    def look(self) -> None:
        """Trims at the first look after which nothing has happened, or when much is kept."""
        seen = self._activity()
        busy, self._seen = seen != self._seen, seen
        self._kept |= busy
        self._busy_looks = self._busy_looks + 1 if busy else 0
        if not self._kept:
            return
        much = self._resident_bytes() > self._least_bytes + _KEPT_BYTES
        quiet = not busy and (much or not self._keeps())
        if quiet or (much and self._busy_looks >= _BUSY_LOOKS):
            self._trim()
            self._kept = busy
            self._busy_looks = 0


def _malloc_trim() -> Callable[[], None]:
    """The C library's, or nothing where it has none (musl)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return (lambda: None) if trim is None else (lambda: trim(ctypes.c_size_t(0)) and None)
