"""gRPC over ASGI with a made-up server: pieces of any size, packing, deadlines, statuses."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import struct
import zlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.loop_pauses import longest_pause

from corral.frontend.grpc_asgi import compression, timeouts
from corral.frontend.grpc_asgi.application import GrpcApplication, is_grpc
from corral.frontend.grpc_asgi.call import Call
from corral.frontend.grpc_asgi.status import (
    Code,
    GrpcError,
    MessageTooLarge,
    percent_encoded,
)

LIMIT = 1000
TOO_LARGE = "more than this test takes"


class Peer:
    """The other side of ASGI: a body in pieces, and what was answered.

    Args:
        pieces: the body's.
        ends: whether the body ends; else the client waits for ever.
        leaves: whether the client goes away at its end instead.
    """

    def __init__(self, *pieces: bytes, ends: bool = True, leaves: bool = False) -> None:
        self._events: Iterator[dict[str, Any]] = iter(
            [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
        )
        self._ends, self._leaves = ends, leaves
        self.pulled = 0
        self.sent: list[dict[str, Any]] = []
        self.gone = False

    async def receive(self) -> dict[str, Any]:
        event = next(self._events, None)
        if event is not None:
            self.pulled += 1
            return event
        if self._leaves:
            return {"type": "http.disconnect"}
        if self._ends:
            self._ends = False
            return {"type": "http.request", "body": b"", "more_body": False}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(self, event: dict[str, Any]) -> None:
        if self.gone:
            raise OSError
        self.sent.append(event)

    @property
    def body(self) -> bytes:
        return b"".join(e["body"] for e in self.sent if e["type"] == "http.response.body")

    @property
    def fields(self) -> dict[bytes, bytes]:
        """Those of the head and of the trailers."""
        return dict(field for event in self.sent for field in event.get("headers", ()))

    @property
    def status(self) -> Code:
        return Code(int(self.fields[b"grpc-status"]))

    def messages(self) -> list[tuple[int, bytes]]:
        """The answer's messages, each with its flag."""
        found, body = [], self.body
        while body:
            flag, length = struct.unpack_from(">BI", body)
            found.append((flag, body[5 : 5 + length]))
            body = body[5 + length :]
        return found


def framed(message: bytes, flag: int = 0, length: int | None = None) -> bytes:
    return struct.pack(">BI", flag, len(message) if length is None else length) + message


async def echo(call: Call) -> bytes:
    pieces = await call.message(LIMIT, TOO_LARGE)
    if pieces is None:
        raise GrpcError(Code.INVALID_ARGUMENT, "no message")
    return b"".join(pieces)


async def echo_all(call: Call) -> None:
    if call.scope["path"] == "/t/EchoLater":
        await call.begin()
    while (pieces := await call.message(LIMIT, TOO_LARGE)) is not None:
        await call.send(b"".join(pieces))


async def broken(_call: Call) -> bytes:
    raise RuntimeError("a secret")


async def sleeps(_call: Call) -> bytes:
    await asyncio.Event().wait()
    raise AssertionError


async def call(
    peer: Peer,
    path: str = "/t/Echo",
    method: str = "POST",
    trailers: bytes = b"trailers",
    **fields: bytes,
) -> Peer:
    app = GrpcApplication(
        {"/t/Echo": echo, "/t/Broken": broken, "/t/Sleeps": sleeps},
        {"/t/EchoAll": echo_all, "/t/EchoLater": echo_all},
        gate=lambda _: None,
        translate=lambda _: None,
        max_fields_bytes=1024,
    )
    named = [(name.replace("_", "-").encode(), value) for name, value in fields.items()]
    headers = [(b"content-type", b"application/grpc"), (b"te", trailers), *named]
    scope = {"type": "http", "method": method, "path": path, "headers": headers,
             "extensions": {"http.response.trailers": {}} if trailers else {}}  # fmt: skip
    await app(scope, dict(headers), peer.receive, peer.send)
    return peer


