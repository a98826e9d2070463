"""TLS on a unix socket: its connections are passed on to the port, byte by byte.

h2corn speaks TLS on TCP only. What passes through is encrypted; nothing is looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

_CHUNK_BYTES = 2**18


class UnixRelay:
    """Passes connections of a unix socket on to a TCP listener of this process.

    Args:
        listener: the unix socket, which listens already; taken over.
        target: the TCP listener.
    """

    def __init__(self, listener: socket.socket, target: socket.socket) -> None:
        self._listener = listener
        host, port = target.getsockname()[:2]
        # What listens on every address is reached on this machine's own.
        self._target = ({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)  # noqa: S104
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Passes on from now on."""
        self._server = await asyncio.start_unix_server(
            self._connected, sock=self._listener, limit=_CHUNK_BYTES
        )

    def stop(self) -> None:
        """Takes no new connection; those that are there go on until one end closes them."""
        if self._server is not None:
            self._server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(*self._target, limit=_CHUNK_BYTES)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pass_on(reader, back), _pass_on(there, writer))


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copies one direction to its end, and then closes the other side's."""
    with contextlib.suppress(OSError):
        while chunk := await reader.read(_CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
    writer.close()
