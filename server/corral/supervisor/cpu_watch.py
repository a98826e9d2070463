"""Looks at what surrounds the server: the CPUs that are ours, the quota that stops us."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable

from corral.supervisor.admin import Reply
from corral.supervisor.allowance import Allowance, AllowanceWatch, ThrottlingReport
from corral.system import procfs

logger = logging.getLogger(__name__)

#: a look costs a few dozen small reads of /proc and /sys/fs/cgroup, less than a millisecond
LOOK_S = 1.0


class Surroundings:
    """Looks once a second, on the running loop.

    Args:
        read: the allowance as it is now.
        on_allowance: called with one that is new and has settled, until the task that it returns
            went well; None: it is not the time for a change.
        on_throttling: called with a sentence when a quota stops threads.
    """

    def __init__(
        self,
        read: Callable[[], Allowance],
        on_allowance: Callable[[Allowance], asyncio.Task[Reply] | None],
        on_throttling: Callable[[str], None],
    ) -> None:
        self._read = read
        self._on_allowance = on_allowance
        self._on_throttling = on_throttling
        self._loop = asyncio.get_running_loop()
        self._watch = AllowanceWatch(read())
        self._change: asyncio.Task[Reply] | None = None
        self._report = ThrottlingReport(procfs.cpu_throttling(), self._loop.time())
        self._timer = self._loop.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        self._timer = self._loop.call_later(LOOK_S, self._look)
        now_s = self._loop.time()
        allowance = self._watch.look(self._read(), now_s)
        if allowance is not None and self._change is None:
            self._change = self._on_allowance(allowance)
            if self._change is not None:
                self._change.add_done_callback(functools.partial(self._on_changed, allowance))
        if (sentence := self._report.look(procfs.cpu_throttling(), now_s)) is not None:
            self._on_throttling(sentence)

    def _on_changed(self, allowance: Allowance, change: asyncio.Task[Reply]) -> None:
        self._change = None
        if change.cancelled():
            return
        if (error := change.exception()) is not None:
            logger.error("no plan could be made for %s", allowance, exc_info=error)
        if error is None and change.result().exit_code == 0:
            self._watch.planned(allowance)
        else:
            self._watch.failed(allowance, self._loop.time())

    def stop(self) -> None:
        """Looks no more."""
        self._timer.cancel()