def cut(body: bytes, where: list[int]) -> list[bytes]:
    ends = [0, *sorted(min(end, len(body)) for end in where), len(body)]
    return [body[a:b] for a, b in itertools.pairwise(ends)]


@settings(deadline=None)
@given(st.binary(max_size=LIMIT), st.lists(st.integers(0, LIMIT + 5), max_size=8))
async def test_a_message_in_any_pieces(message: bytes, where: list[int]) -> None:
    peer = await call(Peer(*cut(framed(message), where)))
    assert peer.messages() == [(0, message)]
    assert peer.status is Code.OK
    start, body, end = peer.sent
    assert start["status"] == 200
    assert start["trailers"]
    assert not body.get("more_body")
    assert end["type"] == "http.response.trailers"


@settings(deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=6), st.lists(st.integers(0, 300), max_size=9))
async def test_messages_of_a_stream_in_any_pieces(messages: list[bytes], where: list[int]) -> None:
    body = b"".join(framed(message) for message in messages)
    peer = await call(Peer(*cut(body, where)), "/t/EchoAll")
    assert peer.messages() == [(0, message) for message in messages]
    assert peer.status is Code.OK


async def test_a_message_is_answered_before_its_stream_ends() -> None:
    peer = await call(Peer(framed(b"x"), ends=False))
    assert peer.messages() == [(0, b"x")]


async def test_a_message_that_is_too_large_is_refused_by_its_prefix() -> None:
    peer = await call(Peer(framed(b"", length=LIMIT + 1), b"x" * LIMIT, ends=False))
    assert peer.status is Code.RESOURCE_EXHAUSTED
    assert peer.pulled == 1
    assert peer.fields[b"grpc-retry-pushback-ms"] == b"-1", "it would be too large again"
    assert peer.body == b""
    assert [event["type"] for event in peer.sent] == ["http.response.start", "http.response.body"]


@pytest.mark.parametrize("body", [b"\0", b"\0\0\0\0", framed(b"abc", length=4), framed(b"", 0, 1)])
async def test_a_body_that_is_cut_short_is_invalid(body: bytes) -> None:
    assert (await call(Peer(body))).status is Code.INVALID_ARGUMENT


async def test_a_call_without_a_message() -> None:
    assert (await call(Peer())).status is Code.INVALID_ARGUMENT
    assert (await call(Peer(), "/t/EchoAll")).status is Code.OK


@pytest.mark.parametrize("pieces", [(), (b"\0\0",), (framed(b"abc", length=9),)])
async def test_nobody_answers_a_client_that_has_left(pieces: tuple[bytes, ...]) -> None:
    assert (await call(Peer(*pieces, leaves=True))).sent == []
    gone = Peer(framed(b"x"))
    gone.gone = True
    assert (await call(gone)).sent == []


@pytest.mark.parametrize("path", ["/t/Echo", "/t/EchoAll", "/t/EchoLater"])
@pytest.mark.parametrize("name", ["gzip", "deflate"])
@pytest.mark.parametrize("accepts", [b"", b"identity", b"identity, deflate, gzip"])
async def test_answers_are_packed_as_requests_are_where_that_is_taken(
    path: str, name: str, accepts: bytes
) -> None:
    message = b"ab" * 400
    packed = (gzip if name == "gzip" else zlib).compress(message)
    peer = await call(
        Peer(framed(packed, 1)),
        path,
        grpc_encoding=name.encode(),
        grpc_accept_encoding=accepts,
    )
    [(flag, answer)] = peer.messages()
    assert peer.status is Code.OK
    assert flag == (1 if name.encode() in accepts else 0)
    if flag:
        assert peer.fields[b"grpc-encoding"] == name.encode()
        answer = (gzip if name == "gzip" else zlib).decompress(answer)
        assert len(packed) < len(message)
    else:
        assert b"grpc-encoding" not in peer.fields
    assert answer == message


