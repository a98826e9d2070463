"""Which requests are watched, and what it costs those that are not."""

from __future__ import annotations

import asyncio
import socket
import timeit
from typing import Any

import pytest

from corral.frontend.observer import WANT_TIMING, Observer, watched
from corral.telemetry import report
from corral.telemetry.outbox import Outbox
from corral.telemetry.report import RequestReport
from corral.telemetry.timeline import Timeline, timeline_of

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-%b"
PATH = "/inference.GRPCInferenceService/ModelInfer"


def scope(*fields: tuple[bytes, bytes]) -> tuple[dict[str, Any], dict[bytes, bytes]]:
    headers = [(b"content-type", b"application/grpc"), (b"te", b"trailers"), *fields]
    asked = {"type": "http", "method": "POST", "path": PATH, "http_version": "2",
             "headers": headers, "client": ("127.0.0.1", 5)}  # fmt: skip
    return asked, dict(headers)


class Supervisor:
    """The other end of an observer's socket."""

    def __init__(self) -> None:
        self.socket, theirs = report.pair()
        self.socket.setblocking(False)
        self.lost: list[RequestReport] = []
        self.outbox = Outbox(theirs.detach(), self.lost.append)

    def told(self) -> list[RequestReport]:
        """What has come since the last time."""
        self.outbox.flush()
        found: list[RequestReport] = []
        try:
            while packet := self.socket.recv(report.PACKET_BYTES):
                found += report.decode(packet)
        except BlockingIOError:
            pass
        return found


@pytest.fixture
async def supervisor() -> Any:
    made = Supervisor()
    yield made
    made.socket.close()


def observer(
    supervisor: Supervisor | None, *, traces: bool = True, rate: float = 0.0, logs: bool = False
) -> Observer:
    outbox = supervisor.outbox if supervisor else None
    return Observer(0, outbox, traces=traces, rate=rate, logs=logs)


async def test_a_sampled_parent_is_traced_and_another_is_not(supervisor: Supervisor) -> None:
    found = observer(supervisor, rate=1.0)
    yes = found.begin(*scope((b"traceparent", PARENT % b"01")))
    no = found.begin(*scope((b"traceparent", PARENT % b"00")))
    assert yes is not None
    assert no is None, "the caller has decided: the rate is for requests without a parent"
    asked = dict(yes.scope)
    assert timeline_of(asked) is yes
    found.end(yes)
    assert timeline_of(yes.scope) is None
    (told,) = supervisor.told()
    assert told.trace is not None
    assert told.trace.trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert told.trace.parent_id == "b7ad6b7169203331"
    assert told.is_grpc


async def test_a_malformed_parent_is_as_good_as_none(supervisor: Supervisor) -> None:
    broken = scope((b"traceparent", b"00-zz"))
    assert observer(supervisor, rate=0.0).begin(*broken) is None
    found = observer(supervisor, rate=1.0).begin(*broken)
    assert found is not None
    assert found.context is not None
    assert found.context.parent_id == ""


async def test_the_rate_is_the_part_of_requests_that_is_traced(supervisor: Supervisor) -> None:
    found = observer(supervisor, rate=0.25)
    traced = sum(found.begin(*scope()) is not None for _ in range(4000))
    assert 800 < traced < 1200
    found.set_rate(0.0)
    assert not any(found.begin(*scope()) for _ in range(100))


async def test_without_a_collector_nothing_is_traced_and_the_log_knows_the_trace(
    supervisor: Supervisor,
) -> None:
    plain = observer(None, traces=True, rate=1.0)
    assert not plain.active
    assert plain.begin(*scope((b"traceparent", PARENT % b"01"))) is None
    logged = observer(supervisor, traces=False, rate=1.0, logs=True)
    timeline = logged.begin(*scope((b"traceparent", PARENT % b"01")))
    assert timeline is not None
    assert not timeline.traced
    logged.end(timeline)
    (told,) = supervisor.told()
    assert told.is_logged
    assert told.trace is not None
    assert not told.trace.wanted


