"""Long answers that their clients have not taken: how much they hold, and which one makes room.

HTTP lets out no more of an answer than its client asks for, and a client may never ask. So the
connections share the room as they do for messages that arrive: where it is used up, the one that
uses most of it gives way to the one that uses less.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Hashable, Iterator
from typing import Final

from corral.errors import QueueFull
from corral.frontend.limits import OUTGOING_BYTES
from corral.frontend.pieces import PIECE_BYTES

#: What HTTP/2 lets out before the client asks for more, with room for other answers. One that is
#: no longer is with the HTTP server at once, whose buffers bound it.
SHORT_BYTES = 2**14
#: So many answers may be there whatever they hold: clients that ask as much at once and read as
#: fast as they can are no attack.
_LEAST_ANSWERS = 32
#: what an answer holds besides its bytes: a task, and its place here
_PLACE_BYTES = 2**12
_RETRY_MS = 100
TOO_MANY: Final = "the answers that this connection has not taken hold as much as they may"


class NotTaken(Exception):
    """The answer's client did not take it, and its room was needed: what asked for it ends."""


class _Held:
    """An answer, and the task that sends it."""

    __slots__ = ("given_up", "size_bytes", "task")

    def __init__(self, task: asyncio.Task[object], size_bytes: int) -> None:
        self.task = task
        self.size_bytes = size_bytes
        self.given_up = False


class _Connection:
    """A connection's answers, the oldest first, and what they hold."""

    __slots__ = ("answers", "held_bytes")

    def __init__(self) -> None:
        self.answers: dict[_Held, None] = {}
        self.held_bytes = 0


class Outgoing:
    """The long answers of a cell that are on their way.

    It belongs to one event loop.

    Args:
        most_bytes: what they may hold together; 32 of the latest one's size where that is more.

    Attributes:
        held_bytes: what they hold.
    """

    def __init__(self, most_bytes: int = OUTGOING_BYTES) -> None:
        self._most_bytes = most_bytes
        self._connections: dict[Hashable, _Connection] = {}
        self.held_bytes = 0

    @contextlib.contextmanager
    def answer(self, source: Hashable, size_bytes: int) -> Iterator[None]:
        """A block in which the current task sends a long answer.

        Args:
            source: names the connection.
            size_bytes: of the answer.

        Raises:
            QueueFull: there is no room for it, and its own connection has the most of it.
            NotTaken: it had to make room for another connection's while it was sent.
        """
        # The piece that is being sent is a copy.
        size_bytes += min(size_bytes, PIECE_BYTES) + _PLACE_BYTES
        self._make_room(source, size_bytes)
        task = asyncio.current_task()
        assert task
        held = _Held(task, size_bytes)
        connection = self._connections.setdefault(source, _Connection())
        connection.answers[held] = None
        connection.held_bytes += size_bytes
        self.held_bytes += size_bytes
        try:
            yield
        except asyncio.CancelledError:
            # Who else has cancelled the task wants to see it end.
            if not held.given_up or task.uncancel():
                raise
            raise NotTaken from None
        finally:
            if not held.given_up:
                self._end(source, held)

    def _make_room(self, source: Hashable, size_bytes: int) -> None:
        most_bytes = max(self._most_bytes, _LEAST_ANSWERS * size_bytes)
        while self.held_bytes + size_bytes > most_bytes:
            # Of those that hold as much, the one whose answers are the oldest.
            largest = max(self._connections, key=lambda one: self._connections[one].held_bytes)
            own = self._connections.get(source)
            if own and own.held_bytes >= self._connections[largest].held_bytes:
                raise QueueFull(TOO_MANY, _RETRY_MS)
            held = next(iter(self._connections[largest].answers))
            held.given_up = True
            self._end(largest, held)
            held.task.cancel()

    def _end(self, source: Hashable, held: _Held) -> None:
        connection = self._connections[source]
        del connection.answers[held]
        connection.held_bytes -= held.size_bytes
        self.held_bytes -= held.size_bytes
        if not connection.answers:
            del self._connections[source]
