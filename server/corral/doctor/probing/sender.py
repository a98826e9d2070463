"""A client of the loop that is measured: ``python sender.py PORT BYTES``.

Sends messages over loopback, one after another on each of four connections, until it is ended.
Uses nothing of corral's.
"""

from __future__ import annotations

import asyncio
import sys

_CONNECTIONS = 4


async def _send(port: int, message: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    while True:
        writer.write(message)
        await writer.drain()
        if not await reader.read(2**16):
            return


async def _send_all(port: int, size: int) -> None:
    message = bytes(size)
    await asyncio.gather(*(_send(port, message) for _ in range(_CONNECTIONS)))


def main() -> None:
    """Sends until the connections end."""
    try:
        asyncio.run(_send_all(int(sys.argv[1]), int(sys.argv[2])))
    except ConnectionError:
        return


if __name__ == "__main__":
    main()
