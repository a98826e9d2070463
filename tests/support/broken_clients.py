"""Clients that idle, stop in mid-message or crash: connections by hand, and real ones in processes.

Run as a program, ``broken_clients.py PORT COUNT`` opens COUNT connections, sends a request on each,
says so and waits to be killed.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator

import grpc
from counted_load import INFER, infer_message

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_END_HEADERS = 4
_FRAME_BYTES = 16_384


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _headers(port: int) -> bytes:
    """A request's headers, in HPACK's plainest form: literals that nobody remembers."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": INFER,
        ":authority": f"127.0.0.1:{port}",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    return b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in fields.items()
    )


def idle_connection(port: int) -> socket.socket:
    """A connection that has said hello in HTTP/2, and nothing more."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, b""))
    return connection


def half_sent(port: int) -> socket.socket:
    """A connection in the middle of a frame of a request."""
    connection = idle_connection(port)
    message = infer_message("half", 1, 1)
    body = b"\0" + struct.pack(">I", len(message)) + message
    whole = _frame(_DATA, 0, 1, body[:_FRAME_BYTES])
    cut = _frame(_DATA, 0, 1, body[_FRAME_BYTES : 2 * _FRAME_BYTES])[: _FRAME_BYTES // 2]
    connection.sendall(_frame(_HEADERS, _END_HEADERS, 1, _headers(port)) + whole + cut)
    return connection


@contextlib.contextmanager
def held_open(connections: list[socket.socket]) -> Iterator[None]:
    """Closes them in the end, the hard way: with a reset."""
    try:
        yield
    finally:
        for connection in connections:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()


def crash_clients(port: int, count: int, processes: int) -> None:
    """Lets so many clients, in so many processes, send a request each, and kills them."""
    command = [sys.executable, __file__, str(port), str(count // processes)]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(processes)]
    for child in children:
        with child:
            assert child.stdout
            assert child.stdout.readline() == b"sent\n"
            child.kill()


def main() -> None:
    """Sends, says so, waits to be killed."""
    port, count = map(int, sys.argv[1:])
    calls = []
    for number in range(count):
        options = [("grpc.use_local_subchannel_pool", 1), ("number", number)]
        channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=options)
        calls.append((channel, channel.unary_unary(INFER).future(infer_message("x", 1, 1))))
        grpc.channel_ready_future(channel).result(timeout=30)
    print("sent", flush=True)
    time.sleep(60)


if __name__ == "__main__":
    main()
