"""A request as a frontend tells the supervisor of it, and the socket between them.

Packets of many requests go over SOCK_SEQPACKET: a frontend never waits for the supervisor, and
what finds no room is dropped and counted.
"""

from __future__ import annotations

import socket

import msgspec

from corral.telemetry.timeline import Run, Timeline

#: what a client chose and somebody is to read has an end
_MOST_CHARS = 256
#: requests of a packet; each has less than 2 KiB, and a socket takes some 200 KiB
PACKET_REQUESTS = 64
#: the largest packet that is read
PACKET_BYTES = 2**18


class Traced(msgspec.Struct, array_like=True):
    """A request's place among traces; see TraceContext."""

    trace_id: str
    span_id: str
    parent_id: str
    state: str
    #: whether spans are wanted; a line of the access log names the trace in any case
    wanted: bool


class RequestReport(msgspec.Struct, array_like=True):
    """One request that has ended; see Timeline."""

    cell: int
    peer: str
    peer_port: int
    http_version: str
    method: str
    path: str
    is_grpc: bool
    status: int
    grpc_status: int
    sent_bytes: int
    model: str
    items: int
    outcome: str
    begun_s: float
    received_s: float
    admitted_s: float
    queued_s: float
    answered_s: float
    ended_s: float
    decoded: bool
    runs: list[Run]
    trace: Traced | None
    is_logged: bool


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(list[RequestReport]).decode


def report(timeline: Timeline, cell: int, *, is_logged: bool) -> RequestReport:
    """What is told of a request that has ended.

    Args:
        timeline: of the request.
        cell: whose frontend served it.
        is_logged: whether the access log gets a line.
    """
    scope, context = timeline.scope, timeline.context
    client = scope.get("client") or ("", 0)
    trace = None
    if context is not None:
        trace = Traced(
            context.trace_id, context.span_id, context.parent_id, context.state, timeline.traced
        )
    return RequestReport(
        cell,
        str(client[0] or ""),
        int(client[1] or 0),
        scope.get("http_version", ""),
        scope["method"][:_MOST_CHARS],
        scope["path"][:_MOST_CHARS],
        timeline.is_grpc,
        timeline.status,
        timeline.grpc_status,
        timeline.sent_bytes,
        timeline.model[:_MOST_CHARS],
        timeline.items,
        timeline.outcome,
        timeline.begun_s,
        timeline.received_s,
        timeline.admitted_s,
        timeline.queued_s,
        timeline.answered_s,
        timeline.ended_s,
        timeline.decoded,
        timeline.runs,
        trace,
        is_logged,
    )


def pair() -> tuple[socket.socket, socket.socket]:
    """The socket's two ends: the supervisor's, which blocks, and the frontends', which does not."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.setblocking(False)
    return ours, theirs
