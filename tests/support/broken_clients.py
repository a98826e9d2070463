"""Clients that idle, stop in mid-message or crash: connections by hand, and real ones in processes.

Run as a program, ``broken_clients.py PORT`` connects, says so, waits for a line, sends a request,
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

from support import programs
from support.counted_load import INFER, infer_message
from support.fuzzing import picture_seeds
from support.requests_by_hand import pictures

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 4, 6, 8
_ACK = 1
#: what ``frames`` tells apart, and the error of a GOAWAY for too much of something
PONG, GOAWAY, OTHER = "pong", "goaway", "other"
ENHANCE_YOUR_CALM = 11
END_STREAM, END_HEADERS = 1, 4
_FRAME_BYTES = 16_384


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame of HTTP/2."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def headers(port: int) -> bytes:
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


def idle_connection(port: int, *, receive_bytes: int = 0) -> socket.socket:
    """A connection that has said hello in HTTP/2, and nothing more.

    Args:
        port: of the server.
        receive_bytes: what the kernel takes before it is read; 0 for what it likes.
    """
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if receive_bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.settimeout(10)
    connection.connect(("127.0.0.1", port))
    connection.sendall(_PREFACE + frame(SETTINGS, 0, 0, b""))
    return connection


def ping(connection: socket.socket) -> None:
    """Asks for a sign of life."""
    connection.sendall(frame(PING, 0, 0, bytes(8)))


def frames(connection: socket.socket) -> Iterator[tuple[str, int]]:
    """What the server says, up to its end of the connection: kinds, and a GOAWAY's error."""
    while len(head := _read(connection, 9)) == 9:
        length, kind, flags = int.from_bytes(head[:3]), head[3], head[4]
        content = _read(connection, length)
        if kind == PING and flags & _ACK:
            yield PONG, 0
        elif kind == 7:
            yield GOAWAY, int.from_bytes(content[4:8])
        else:
            yield OTHER, 0


def _read(connection: socket.socket, count: int) -> bytes:
    """So many bytes, or fewer at the end."""
    found = b""
    while len(found) < count and (more := connection.recv(count - len(found))):
        found += more
    return found


def half_sent(port: int) -> socket.socket:
    """A connection in the middle of a frame of a request."""
    message = body(infer_message("half", 1, 1))
    whole = frame(DATA, 0, 1, message[:_FRAME_BYTES])
    cut = frame(DATA, 0, 1, message[_FRAME_BYTES : 2 * _FRAME_BYTES])[: _FRAME_BYTES // 2]
    connection = idle_connection(port)
    connection.sendall(frame(HEADERS, END_HEADERS, 1, headers(port)) + whole + cut)
    return connection


def open_windows(connection: socket.socket) -> None:
    """Lets the server send an answer that is longer than HTTP/2 lets it at first."""
    for stream in (0, 1):
        connection.sendall(frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", 2**20)))


def read_answer(connection: socket.socket) -> bytes:
    """Reads an answer's message to its end, or as much as comes."""
    found = b""
    while len(head := _read(connection, 9)) == 9:
        kind, flags = head[3], head[4]
        content = _read(connection, int.from_bytes(head[:3]))
        if kind == DATA:
            found += content
        elif kind == HEADERS and flags & END_STREAM:
            break
    return found[5:]


def asked(port: int, *encoded: bytes, receive_bytes: int = 0) -> socket.socket:
    """A connection that has sent a request, small pictures, and waits for the answer."""
    request = frame(DATA, END_STREAM, 1, body(pictures(*encoded)))
    connection = idle_connection(port, receive_bytes=receive_bytes)
    connection.sendall(frame(HEADERS, END_HEADERS, 1, headers(port)) + request)
    return connection


def body(message: bytes) -> bytes:
    """A gRPC message behind its prefix."""
    return b"\0" + struct.pack(">I", len(message)) + message


def reset(connection: socket.socket) -> None:
    """Closes it as the kernel does for a process that crashed with data unread."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@contextlib.contextmanager
def held_open(connections: list[socket.socket]) -> Iterator[None]:
    """Closes them in the end, the hard way: with a reset."""
    try:
        yield
    finally:
        for connection in connections:
            reset(connection)


def crash_connections(port: int, count: int, pace_s: float) -> None:
    """One after another crashes: one in four behind a whole request, the others within one."""
    picture = picture_seeds()[0]
    for number in range(count):
        reset(half_sent(port) if number % 4 else asked(port, picture))
        time.sleep(pace_s)


class CrashingClients:
    """Real gRPC clients, each in a process of its own, ready to send a request and be killed.

    Args:
        port: of the server.
        count: how many.
    """

    def __init__(self, port: int, count: int) -> None:
        self._children = [programs.start("support.broken_clients", str(port)) for _ in range(count)]
        for child in self._children:
            self._hear(child, b"connected\n")

    def _hear(self, child: subprocess.Popen[bytes], word: bytes) -> None:
        assert child.stdout
        assert child.stdout.readline() == word

    def crash(self) -> None:
        """Each sends its request and is killed before it has its answer, or just after."""
        for child in self._children:
            with child:
                assert child.stdin
                child.stdin.write(b"\n")
                child.stdin.flush()
                self._hear(child, b"sent\n")
                child.kill()


def main() -> None:
    """Connects, sends when told to, waits to be killed."""
    with grpc.insecure_channel(f"127.0.0.1:{sys.argv[1]}") as channel:
        grpc.channel_ready_future(channel).result(timeout=30)
        print("connected", flush=True)
        sys.stdin.readline()
        call = channel.unary_unary(INFER).future(infer_message("x", 1, 1))
        print("sent", flush=True)
        time.sleep(60)
        call.cancel()


if __name__ == "__main__":
    main()
