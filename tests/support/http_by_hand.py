"""HTTP/1.1 as bytes over a socket: what no client would send, and what came back."""

from __future__ import annotations

import dataclasses
import re
import socket
import time

HOST = b"Host: corral\r\n"
GOOD = b"GET /v2/health/live HTTP/1.1\r\n" + HOST + b"\r\n"


@dataclasses.dataclass(frozen=True)
class Heard:
    """What came back on a connection.

    Attributes:
        content: all bytes.
        closed: whether the server closed, or reset, the connection.
        after_s: how long that took.
    """

    content: bytes
    closed: bool
    after_s: float

    @property
    def statuses(self) -> list[int]:
        """The statuses of the answers, 100 included."""
        return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", self.content)]


def connect(port: int, timeout_s: float = 20.0) -> socket.socket:
    """A connection to this machine."""
    return socket.create_connection(("127.0.0.1", port), timeout=timeout_s)


def listen(connection: socket.socket, *, answers: int = 10**9, within_s: float = 1.0) -> Heard:
    """Reads until the server closes, so many answers have begun and ended, or the time is over."""
    began_s = time.monotonic()
    content = bytearray()
    closed = False
    while (left_s := began_s + within_s - time.monotonic()) > 0:
        connection.settimeout(left_s)
        try:
            piece = connection.recv(2**20)
        except TimeoutError:
            break
        except OSError:
            closed = True
            break
        if not piece:
            closed = True
            break
        content += piece
        if content.count(b"HTTP/1.1 ") >= answers and _is_complete(bytes(content)):
            break
    return Heard(bytes(content), closed, time.monotonic() - began_s)


def _is_complete(content: bytes) -> bool:
    """Whether the last answer has as many bytes as it said."""
    head, mark, body = content[content.rindex(b"HTTP/1.1 ") :].partition(b"\r\n\r\n")
    found = re.search(rb"content-length: (\d+)", head, re.I)
    return bool(mark) and (found is None or len(body) >= int(found[1]))


def say(port: int, content: bytes, *, within_s: float = 1.0) -> Heard:
    """Sends bytes on a connection of their own, and hears what comes back."""
    with connect(port) as connection:
        try:
            connection.sendall(content)
        except OSError:
            # Answered and closed before it was all sent.
            return Heard(b"", True, 0.0)
        return listen(connection, within_s=within_s)


def post(body: bytes, *fields: bytes, path: bytes = b"/v2/models/resnet50/infer") -> bytes:
    """A POST with exactly these framing fields."""
    head = b"".join(field + b"\r\n" for field in fields)
    return b"POST " + path + b" HTTP/1.1\r\n" + HOST + head + b"\r\n" + body
