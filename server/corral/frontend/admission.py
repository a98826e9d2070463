"""Messages that are received at a time: so many, and none for ever while others wait.

A message that is under way holds memory that no queue knows of yet. Until its body is pulled, a
client sends no more than HTTP/2's window.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from corral.batching.admission import MessagesUnderWay
from corral.errors import QueueFull, Unavailable

T = TypeVar("T")

_RETRY_MS = 100
_TOO_MANY = "too many messages are under way"
_TOO_SLOW = "the message came too slowly, and its place was needed"
_CLOSED = "the server is stopping"


class Admission:
    """Lets calls receive their messages, so many at a time; the others wait for their turn.

    Use it from one event loop.

    Args:
        at_once: messages that may be under way.
        slow_s: how long one may take while another call waits for its place.
        most_waiting: calls that may wait; None where something else bounds them.
    """

    def __init__(self, at_once: int, *, slow_s: float, most_waiting: int | None = None) -> None:
        self._under_way: MessagesUnderWay[asyncio.Task[Any]] = MessagesUnderWay(
            at_once, lambda task: task.cancel(), slow_s
        )
        self._slow_s = slow_s
        self._most_waiting = most_waiting
        self._waiting: deque[asyncio.Event] = deque()
        self._closed = False
        #: when the message of each task began to be received, while requests are traced
        self.begun: dict[asyncio.Task[Any], float] | None = None

    def set_limits(self, at_once: int, most_waiting: int) -> None:
        """Others hold from now on."""
        self._under_way.most = at_once
        self._most_waiting = most_waiting

    def close(self) -> None:
        """Nothing more is received: calls whose message is not there yet end."""
        self._closed = True
        for task in self._under_way.clear():
            task.cancel()
        for turn in self._waiting:
            turn.set()

    async def receive(self, read: Callable[[], Awaitable[T]]) -> T:
        """The message of the call that the current task handles.

        Args:
            read: pulls the message from the network; called once there is a place for it.

        Raises:
            QueueFull: too many wait, or this one came too slowly.
            Unavailable: nothing more is received.
        """
        task = asyncio.current_task()
        assert task
        if self._waiting or self._closed or not self._under_way.begin(task, time.monotonic()):
            await self._wait_for_a_place(task)
        if self.begun is not None:
            self.begun[task] = time.monotonic()
        try:
            return await read()
        except asyncio.CancelledError:
            if task in self._under_way:
                raise
            # Its place was taken; that is no cancellation to anybody else.
            task.uncancel()
            if self._closed:
                raise Unavailable(_CLOSED) from None
            raise QueueFull(_TOO_SLOW, _RETRY_MS) from None
        finally:
            if self._under_way.end(task) and self._waiting:
                self._wake()

    async def _wait_for_a_place(self, task: asyncio.Task[Any]) -> None:
        if self._most_waiting is not None and len(self._waiting) >= self._most_waiting:
            raise QueueFull(_TOO_MANY, _RETRY_MS)
        turn = asyncio.Event()
        self._waiting.append(turn)
        try:
            while not self._closed and (
                not (first := self._waiting[0] is turn)
                or not self._under_way.begin(task, time.monotonic())
            ):
                turn.clear()
                # Nobody says that a message has become slow: the first looks again by itself.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._slow_s / 5 if first else None):
                        await turn.wait()
        finally:
            self._waiting.remove(turn)
            self._wake()
        if self._closed:
            self._under_way.end(task)
            raise Unavailable(_CLOSED)

    def _wake(self) -> None:
        """A place may be free: the first that waits looks."""
        if self._waiting:
            self._waiting[0].set()
