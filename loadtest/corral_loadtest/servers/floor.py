"""The floor of a front like corral's: h2corn, an event loop, a worker process, and nothing else.

It takes a tensor from the network, copies it into memory that a worker process shares, wakes the
worker, waits for it, and answers. It checks nothing, limits nothing and counts nothing: what is
above it, corral's own code costs. ``python -m corral_loadtest.servers.floor PORT [FP32|UINT8]``
starts it.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import socket
import struct
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import h2corn
import uvloop

from corral_loadtest.servers.baseline import Baseline

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

#: as corral's frontend has them
_FRAME_BYTES = 2**18
_WINDOW_BYTES = 4 * 2**20
#: items of a batch
_MOST = 8
_ITEM_BYTES = {"FP32": 3 * 224 * 224 * 4, "UINT8": 3 * 224 * 224}
_INFER = "ModelInfer"
_PREFIX = struct.Struct(">BI")
#: what is handed over for a batch, and back
_PACKET_BYTES = 32
_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/grpc")],
    "trailers": True,
}
_OK = {"type": "http.response.trailers", "headers": [(b"grpc-status", b"0")]}


class Worker:
    """A process that has a batch as soon as it is woken, and says so."""

    def __init__(self, item_bytes: int) -> None:
        self._item_bytes = item_bytes
        self._memory = memoryview(mmap.mmap(-1, _MOST * item_bytes))
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Before there is a thread or a loop.
        if os.fork() == 0:
            self._socket.close()
            _obey(theirs)
        theirs.close()
        self._socket.setblocking(False)
        self._running: list[asyncio.Future[None]] = []
        self._waiting: deque[tuple[list[bytes | memoryview], asyncio.Future[None]]] = deque()

    def listen(self) -> None:
        """To be called in the event loop that it serves."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket.fileno(), self._came_back)

    async def run(self, pieces: list[bytes | memoryview]) -> None:
        """Returns when the worker has had the tensor."""
        done = self._loop.create_future()
        self._waiting.append((pieces, done))
        if not self._running:
            self._hand_over()
        await done

    def _hand_over(self) -> None:
        for place in range(min(_MOST, len(self._waiting))):
            pieces, done = self._waiting.popleft()
            at = place * self._item_bytes
            for piece in pieces:
                self._memory[at : at + len(piece)] = piece
                at += len(piece)
            self._running.append(done)
        self._socket.send(bytes(_PACKET_BYTES))

    def _came_back(self) -> None:
        if not self._socket.recv(_PACKET_BYTES):
            self._loop.remove_reader(self._socket.fileno())
            self._loop.stop()
            return
        answered, self._running = self._running, []
        if self._waiting:
            self._hand_over()
        for done in answered:
            if not done.done():
                done.set_result(None)


def _obey(frontend: socket.socket) -> None:
    """The worker's whole life, which ends with whoever holds the other end."""
    packet = bytearray(_PACKET_BYTES)
    while frontend.recv_into(packet):
        frontend.send(packet)
    os._exit(0)


class Floor:
    """The ASGI application.

    Args:
        datatype: "FP32" or "UINT8".
        worker: gets the tensors.
    """

    def __init__(self, datatype: str, worker: Worker) -> None:
        self._worker = worker
        self._item_bytes = _ITEM_BYTES[datatype]
        self._pages = Baseline.of(datatype).answers()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """ASGI."""
        pieces: list[bytes | memoryview] = []
        more = True
        while more:
            event = await receive()
            if piece := event.get("body", b""):
                pieces.append(piece)
            more = event.get("more_body", False)
        method = scope["path"].rpartition("/")[2]
        if method == _INFER:
            await self._worker.run(_tail(pieces, self._item_bytes))
        message = self._pages[method]()
        await send(_START)
        body = _PREFIX.pack(0, len(message)) + message
        await send({"type": "http.response.body", "body": body, "more_body": False})
        await send(_OK)


def _tail(pieces: list[bytes | memoryview], count: int) -> list[bytes | memoryview]:
    """The last bytes of a message in pieces, which are its tensor."""
    skip = sum(map(len, pieces)) - count
    found: list[bytes | memoryview] = []
    for piece in pieces:
        if skip < len(piece):
            found.append(memoryview(piece)[skip:] if skip > 0 else piece)
        skip = max(0, skip - len(piece))
    return found


async def serve(port: int, datatype: str, worker: Worker) -> None:
    """Serves until it is killed."""
    worker.listen()
    config = h2corn.Config(
        bind=(f"127.0.0.1:{port}",),
        grpc=True,
        access_log=False,
        date_header=False,
        lifespan="off",
        runtime_threads=1,
        max_request_body_size=0,
        h2_max_inbound_frame_size=_FRAME_BYTES,
        h2_initial_stream_window_size=_WINDOW_BYTES,
        h2_initial_connection_window_size=_WINDOW_BYTES,
    )
    await h2corn.Server(Floor(datatype, worker), config).serve()


def main() -> None:
    """Entry: PORT [FP32|UINT8]."""
    datatype = sys.argv[2] if len(sys.argv) > 2 else "FP32"
    worker = Worker(_ITEM_BYTES[datatype])
    uvloop.run(serve(int(sys.argv[1]), datatype, worker))


if __name__ == "__main__":
    main()