async def test_a_client_that_asks_for_its_timing_gets_it_and_is_not_told_of(
    supervisor: Supervisor,
) -> None:
    found = observer(supervisor)
    asked, fields = scope((WANT_TIMING, b"1"))
    timeline = found.begin(asked, fields)
    assert timeline is not None
    assert timeline_of(asked) is timeline
    sent: list[dict[str, Any]] = []

    async def send(event: dict[str, Any]) -> None:
        sent.append(event)

    shared = {"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]}
    told = watched(send, timeline, tells_timing=True)
    await told(shared)
    await told({"type": "http.response.body", "body": b"12345"})
    await told({"type": "http.response.trailers", "headers": [(b"grpc-status", b"8")]})
    assert shared["headers"] == [(b"a", b"b")], "every call's answer begins with the same head"
    assert sent[0]["headers"][1][0] == b"server-timing"
    assert b"total;dur=" in sent[0]["headers"][1][1]
    assert (timeline.status, timeline.grpc_status, timeline.sent_bytes) == (200, 8, 5)
    found.end(timeline)
    assert supervisor.told() == []


async def test_the_requests_of_a_stream_belong_to_its_trace(supervisor: Supervisor) -> None:
    found = observer(supervisor)
    asked, fields = scope((b"traceparent", PARENT % b"01"))
    stream = found.begin(asked, fields)
    assert stream is not None
    assert stream.context is not None
    one, two = found.begin_streamed(asked), found.begin_streamed(asked)
    for message in (one, two):
        assert message is not None
        assert message.context is not None
        assert message.context.trace_id == stream.context.trace_id
        assert message.context.parent_id == stream.context.span_id
    unsampled, fields = scope((b"traceparent", PARENT % b"00"))
    found.set_rate(1.0)
    assert found.begin(unsampled, fields) is None
    assert found.begin_streamed(unsampled) is None
    plain, fields = scope()
    found.set_rate(0.0)
    assert found.begin(plain, fields) is None
    found.set_rate(1.0)
    assert found.begin_streamed(plain) is not None


async def test_a_supervisor_that_does_not_read_costs_reports_and_no_time(
    supervisor: Supervisor,
) -> None:
    found = observer(supervisor, rate=1.0)

    def serve(count: int) -> None:
        for _ in range(count):
            timeline = found.begin(*scope())
            assert timeline is not None
            found.end(timeline)

    serve(20_000)
    supervisor.outbox.flush()
    serve(20_000)
    assert supervisor.lost
    # What was kept is sent once somebody reads.
    before = len(supervisor.lost)
    read = 0
    while told := supervisor.told():
        read += len(told)
    assert read + before == 40_000


async def test_a_supervisor_that_is_gone_costs_reports(supervisor: Supervisor) -> None:
    found = observer(supervisor, rate=1.0)
    supervisor.socket.shutdown(socket.SHUT_RDWR)
    supervisor.socket.close()
    timeline = found.begin(*scope())
    assert timeline is not None
    found.end(timeline)
    supervisor.outbox.flush()
    assert len(supervisor.lost) == 1


async def test_packets_leave_by_themselves(supervisor: Supervisor) -> None:
    found = observer(supervisor, rate=1.0)
    timeline = found.begin(*scope())
    assert timeline is not None
    found.end(timeline)
    loop = asyncio.get_running_loop()
    (told,) = report.decode(await loop.sock_recv(supervisor.socket, report.PACKET_BYTES))
    assert told.path == PATH


def passes(found: Observer, asked: tuple[dict[str, Any], dict[bytes, bytes]]) -> float:
    """Seconds that a request which nobody watches pays."""

    def ask() -> Timeline | None:
        if found.active or WANT_TIMING in asked[1]:
            return found.begin(*asked)
        return None

    assert ask() is None
    rounds = 5000
    return min(timeit.repeat(ask, number=rounds, repeat=9)) / rounds


@pytest.mark.timing
async def test_a_request_that_is_not_traced_pays_less_than_a_microsecond(
    supervisor: Supervisor,
) -> None:
    off = observer(None)
    on = observer(supervisor, rate=1e-12)
    assert passes(off, scope()) < 1e-6
    assert passes(on, scope()) < 1e-6
    # One whose caller has decided against it is read, and no more.
    assert passes(on, scope((b"traceparent", PARENT % b"00"))) < 3e-6
