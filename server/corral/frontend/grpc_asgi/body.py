"""A request's body, message by message: a flag and a length before each.

The body is pulled piece by piece, so what the first five bytes say is known before the rest is
taken from the network.
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from corral.frontend.grpc_asgi.status import ClientGone, Code, GrpcError

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
#: told of each piece of a message that is not whole yet; what to await before the next is taken
Grow = Callable[[int], Awaitable[None] | None]

PREFIX = struct.Struct(">BI")
_PREFIX_BYTES = PREFIX.size
_CUT_SHORT = "the call ended in the middle of a message"


def take_all(_count: int) -> None:
    """A ``Grow`` that never has to wait."""


class Body(msgspec.Struct, eq=False):
    """The messages of one request; made once a call, so that its constructor is not Python's.

    Args:
        receive: ASGI's.
    """

    _receive: Receive
    #: what has come and was not asked for yet
    _left: bytes = b""
    _ended: bool = False

    def _piece(self, event: MutableMapping[str, Any]) -> bytes:
        """What an event brings; empty for nothing."""
        if event["type"] != "http.request":
            self._ended = True
            raise ClientGone
        if not event.get("more_body", False):
            self._ended = True
        return event.get("body") or b""

    async def prefix(self) -> tuple[int, int] | None:
        """The flag and the length of the next message; None when there is none.

        Raises:
            ClientGone: the client is.
            GrpcError: the body ends within the prefix.
        """
        piece = self._left
        while len(piece) < _PREFIX_BYTES:
            if self._ended:
                if piece:
                    raise GrpcError(Code.INVALID_ARGUMENT, _CUT_SHORT)
                return None
            more = self._piece(await self._receive())
            piece = piece + more if piece else more
        self._left = piece
        flag, length = PREFIX.unpack_from(piece)
        return flag, length

    def whole(self, length: int) -> list[bytes | memoryview] | None:
        """The message whose prefix was read, where all of it is there, and nothing else.

        Args:
            length: what the prefix says.
        """
        held = self._left
        if len(held) - _PREFIX_BYTES != length:
            return None
        self._left = b""
        return [memoryview(held)[_PREFIX_BYTES:]]

    async def pieces(self, length: int, grow: Grow) -> list[bytes | memoryview]:
        """The message whose prefix was read, in as many pieces as it came; see ``whole``.

        Args:
            length: what the prefix says.
            grow: told how much is there while it is not all.

        Raises:
            ClientGone: the client is.
            GrpcError: the body ends within the message.
        """
        held = self._left
        have = len(held) - _PREFIX_BYTES
        if have >= length:
            self._left = held[_PREFIX_BYTES + length :]
            return [memoryview(held)[_PREFIX_BYTES : _PREFIX_BYTES + length]]
        found: list[bytes | memoryview] = [memoryview(held)[_PREFIX_BYTES:]]
        # Given up at once: a call that is cut off in here must not hold it.
        self._left = held = b""
        came = have
        while have < length:
            if came and (room := grow(came)) is not None:
                await room
            if self._ended:
                raise GrpcError(Code.INVALID_ARGUMENT, _CUT_SHORT)
            piece = self._piece(await self._receive())
            if not (came := len(piece)):
                continue
            have += came
            found.append(piece)
        if have > length:
            last = found[-1]
            cut = len(last) - (have - length)
            self._left = bytes(last[cut:])
            found[-1] = memoryview(last)[:cut]
        return found
