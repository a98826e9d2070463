"""TLS on a unix socket: its connections are passed on to the port, byte by byte.

h2corn speaks TLS on TCP only. What passes through is encrypted; nothing is looked at.
"""

from __future__ import annotations

import asyncio
import socket

from corral.frontend.listeners import BACKLOG

_CHUNK_BYTES = 2**18
#: of bytes that an end does not take
_STALLED_S = 90.0


class UnixRelay:
    """Passes connections of a unix socket on to a TCP listener of this process.

    Args:
        listener: the unix socket, which listens already; taken over.
        target: the TCP listener.
        connections: how many it passes on at once; further ones are closed. Each takes two
            descriptors besides the one that the port has of it.
    """

    def __init__(self, listener: socket.socket, target: socket.socket, *, connections: int) -> None:
        self._listener = listener
        host, port = target.getsockname()[:2]
        # What listens on every address is reached on this machine's own.
        self._target = ({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)  # noqa: S104
        self._left = connections
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Passes on from now on."""
        self._server = await asyncio.start_unix_server(
            self._connected, sock=self._listener, limit=_CHUNK_BYTES, backlog=BACKLOG
        )

    def stop(self) -> None:
        """Takes no new connection; those that are there go on until one end closes them."""
        if self._server is not None:
            self._server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._left:
            writer.transport.abort()
            return
        self._left -= 1
        try:
            there, back = await asyncio.open_connection(*self._target, limit=_CHUNK_BYTES)
            await asyncio.gather(_pass_on(reader, back), _pass_on(there, writer))
        except OSError:
            writer.close()
        finally:
            self._left += 1


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copies one direction to its end, and then closes the other side's."""
    try:
        while chunk := await reader.read(_CHUNK_BYTES):
            writer.write(chunk)
            async with asyncio.timeout(_STALLED_S):
                await writer.drain()
        writer.close()
        async with asyncio.timeout(_STALLED_S):
            await writer.wait_closed()
    # A timeout is one, too.
    except OSError:
        writer.transport.abort()
