"""Looks at what surrounds the server: the CPUs that are ours, the quota that stops us."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from corral import procfs
from corral.supervision.allowance import Allowance, AllowanceWatch, ThrottlingReport

#: a look costs a few dozen small reads of /proc and /sys/fs/cgroup, less than a millisecond
LOOK_S = 1.0


class Surroundings:
    """Looks once a second, on the running loop.

    Args:
        read: the allowance as it is now.
        on_allowance: called with one that is new and has settled.
        on_throttling: called with a sentence when a quota stops threads.
    """

    def __init__(
        self,
        read: Callable[[], Allowance],
        on_allowance: Callable[[Allowance], None],
        on_throttling: Callable[[str], None],
    ) -> None:
        self._read = read
        self._on_allowance = on_allowance
        self._on_throttling = on_throttling
        self._loop = asyncio.get_running_loop()
        self._watch = AllowanceWatch(read())
        self._report = ThrottlingReport(procfs.cpu_throttling(), self._loop.time())
        self._timer = self._loop.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        self._timer = self._loop.call_later(LOOK_S, self._look)
        if (allowance := self._watch.look(self._read())) is not None:
            self._on_allowance(allowance)
        if (sentence := self._report.look(procfs.cpu_throttling(), self._loop.time())) is not None:
            self._on_throttling(sentence)

    def stop(self) -> None:
        """Looks no more."""
        self._timer.cancel()
