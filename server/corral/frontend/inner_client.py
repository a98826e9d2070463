"""The client that a frontend is to itself: one HTTP/2 connection, one call at a time."""

from __future__ import annotations

import asyncio
from typing import cast

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from corral.frontend.grpc_asgi.body import PREFIX
from corral.frontend.grpc_asgi.status import Code
from corral.frontend.inner_message import InnerCallFailed


class InnerClient(asyncio.Protocol):
    """Calls one method of the server at the other end.

    Args:
        path: the method's.
        token: who it is.
    """

    def __init__(self, path: str, token: str) -> None:
        self._fields = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", path.encode()),
            (b":authority", b"localhost"),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
            (b"authorization", b"Bearer " + token.encode()),
        ]
        config = h2.config.H2Configuration(client_side=True, header_encoding=None)
        self._http = h2.connection.H2Connection(config)
        self._transport: asyncio.Transport | None = None
        self._rest = memoryview(b"")
        self._stream = 0
        self._answered: asyncio.Future[int] | None = None
        self._code = int(Code.UNKNOWN)

    @property
    def is_open(self) -> bool:
        """Whether it can be asked."""
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's."""
        # uvloop's are no subclasses.
        self._transport = cast("asyncio.Transport", transport)
        self._http.initiate_connection()
        self._flush()

    def connection_lost(self, _error: Exception | None) -> None:
        """asyncio's."""
        self._transport = None
        self._end(ConnectionError("the connection was closed"))

    def data_received(self, data: bytes) -> None:
        """asyncio's."""
        try:
            for event in self._http.receive_data(data):
                self._heard(event)
            self._send_rest()
        except h2.exceptions.ProtocolError:
            self.close()
        self._flush()

    async def call(self, message: bytes, patience_s: float) -> None:
        """Sends a message and waits until it is answered.

        Args:
            message: the call's.
            patience_s: an answer that takes longer does not come.

        Raises:
            InnerCallFailed: by an error.
            OSError: there is no connection, or no answer; there is no connection then.
        """
        if self._transport is None:
            raise ConnectionError("there is no connection")
        self._answered = asyncio.get_running_loop().create_future()
        self._code = int(Code.UNKNOWN)
        try:
            self._stream = self._http.get_next_available_stream_id()
            self._http.send_headers(self._stream, self._fields)
            self._rest = memoryview(PREFIX.pack(0, len(message)) + message)
            self._send_rest()
            self._flush()
            async with asyncio.timeout(patience_s):
                code = await self._answered
        except (h2.exceptions.ProtocolError, TimeoutError) as error:
            self.close()
            raise ConnectionError(str(error)) from None
        except asyncio.CancelledError:
            # The message may have left in part.
            self.close()
            raise
        finally:
            self._rest = memoryview(b"")
            self._answered = None
        if code != Code.OK:
            raise InnerCallFailed(code)

    def close(self) -> None:
        """Ends the connection."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def _send_rest(self) -> None:
        """As much of the message as the server takes now."""
        while self._rest:
            room = self._http.local_flow_control_window(self._stream)
            size = min(room, self._http.max_outbound_frame_size, len(self._rest))
            if size <= 0:
                return
            piece, self._rest = self._rest[:size], self._rest[size:]
            self._http.send_data(self._stream, bytes(piece), end_stream=not self._rest)

    def _flush(self) -> None:
        if self._transport is not None and (data := self._http.data_to_send()):
            self._transport.write(data)

    def _heard(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.DataReceived():
                self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.ResponseReceived() | h2.events.TrailersReceived() if (
                event.stream_id == self._stream
            ):
                for name, value in event.headers:
                    if name == b"grpc-status":
                        self._code = int(value)
            case h2.events.StreamEnded() if event.stream_id == self._stream:
                if self._answered is not None and not self._answered.done():
                    self._answered.set_result(self._code)
            case h2.events.StreamReset() if event.stream_id == self._stream:
                self._rest = memoryview(b"")
                self._end(InnerCallFailed(Code.CANCELLED))
            case h2.events.ConnectionTerminated():
                self.close()
            case _:
                pass

    def _end(self, error: Exception) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(error)