@pytest.mark.parametrize("path", ["/t/Echo", "/t/EchoAll"])
@pytest.mark.parametrize("name", [b"gzip", b"snappy", b"GZIP", b""])
async def test_an_unpacked_message_whatever_way_its_call_names(path: str, name: bytes) -> None:
    """A way that is not known is named and never used: the answer is not packed, either."""
    accepts = b"" if name == b"gzip" else name
    peer = await call(
        Peer(framed(b"plain")), path, grpc_encoding=name, grpc_accept_encoding=accepts
    )
    assert peer.messages() == [(0, b"plain")]
    assert peer.status is Code.OK


@pytest.mark.parametrize("path", ["/t/Echo", "/t/EchoAll"])
async def test_a_client_that_takes_no_trailers_is_refused_in_the_head(path: str) -> None:
    """The server answers 500 to who is sent trailers unasked, and says so in the log."""
    peer = await call(Peer(framed(b"x")), path, trailers=b"")
    assert peer.status is Code.INVALID_ARGUMENT
    assert peer.pulled == 0
    assert [event["type"] for event in peer.sent] == ["http.response.start", "http.response.body"]
    assert "trailers" not in peer.sent[0]


@pytest.mark.parametrize(
    ("encoding", "flag", "message", "status"),
    [
        (b"identity", 1, b"x", Code.INTERNAL),
        (b"gzip", 1, b"no gzip", Code.INTERNAL),
        (b"gzip", 1, gzip.compress(b"x" * 99, mtime=0)[:-9], Code.INTERNAL),
        (b"gzip", 1, gzip.compress(b"x", mtime=0) + b"more", Code.INTERNAL),
        (b"deflate", 1, gzip.compress(b"x", mtime=0), Code.INTERNAL),
        (b"gzip", 1, gzip.compress(bytes(LIMIT + 1), mtime=0), Code.RESOURCE_EXHAUSTED),
        (b"snappy", 1, b"x", Code.UNIMPLEMENTED),
        (b"gzip", 2, b"x", Code.INTERNAL),
    ],
)
async def test_packing_that_cannot_be_undone(
    encoding: bytes, flag: int, message: bytes, status: Code
) -> None:
    peer = await call(Peer(framed(message, flag)), grpc_encoding=encoding)
    assert peer.status is status
    if status is Code.UNIMPLEMENTED:
        assert peer.fields[b"grpc-accept-encoding"] == compression.ACCEPTED


@settings(deadline=None)
@given(st.binary(max_size=3000), st.integers(0, 3000), st.lists(st.integers(0, 3000), max_size=4))
def test_no_more_is_unpacked_than_may_be(message: bytes, most: int, where: list[int]) -> None:
    packed = cut(zlib.compress(message), where)
    if len(message) <= most:
        found = asyncio.run(compression.unpack(b"deflate", packed, most, TOO_LARGE))
        assert found == message
    else:
        with pytest.raises(GrpcError, match=TOO_LARGE):
            asyncio.run(compression.unpack(b"deflate", packed, most, TOO_LARGE))


async def test_others_go_on_while_a_bomb_is_unpacked() -> None:
    bomb = gzip.compress(bytes(64 * 2**20), 1)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    with pytest.raises(MessageTooLarge):
        await compression.unpack(b"gzip", [bomb], 32 * 2**20, TOO_LARGE)
    task.cancel()
    assert turns > 10


async def test_others_go_on_while_a_long_answer_is_packed() -> None:
    message = np.sin(np.arange(2_000_000, dtype=np.float32)).tobytes()
    packed = []

    async def pack() -> None:
        packed.append(await compression.pack(b"gzip", message))

    assert await longest_pause(pack()) < 0.5
    assert gzip.decompress(packed[0]) == message


