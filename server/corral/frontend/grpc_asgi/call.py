"""One gRPC call: its request messages in, its answer messages out, one status at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from corral.frontend.grpc_asgi.body import PREFIX, Body, Grow, Receive, take_all
from corral.frontend.grpc_asgi.compression import (
    ACCEPTED,
    IDENTITY,
    answer_algorithm,
    is_known,
    pack,
    unpack,
)
from corral.frontend.grpc_asgi.status import (
    ClientGone,
    Code,
    GrpcError,
    MessageTooLarge,
    status_fields,
)
from corral.frontend.pieces import PIECE_BYTES, cut
from corral.inflate import is_never_hopeless

Send = Callable[[dict[str, Any]], Awaitable[None]]
#: a message in as many pieces as it came
Pieces = list[bytes | memoryview]

_CONTENT_TYPE = (b"content-type", b"application/grpc")
_ACCEPTED = (b"grpc-accept-encoding", ACCEPTED)
# The server reads these and never writes to them, so all calls share them.
_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [_CONTENT_TYPE],
    "trailers": True,
}
_STARTS_PACKED = {
    algorithm: {
        "type": "http.response.start",
        "status": 200,
        "headers": [_CONTENT_TYPE, (b"grpc-encoding", algorithm)],
        "trailers": True,
    }
    for algorithm in (b"gzip", b"deflate")
}
_END_OF_BODY = {"type": "http.response.body", "body": b"", "more_body": False}
_OK = {"type": "http.response.trailers", "headers": [(b"grpc-status", b"0")]}


def _body(piece: bytes, *, more: bool) -> dict[str, Any]:
    return {"type": "http.response.body", "body": piece, "more_body": more}


class Call:
    """A call, from its head to its status.

    Args:
        scope: ASGI's, of the type "http".
        fields: the head's fields by name, the last of each.
        receive: ASGI's.
        send: ASGI's.

    Attributes:
        scope: as given.
        deadline_s: when the answer becomes useless, on the monotonic clock; None for never.
        ended: whether its status was sent.
        granted: what the application's gate gave.
    """

    __slots__ = (
        "_accepts",
        "_algorithm",
        "_body",
        "_long",
        "_receive",
        "_send",
        "_started",
        "deadline_s",
        "ended",
        "granted",
        "scope",
    )

    def __init__(
        self, scope: dict[str, Any], fields: dict[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        self.scope = scope
        self.deadline_s: float | None = None
        self.granted: Any = None
        self._send = send
        self._receive = receive
        self._body = Body(receive)
        self._started = self.ended = False
        #: held while the pieces of a long message are sent, which nothing may come between
        self._long: asyncio.Lock | None = None
        self._algorithm = fields.get(b"grpc-encoding", IDENTITY)
        self._accepts = fields.get(b"grpc-accept-encoding", b"")

    async def message(
        self,
        most_bytes: int,
        too_large: str,
        grow: Grow = take_all,
        is_hopeless: Callable[[bytes], bool] = is_never_hopeless,
    ) -> Pieces | None:
        """The next request message, unpacked; None when there is none.

        Args:
            most_bytes: what it may hold; checked before it is received.
            too_large: says so to the client.
            grow: told how much of it is there while it is not all.
            is_hopeless: whether a packed message that begins like this is refused whatever follows;
                then it is its beginning alone.

        Raises:
            ClientGone: the client is.
            GrpcError: it is too large, cut short, or packed in a way that is not known.
        """
        prefix = await self._body.prefix()
        if prefix is None:
            return None
        flag, length = prefix
        if length > most_bytes:
            raise MessageTooLarge(too_large)
        if flag == 0:
            return self._body.whole(length) or await self._body.pieces(length, grow)
        if flag != 1:
            raise GrpcError(Code.INTERNAL, f"a message has the flag {flag}; there are 0 and 1")
        if not is_known(self._algorithm):
            raise GrpcError(
                Code.UNIMPLEMENTED,
                "messages are packed by gzip or deflate, or not at all",
                (_ACCEPTED,),
            )
        packed = await self._body.pieces(length, grow)
        whole = await unpack(self._algorithm, packed, most_bytes, too_large, is_hopeless)
        return [whole]

    async def send(self, message: bytes) -> None:
        """Sends one answer message. Where that is cancelled, the call can only end.

        Raises:
            ClientGone: the client is.
        """
        algorithm = self._answers_in()
        flag = 0
        if algorithm != IDENTITY:
            message, flag = await pack(algorithm, message), 1
        try:
            if not self._started:
                self._started = True
                await self._send(_STARTS_PACKED.get(algorithm, _START))
            prefix = PREFIX.pack(flag, len(message))
            if self._long is None and len(message) <= PIECE_BYTES:
                await self._send(_body(prefix + message, more=True))
                return
            if self._long is None:
                self._long = asyncio.Lock()
            async with self._long:
                for piece, _ in cut(message, prefix):
                    await self._send(_body(piece, more=True))
        except OSError:
            raise ClientGone from None

    async def begin(self) -> None:
        """Sends the head of the answer, before there is a message.

        Raises:
            ClientGone: the client is.
        """
        if not self._started:
            self._started = True
            try:
                await self._send(_STARTS_PACKED.get(self._answers_in(), _START))
            except OSError:
                raise ClientGone from None

    def holds_bytes(self, message: bytes) -> int:
        """What an answer message holds while it is sent: one that is packed, twice its size."""
        return len(message) * (1 if self._answers_in() == IDENTITY else 2)

    def _answers_in(self) -> bytes:
        """How the call's answers are packed."""
        if self._algorithm == IDENTITY:
            return IDENTITY
        return answer_algorithm(self._algorithm, self._accepts)

    async def answer(self, message: bytes) -> None:
        """Sends the one answer message of a unary call, and its status OK.

        Raises:
            ClientGone: the client is.
        """
        if self._algorithm != IDENTITY:
            await self.send(message)
            await self.finish()
            return
        self._started = self.ended = True
        send = self._send
        try:
            await send(_START)
            prefix = PREFIX.pack(0, len(message))
            if len(message) <= PIECE_BYTES:
                body = prefix + message
                await send({"type": "http.response.body", "body": body, "more_body": False})
            else:
                for piece, more in cut(message, prefix):
                    await send(_body(piece, more=more))
            await send(_OK)
        except OSError:
            raise ClientGone from None

    async def finish(self) -> None:
        """Ends the call with the status OK, unless it has ended.

        Raises:
            ClientGone: the client is.
        """
        if self.ended:
            return
        await self.begin()
        self.ended = True
        try:
            await self._send(_END_OF_BODY)
            await self._send(_OK)
        except OSError:
            raise ClientGone from None

    async def taken(self) -> None:
        """Returns when the answer, which was sent, has left for the client; or the client has.

        HTTP/2 lets out no more of an answer than the client has asked for.
        """
        while (await self._receive())["type"] == "http.request":
            pass

    async def fail(self, error: GrpcError) -> None:
        """Ends the call with an error, whatever was sent before; nothing where nobody listens."""
        fields = status_fields(error)
        try:
            if self._started:
                await self._send(_END_OF_BODY)
                await self._send({"type": "http.response.trailers", "headers": fields})
                return
            self._started = True
            await self._send(
                {
                    "type": "http.response.start",
                    "status": 200,
                    "headers": [_CONTENT_TYPE, *fields],
                }
            )
            await self._send(_END_OF_BODY)
        except OSError:
            return
