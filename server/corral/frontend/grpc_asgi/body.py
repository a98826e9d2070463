"""A request's body, message by message: a flag and a length before each.

The body is pulled piece by piece, so what the first five bytes say is known before the rest is
taken from the network.
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from corral.frontend.grpc_asgi.status import ClientGone, Code, GrpcError

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
#: told of each piece of a message that is not whole yet; what to await before the next is taken
Grow = Callable[[int], Awaitable[None] | None]

PREFIX = struct.Struct(">BI")
_PREFIX_BYTES = PREFIX.size
_CUT_SHORT = "the call ended in the middle of a message"


def take_all(_count: int) -> None:
    """A ``Grow`` that never has to wait."""


class Body:
    """The messages of one request.

    Args:
        receive: ASGI's.
    """

    __slots__ = ("_ended", "_left", "_receive")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        #: what has come and was not asked for yet
        self._left = b""
        self._ended = False

    async def _pull(self) -> bytes:
        """The next piece; empty at the end."""
        while not self._ended:
            event = await self._receive()
            if event["type"] != "http.request":
                self._ended = True
                raise ClientGone
            if not event.get("more_body", False):
                self._ended = True
            piece: bytes | None = event.get("body")
            if piece:
                return piece
        return b""

    async def prefix(self) -> tuple[int, int] | None:
        """The flag and the length of the next message; None when there is none.

        Raises:
            ClientGone: the client is.
            GrpcError: the body ends within the prefix.
        """
        piece = self._left or await self._pull()
        while len(piece) < _PREFIX_BYTES:
            more = await self._pull()
            if not more:
                if piece:
                    raise GrpcError(Code.INVALID_ARGUMENT, _CUT_SHORT)
                return None
            piece += more
        flag, length = PREFIX.unpack_from(piece)
        self._left = piece
        return flag, length

    async def pieces(self, length: int, grow: Grow) -> list[bytes | memoryview]:
        """The message whose prefix was read, in as many pieces as it came.

        Args:
            length: what the prefix says.
            grow: told how much is there while it is not all.

        Raises:
            ClientGone: the client is.
            GrpcError: the body ends within the message.
        """
        held = self._left
        have = len(held) - _PREFIX_BYTES
        if have == length:
            self._left = b""
            return [memoryview(held)[_PREFIX_BYTES:]]
        if have > length:
            self._left = held[_PREFIX_BYTES + length :]
            return [memoryview(held)[_PREFIX_BYTES : _PREFIX_BYTES + length]]
        found: list[bytes | memoryview] = [memoryview(held)[_PREFIX_BYTES:]]
        # Given up at once: a call that is cut off in here must not hold it.
        self._left = held = b""
        came = have
        while have < length:
            if (room := grow(came)) is not None:
                await room
            piece = await self._pull()
            if not piece:
                raise GrpcError(Code.INVALID_ARGUMENT, _CUT_SHORT)
            came = len(piece)
            have += came
            found.append(piece)
        if have > length:
            last = found[-1]
            cut = len(last) - (have - length)
            self._left = bytes(last[cut:])
            found[-1] = memoryview(last)[:cut]
        return found
