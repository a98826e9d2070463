"""What is no HTTP/1.1, or smuggles a request behind another: bytes, and a program that sends them.

``hostile_http.py PORT ROUNDS PER_S`` sends them all so many times, at most so many a second.
"""

from __future__ import annotations

import sys
import time

from support.http_by_hand import HOST, post, say

CHUNKED = b"Transfer-Encoding: chunked"
#: what makes itself heard if it is taken for a request of its own
SMUGGLED = b"GET /v2/health/ready HTTP/1.1\r\n" + HOST + b"\r\n"

#: names, and bytes that must be refused, with the connection closed behind them
HOSTILE: list[tuple[str, bytes]] = [
    ("both", post(b"0\r\n\r\n" + SMUGGLED, b"Content-Length: 5", CHUNKED)),
    ("both, the other way", post(b"0\r\n\r\n" + SMUGGLED, CHUNKED, b"Content-Length: 5")),
    ("two lengths", post(b"abcd" + SMUGGLED, b"Content-Length: 4", b"Content-Length: 5")),
    ("a list of lengths", post(b"abcd" + SMUGGLED, b"Content-Length: 4, 5")),
    ("a sign", post(b"abcd" + SMUGGLED, b"Content-Length: +4")),
    ("minus", post(b"abcd" + SMUGGLED, b"Content-Length: -4")),
    ("hexadecimal", post(b"abcd" + SMUGGLED, b"Content-Length: 0x4")),
    ("beyond 64 bits", post(b"abcd" + SMUGGLED, b"Content-Length: 99999999999999999999")),
    ("chunked and more", post(b"0\r\n\r\n" + SMUGGLED, b"Transfer-Encoding: chunked, gzip")),
    ("another coding", post(b"0\r\n\r\n" + SMUGGLED, b"Transfer-Encoding: xchunked")),
    ("two codings", post(b"0\r\n\r\n" + SMUGGLED, CHUNKED, b"Transfer-Encoding: identity")),
    ("a space before the colon", post(b"0\r\n\r\n" + SMUGGLED, b"Transfer-Encoding : chunked")),
    ("a tab in the coding", post(b"0\r\n\r\n" + SMUGGLED, b"Transfer-Encoding: \x0bchunked")),
    ("obs-fold", b"GET /v2 HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n" + SMUGGLED),
    ("obs-fold in a length", post(b"abcd" + SMUGGLED, b"Content-Length: 4\r\n 0")),
    ("no colon", b"GET /v2 HTTP/1.1\r\n" + HOST + b"X\r\n\r\n" + SMUGGLED),
    ("NUL", b"GET /v2 HTTP/1.1\r\n" + HOST + b"X: a\0b\r\n\r\n" + SMUGGLED),
    ("a bare CR", b"GET /v2 HTTP/1.1\r\n" + HOST + b"X: a\rY: b\r\n\r\n" + SMUGGLED),
    ("no host", b"GET /v2 HTTP/1.1\r\n\r\n" + SMUGGLED),
    ("two hosts", b"GET /v2 HTTP/1.1\r\n" + HOST + HOST + b"\r\n" + SMUGGLED),
    ("HTTP/0.9", b"GET /v2\r\n\r\n" + SMUGGLED),
    ("HTTP/3.0", b"GET /v2 HTTP/3.0\r\n" + HOST + b"\r\n" + SMUGGLED),
    ("a chunk's size in words", post(b"four\r\nabcd\r\n0\r\n\r\n" + SMUGGLED, CHUNKED)),
    ("a chunk's size with 0x", post(b"0x4\r\nabcd\r\n0\r\n\r\n" + SMUGGLED, CHUNKED)),
    ("a chunk's size below 0", post(b"-4\r\nabcd\r\n0\r\n\r\n" + SMUGGLED, CHUNKED)),
    (
        "a chunk's size overflows",
        post(b"f" * 17 + b"\r\nabcd\r\n0\r\n\r\n" + SMUGGLED, CHUNKED),
    ),
    ("a chunk longer than said", post(b"4\r\nabcdef\r\n0\r\n\r\n" + SMUGGLED, CHUNKED)),
    ("a long extension", post(b"4;" + b"a" * 200_000 + b"\r\nabcd\r\n0\r\n\r\n", CHUNKED)),
    ("a length as a trailer", post(b"0\r\nContent-Length: 4\r\n\r\n" + SMUGGLED, CHUNKED)),
    ("a head of 2 MB", b"GET /v2 HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 2_000_000),
    ("a path of 1 MB", b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
    ("50,000 fields", b"GET /v2 HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 50_000 + b"\r\n"),
    ("CONNECT", b"CONNECT corral:1 HTTP/1.1\r\n" + HOST + b"\r\n" + SMUGGLED),
]


def main() -> None:
    port, rounds, per_s = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    began_s = time.monotonic()
    for number, (name, sent) in enumerate(HOSTILE * rounds, 1):
        assert say(port, sent, within_s=20.0).closed, name
        time.sleep(max(0.0, began_s + number / per_s - time.monotonic()))


if __name__ == "__main__":
    main()
