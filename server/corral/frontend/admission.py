"""Calls that wait for their client: so many, and the connections share the room.

While a message is on its way it is the client's turn, and a client may take for ever. Such calls
take nobody's place: they are counted apart from those that the server works for, and where there
are too many, the connection that has the most of them loses its oldest.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Hashable
from types import TracebackType
from typing import Any

import msgspec

from corral.batching.incoming import Incoming
from corral.errors import QueueFull, Unavailable

_RETRY_MS = 100
_TOO_MANY = "too many messages of this connection are on their way"
_TOO_SLOW = "the message came too slowly, and its place was needed"
_CLOSED = "the server is stopping"


class Admission:
    """The calls of a cell whose client is to speak.

    It belongs to the event loop that runs while it is made.

    Args:
        most: calls that may wait for their client.
        most_bytes: what messages may hold that are there in part; beyond it some have to wait.
        slow_s: how long nothing may come of a message while others wait for its room.
    """

    def __init__(self, most: int, most_bytes: int, *, slow_s: float) -> None:
        self._incoming: Incoming[asyncio.Task[Any]] = Incoming(
            most, most_bytes, lambda task: task.cancel()
        )
        self._slow_s = slow_s
        self._loop = asyncio.get_running_loop()
        #: those that end with the server, because they ask for an inference
        self._inferences: set[asyncio.Task[Any]] = set()
        self._room = asyncio.Event()
        self._waiting = 0
        self.closed = False

    def __len__(self) -> int:
        return len(self._incoming)

    def set_most(self, most: int) -> None:
        """Another limit holds from now on."""
        self._incoming.most = most

    def close(self) -> None:
        """No inference is received any more: those whose message is not there yet end."""
        self.closed = True
        self._incoming.clear(self._inferences.__contains__)

    def turn(self, scope: dict[str, Any], *, inference: bool = False) -> ClientsTurn:
        """A block in which the current task waits for its client.

        It raises QueueFull where the call is one too many, or has to make room for another; and
        Unavailable where it is an inference and the server stops.

        Args:
            scope: ASGI's.
            inference: whether the message is one.
        """
        return ClientsTurn(self, scope.get("client"), inference)

    async def _wait_for_room(self, task: asyncio.Task[Any]) -> None:
        self._waiting += 1
        try:
            while not self._incoming.grow(task, 0, now_s := time.monotonic()):
                if self._incoming.give_up_stalled(now_s - self._slow_s):
                    continue
                # Nobody says that a message has stalled: those that wait look by themselves.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._slow_s / 5):
                        await self._room.wait()
        finally:
            self._waiting -= 1

    def _tell_waiting(self) -> None:
        room, self._room = self._room, asyncio.Event()
        room.set()


class ClientsTurn(msgspec.Struct, eq=False):
    """See ``Admission.turn``; made once a request, so that its constructor is not Python's."""

    _admission: Admission
    _source: Hashable
    _inference: bool
    _task: asyncio.Task[Any] | None = None

    def __enter__(self) -> ClientsTurn:
        # Without its loop, the interpreter asks the kernel each time which process it is.
        admission = self._admission
        task = asyncio.current_task(admission._loop)
        assert task
        self._task = task
        if self._inference:
            if admission.closed:
                raise Unavailable(_CLOSED)
            admission._inferences.add(task)
        if not admission._incoming.begin(task, self._source):
            admission._inferences.discard(task)
            raise QueueFull(_TOO_MANY, _RETRY_MS)
        return self

    def grow(self, count: int) -> Awaitable[None] | None:
        """More of the message is there, and not all.

        Args:
            count: bytes of the piece.

        Returns:
            what to await before the next piece is taken; None: nothing.
        """
        admission, task = self._admission, self._task
        assert task
        if admission._incoming.grow(task, count, time.monotonic()):
            return None
        return admission._wait_for_room(task)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        admission, task = self._admission, self._task
        assert task
        if self._inference:
            admission._inferences.discard(task)
        was_there = admission._incoming.end(task)
        if admission._waiting:
            admission._tell_waiting()
        if was_there or kind is not asyncio.CancelledError:
            return
        # Its place was taken; that is no cancellation to anybody else.
        task.uncancel()
        if self._inference and admission.closed:
            raise Unavailable(_CLOSED) from None
        raise QueueFull(_TOO_SLOW, _RETRY_MS) from None