def test_a_bomb_is_not_unpacked() -> None:
    import tracemalloc

    bomb = gzip.compress(bytes(200 * 2**20), mtime=0)
    tracemalloc.start()
    with pytest.raises(GrpcError, match=TOO_LARGE):
        asyncio.run(compression.unpack(b"gzip", [bomb], 2**20, TOO_LARGE))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 2**20


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"1H", 3600), (b"2M", 120), (b"3S", 3), (b"4m", 0.004), (b"5u", 5e-6), (b"6n", 6e-9),
        (b"99999999H", 99999999 * 3600), (b"0S", 0),
    ],
)  # fmt: skip
def test_timeouts(value: bytes, seconds: float) -> None:
    assert timeouts.timeout_s(value) == pytest.approx(seconds)


@given(st.binary(max_size=12))
def test_a_timeout_is_a_number_and_a_unit_or_refused(value: bytes) -> None:
    try:
        seconds = timeouts.timeout_s(value)
    except ValueError:
        return
    assert value[:-1].isdigit()
    assert 1 <= len(value) - 1 <= 8
    assert value[-1:] in b"HMSmun"
    assert seconds >= 0


@pytest.mark.parametrize("value", [b"", b"S", b"1", b"1s", b"-1S", b"1.5S", b"123456789S", b" 1S"])
async def test_a_timeout_that_is_none_is_invalid(value: bytes) -> None:
    peer = await call(Peer(framed(b"x")), grpc_timeout=value)
    assert peer.status is Code.INVALID_ARGUMENT


async def test_a_deadline_that_passes() -> None:
    for peer, path in ((Peer(framed(b"x")), "/t/Sleeps"), (Peer(ends=False), "/t/Echo")):
        await call(peer, path, grpc_timeout=b"10m")
        assert peer.status is Code.DEADLINE_EXCEEDED
        assert peer.fields[b"grpc-message"].startswith(b"Deadline Exceeded")
    stream = Peer(framed(b"first"), ends=False)
    await call(stream, "/t/EchoAll", grpc_timeout=b"10m")
    assert stream.messages() == [(0, b"first")]
    assert stream.status is Code.DEADLINE_EXCEEDED


async def test_a_deadline_that_does_not_pass_leaves_nothing_behind() -> None:
    peer = await call(Peer(framed(b"x")), grpc_timeout=b"1H")
    assert peer.status is Code.OK
    task = asyncio.current_task()
    assert task
    assert not task.cancelling()


async def test_a_cancelled_call_ends() -> None:
    fields: list[dict[str, bytes]] = [{}, {"grpc_timeout": b"1H"}]
    for options in fields:
        task = asyncio.create_task(call(Peer(), "/t/Sleeps", "POST", **options))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/t/Nothing", "POST", Code.UNIMPLEMENTED),
        ("/t/../Echo", "POST", Code.UNIMPLEMENTED),
        ("/t/Echo", "GET", Code.UNIMPLEMENTED),
        ("/t/Broken", "POST", Code.INTERNAL),
    ],
)
async def test_calls_that_go_nowhere(path: str, method: str, status: Code) -> None:
    peer = await call(Peer(framed(b"x")), path, method)
    assert peer.status is status
    assert b"secret" not in peer.fields[b"grpc-message"]
    assert peer.sent[0]["status"] == 200


async def test_too_many_fields_are_refused() -> None:
    assert (await call(Peer(framed(b"x")), x=b"y" * 700)).status is Code.OK
    peer = await call(Peer(framed(b"x")), x=b"y" * 1000)
    assert peer.status is Code.RESOURCE_EXHAUSTED
    assert peer.pulled == 0


@given(st.text(max_size=300))
def test_a_status_message_travels_as_printable_ascii(text: str) -> None:
    encoded = percent_encoded(text)
    assert all(0x20 <= byte < 0x7F for byte in encoded)
    assert unquote_to_bytes(encoded) == text.encode("utf-8", "replace")


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (b"application/grpc", True), (b"application/grpc+proto", True), (b"Application/GRPC", True),
        (b"application/grpc;x=1", True), (b"application/grpc-web", False), (b"", False),
        (b"application/json", False), (b"application/grpcx", False),
    ],
)  # fmt: skip
def test_whether_a_request_is_grpcs(content_type: bytes, expected: bool) -> None:
    assert is_grpc(content_type) is expected
