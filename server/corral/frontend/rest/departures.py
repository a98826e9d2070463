"""Clients over HTTP/1.1 that close their connection while their request waits.

HTTP/2 says when a client gives a request up, and h2corn then cancels the application's task. A
connection of HTTP/1.1 is not read while it is being answered, so that its end shows in the
kernel's table alone. It is looked at only while a request has waited for long.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection

import msgspec

from corral.frontend.rest.service import Scope
from corral.system.procfs import kernel_address

#: (local port, the other end as the kernel prints it)
Connection = tuple[int, str]
#: the connections on ports that the other end has not closed; None where that is unknown
Table = Callable[[Collection[int]], set[Connection] | None]

_LOOK_S = 0.25
#: looking takes at most this part of a CPU's time
_SHARE = 0.02


class Departures:
    """Cancels the tasks of requests whose clients have gone.

    Use it from one event loop.

    Args:
        table: reads the kernel's.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        #: The requests that wait, by their tasks. Whose connection it is, is found out for those
        #: alone that wait for long.
        self._waiting: dict[asyncio.Task[object], Scope] = {}
        #: those that were there at the last look, and those missing in it
        self._seen: dict[asyncio.Task[object], Connection] = {}
        self._missing: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._left: set[asyncio.Task[object]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def watching(self, scope: Scope) -> Presence:
        """A block whose task is cancelled if its client leaves before it ends.

        Args:
            scope: of the request; nothing happens where it is not of HTTP/1.1 over TCP.
        """
        return Presence(self, scope)

    def begin(self, scope: Scope) -> asyncio.Task[object]:
        """The current task answers a request; returns what ``end`` takes."""
        if (loop := self._loop) is None:
            # Once: the interpreter asks the kernel each time which process it is.
            loop = self._loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task
        self._waiting[task] = scope
        if self._timer is None:
            self._look_in(_LOOK_S)
        return task

    def end(self, task: asyncio.Task[object]) -> None:
        """It has."""
        del self._waiting[task]
        if self._seen:
            self._seen.pop(task, None)
            self._missing.discard(task)

    def left(self) -> bool:
        """Whether the current task was cancelled because its client had gone; forgets it."""
        task = asyncio.current_task()
        if task not in self._left:
            return False
        self._left.discard(task)
        task.uncancel()
        return True

    def _look_in(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._waiting:
            return
        pause_s = _LOOK_S
        if self._seen:
            began_s = time.thread_time()
            there = self._table({port for port, _ in self._seen.values()})
            if there is not None:
                self._compare(there)
            pause_s = max(_LOOK_S, (time.thread_time() - began_s) / _SHARE)
        seen = self._seen
        self._seen = {
            task: connection
            for task, scope in self._waiting.items()
            if (connection := seen.get(task) or _connection(scope)) is not None
        }
        self._look_in(pause_s)

    def _compare(self, there: set[Connection]) -> None:
        missing = {task for task, connection in self._seen.items() if connection not in there}
        # Twice, as the kernel's table is not read in one go.
        for task in missing & self._missing:
            self._left.add(task)
            task.cancel()
        self._missing = missing


class Presence(msgspec.Struct, eq=False):
    """See ``Departures.watching``."""

    _departures: Departures
    _scope: Scope
    _task: asyncio.Task[object] | None = None

    def __enter__(self) -> None:
        if self._scope.get("http_version") == "1.1":
            self._task = self._departures.begin(self._scope)

    def __exit__(self, *_: object) -> None:
        if self._task is not None:
            self._departures.end(self._task)


def _connection(scope: Scope) -> Connection | None:
    client, server = scope.get("client"), scope.get("server")
    if not client or not server or not server[1]:
        return None
    try:
        return server[1], kernel_address(client[0], client[1])
    except ValueError:
        return None
