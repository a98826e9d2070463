"""Calls whose message is received when there is room for it, and not before.

gRPC receives a unary call's message before it asks anybody. As streams of one message, calls are
told apart from their messages: until it is read from, a client sends no more than HTTP/2's window,
which gRPC opens to 4 MiB a connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import Any

from corral.batching.arrivals import Arrivals
from corral.errors import InvalidRequest, QueueFull

_RETRY_MS = 100
_TOO_MANY = "too many messages are under way"
_TOO_SLOW = "the message came too slowly, and its place was needed"


class Receiver:
    """Receives the one message of each call, so many at a time; the others wait for their turn.

    Use it from one event loop.

    Args:
        at_once: messages that may be under way.
        slow_s: how long one may take while another call waits for its place.
        most_waiting: calls that may wait; None where something else bounds them.
    """

    def __init__(self, at_once: int, *, slow_s: float, most_waiting: int | None = None) -> None:
        self._arrivals: Arrivals[asyncio.Task[Any]] = Arrivals(
            at_once, lambda task: task.cancel(), slow_s
        )
        self._slow_s = slow_s
        self._most_waiting = most_waiting
        self._waiting: deque[asyncio.Event] = deque()

    def set_limits(self, at_once: int, most_waiting: int) -> None:
        """Others hold from now on."""
        self._arrivals.most = at_once
        self._most_waiting = most_waiting

    async def receive(self, context: Any) -> bytes:
        """The message of the call that the current task handles, as bytes.

        Args:
            context: the call's grpc.aio.ServicerContext, of a handler for streams of requests.

        Raises:
            QueueFull: too many wait, or this one came too slowly.
            InvalidRequest: the call ended without one.
        """
        task = asyncio.current_task()
        assert task
        if self._waiting or not self._arrivals.begin(task, time.monotonic()):
            await self._wait_for_a_place(task)
        try:
            message = await context.read()
        except asyncio.CancelledError:
            if task not in self._arrivals:
                raise QueueFull(_TOO_SLOW, _RETRY_MS) from None
            raise
        finally:
            # The place of one that was given up has been taken already.
            if self._arrivals.end(task):
                self._wake()
        if not isinstance(message, bytes):
            raise InvalidRequest("the call has no message")
        return message

    async def _wait_for_a_place(self, task: asyncio.Task[Any]) -> None:
        if self._most_waiting is not None and len(self._waiting) >= self._most_waiting:
            raise QueueFull(_TOO_MANY, _RETRY_MS)
        turn = asyncio.Event()
        self._waiting.append(turn)
        try:
            while not (first := self._waiting[0] is turn) or not self._arrivals.begin(
                task, time.monotonic()
            ):
                turn.clear()
                # Nobody says that a message has become slow: the first looks again by itself.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._slow_s / 5 if first else None):
                        await turn.wait()
        finally:
            self._waiting.remove(turn)
            self._wake()

    def _wake(self) -> None:
        """A place may be free: the first that waits looks."""
        if self._waiting:
            self._waiting[0].set()
