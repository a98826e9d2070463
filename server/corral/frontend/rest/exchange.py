"""One request and its answer in ASGI's terms."""

from __future__ import annotations

import asyncio
import functools
import time
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec

from corral.errors import InvalidRequest, NotFound, RequestError
from corral.frontend.grpc_asgi.timeouts import timeout_s
from corral.frontend.pieces import PIECE_BYTES, cut
from corral.frontend.rest.service import Follower, Scope, Send
from corral.protocol.rest import fields, statuses
from corral.protocol.rest.compression import pack

JSON = b"application/json"
OCTETS = b"application/octet-stream"
HTML = b"text/html; charset=utf-8"
#: a smaller answer is not worth packing
_LEAST_PACKED_BYTES = 256
_MAX_QUERY_FIELDS = 16
#: longer paths are nothing to remember
_REMEMBERED_BYTES = 256
#: for a client to take a piece of an answer that goes on
_STALLED_S = 10.0


class Reply(msgspec.Struct, frozen=True, eq=False):
    """An answer.

    Attributes:
        body: all of it.
        status: HTTP's.
        content_type: of the body.
        more: other header fields.
        packed: the body as gzip has it, where it is kept.
        follower: what the body goes on with, for as long as there is more; closed at the end.
        may_be_packed: whether a client that asks for it gets the body packed. tritonclient's
            asyncio form asks always, and unpacks answers to inferences alone.
    """

    body: bytes
    status: int = 200
    content_type: bytes = JSON
    more: tuple[tuple[bytes, bytes], ...] = ()
    may_be_packed: bool = False
    packed: bytes | None = None
    follower: Follower | None = None


class Request:
    """What a scope says of a request, read when it is asked for.

    Args:
        scope: ASGI's; kept.
    """

    def __init__(self, scope: Scope) -> None:
        self._fields: list[tuple[bytes, bytes]] = scope["headers"]
        named = dict(self._fields)
        #: by name; None where one comes twice
        self._named = named if len(named) == len(self._fields) else None
        self.scope = scope
        self.method: str = scope["method"]

    def field(self, name: bytes) -> str | None:
        """A header field that may come once; raises InvalidRequest."""
        if self._named is None:
            return fields.single(self._fields, name)
        value = self._named.get(name)
        return None if value is None else fields.text(value)

    def listed(self, name: bytes) -> str | None:
        """A header field that is a list, and so may come in several pieces."""
        if self._named is not None and name not in self._named:
            return None
        return fields.listed(self._fields, name)

    def length(self, name: bytes) -> int | None:
        """A header field that is a number of bytes; raises InvalidRequest."""
        value = None if self._named is None else self._named.get(name)
        if value is not None and len(value) <= fields.MAX_DIGITS:
            return _length(name, value)
        return fields.bytes_in(name, self.field(name))

    def deadline_s(self) -> float | None:
        """When the answer becomes useless, on the monotonic clock; None for never.

        Raises:
            InvalidRequest: the field that says so is none of gRPC's form.
        """
        allowed = self.field(b"grpc-timeout")
        if allowed is None:
            return None
        try:
            return time.monotonic() + timeout_s(allowed.encode())
        except ValueError as error:
            raise InvalidRequest(str(error)) from None

    @property
    def has_no_body(self) -> bool:
        """Whether the request says by its head that it has none. HTTP/2 need not say anything."""
        names = self._named or {name for name, _ in self._fields}
        framed = b"content-length" in names or b"transfer-encoding" in names
        return self.scope.get("http_version", "1.1").startswith("1") and not framed

    def query(self) -> dict[str, str]:
        """The fields of the query.

        Raises:
            InvalidRequest: they are broken, too many, or one comes twice.
        """
        text: bytes = self.scope.get("query_string", b"")
        try:
            pairs = parse_qsl(
                text.decode("ascii"),
                keep_blank_values=True,
                strict_parsing=bool(text),
                errors="strict",
                max_num_fields=_MAX_QUERY_FIELDS,
            )
        except ValueError:
            raise InvalidRequest("the query after the ? in the path is broken") from None
        found = dict(pairs)
        if len(found) != len(pairs):
            raise InvalidRequest("a field of the query comes twice")
        return found

    def path(self) -> tuple[str, ...]:
        """The segments of the path, unquoted; a slash at the end counts for nothing.

        Raises:
            NotFound: it is no path of text.
        """
        raw = self.scope.get("raw_path") or self.scope["path"].encode()
        if len(raw) > _REMEMBERED_BYTES:
            return _read_segments(raw)
        return _segments(raw)


def _read_segments(raw: bytes) -> tuple[str, ...]:
    if not raw.startswith(b"/"):
        raise NotFound("there is nothing at this path")
    try:
        return tuple(
            unquote_to_bytes(segment).decode() for segment in raw[1:].removesuffix(b"/").split(b"/")
        )
    except UnicodeDecodeError:
        raise NotFound("there is nothing at this path") from None


_segments = functools.lru_cache(maxsize=256)(_read_segments)


@functools.lru_cache(maxsize=256)
def _length(name: bytes, value: bytes) -> int | None:
    return fields.bytes_in(name, fields.text(value))


def refusal(error: RequestError) -> Reply:
    """The answer that an error is."""
    return Reply(
        statuses.body_of(str(error)),
        statuses.status_of(error),
        more=tuple(statuses.fields_of(error)),
    )


def packed(reply: Reply, accept_encoding: str) -> Reply:
    """The answer as a client that says so gets it: packed, where it may be and is worth it."""
    encoding = fields.accepted_encoding(accept_encoding)
    if not reply.may_be_packed or len(reply.body) < _LEAST_PACKED_BYTES or encoding is None:
        return reply
    body = reply.packed if encoding == "gzip" else None
    return msgspec.structs.replace(
        reply,
        body=pack(reply.body, encoding) if body is None else body,
        more=(
            *reply.more,
            (b"content-encoding", encoding.encode()),
            (b"vary", b"accept-encoding"),
        ),
    )


async def answer(send: Send, reply: Reply) -> None:
    """Sends an answer as it is."""
    if reply.follower is not None:
        await _follow(send, reply, reply.follower)
        return
    length = (b"content-length", b"%d" % len(reply.body))
    head = [(b"content-type", reply.content_type), *reply.more, length]
    await send({"type": "http.response.start", "status": reply.status, "headers": head})
    if len(reply.body) <= PIECE_BYTES:
        await send({"type": "http.response.body", "body": reply.body, "more_body": False})
        return
    for piece, more in cut(reply.body):
        await send({"type": "http.response.body", "body": piece, "more_body": more})


async def _follow(send: Send, reply: Reply, follower: Follower) -> None:
    """Sends what comes, as it comes; a client that does not take it is left."""
    head = [(b"content-type", reply.content_type), *reply.more]
    try:
        await send({"type": "http.response.start", "status": reply.status, "headers": head})
        async for piece in follower:
            async with asyncio.timeout(_STALLED_S):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        follower.close()
