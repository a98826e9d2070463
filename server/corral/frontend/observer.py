"""Which requests are watched, and what is told of each when it ends.

Of a request that nobody watches nothing is noted: it costs a look at its header fields, and a
random number where a rate of requests is traced.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from corral.dataplane.recorder import Recorder
from corral.dataplane.span_book import SpanBook
from corral.frontend.grpc_asgi.application import is_grpc
from corral.ipc.messages import CellBoot, StartTrace, Traced
from corral.telemetry import trace_context
from corral.telemetry.outbox import Outbox
from corral.telemetry.report import RequestReport, report
from corral.telemetry.timeline import Timeline, attach, detach, timeline_of
from corral.telemetry.trace_context import TraceContext

Send = Callable[[dict[str, Any]], Awaitable[None]]

#: A client that sends it has the answer's ``Server-Timing`` say how long each phase took.
WANT_TIMING = b"want-server-timing"


class Observer:
    """Watches the requests of a frontend.

    Args:
        cell: whose.
        outbox: where reports go; None: nobody wants them.
        traces: whether requests can be traced.
        rate: the part of the requests without a parent that is.
        logs: whether each request has a line in the access log.

    Attributes:
        active: whether ``begin`` wants to be asked; a request that wants its timing always does.
    """

    def __init__(
        self, cell: int, outbox: Outbox | None, *, traces: bool, rate: float, logs: bool
    ) -> None:
        self._cell = cell
        self._outbox = outbox
        self._traces = traces and outbox is not None
        self._logs = logs and outbox is not None
        self._rate = 0.0
        self._book: SpanBook | None = None
        self._random = random.random
        self._now_s = time.monotonic
        self.active = False
        self.set_rate(rate)

    def set_rate(self, rate: float) -> None:
        """Another part of the requests is traced from now on."""
        self._rate = rate if self._traces else 0.0
        self._settle()

    def trace(self, start: StartTrace | None, fds: list[int]) -> Traced | None:
        """Writes every request down from now on, into the memory given; see ``corral profile``.

        Returns:
            without ``start``, how much was written.
        """
        new = None if start is None else SpanBook(fds[0], start.capacity)
        book, self._book = self._book, new
        self._settle()
        if book is None:
            return None
        book.close()
        if start is not None:
            return None
        return Traced(cell=self._cell, requests=book.written, dropped=book.dropped)

    def _settle(self) -> None:
        self._watches_all = self._logs or self._book is not None
        self.active = self._watches_all or self._traces

    def begin(self, scope: dict[str, Any], fields: dict[bytes, bytes]) -> Timeline | None:
        """A request has come: its timeline, or None where nobody watches it.

        Args:
            scope: ASGI's.
            fields: its header fields by name.
        """
        context = None
        parent = fields.get(trace_context.TRACEPARENT)
        if parent is not None:
            told = self._watches_all or WANT_TIMING in fields
            if not told and trace_context.is_unsampled(parent):
                return None
            context = trace_context.follow(scope["headers"])
        if context is None and self._rate and self._random() < self._rate:
            context = trace_context.begin()
        traced = self._traces and context is not None and context.sampled
        if not traced and not self._watches_all and WANT_TIMING not in fields:
            return None
        timeline = Timeline(scope, context, traced=traced, begun_s=self._now_s())
        timeline.is_grpc = is_grpc(fields.get(b"content-type", b""))
        attach(scope, timeline)
        return timeline

    def begin_streamed(self, scope: dict[str, Any]) -> Timeline | None:
        """A request of a stream has come; its message is there.

        Args:
            scope: of the stream.
        """
        if not self.active:
            return None
        stream = timeline_of(scope)
        context: TraceContext | None
        if stream is not None and stream.context is not None:
            context = stream.context.child()
        else:
            context = trace_context.follow(scope["headers"])
            if context is None and self._rate and self._random() < self._rate:
                context = trace_context.begin()
        traced = self._traces and context is not None and context.sampled
        if not traced and not self._watches_all:
            return None
        timeline = Timeline(scope, context, traced=traced, begun_s=self._now_s())
        timeline.is_grpc = True
        return timeline

    def end(self, timeline: Timeline) -> None:
        """The request has ended, one way or another."""
        timeline.ended_s = self._now_s()
        detach(timeline)
        if self._book is not None:
            self._book.write(timeline)
        if self._outbox is not None and (timeline.traced or self._logs):
            self._outbox.put(report(timeline, self._cell, is_logged=self._logs))

    def close(self) -> None:
        """Sends what has not been sent."""
        if self._outbox is not None:
            self._outbox.flush()


def make_observer(boot: CellBoot, recorder: Recorder) -> Observer:
    """The observer that a frontend's settings ask for."""
    settings = boot.settings.telemetry

    def dropped(told: RequestReport) -> None:
        traced = told.trace is not None and told.trace.wanted
        recorder.report_dropped(traced=traced, logged=told.is_logged)

    return Observer(
        boot.cell,
        Outbox(boot.reports_fd, dropped) if boot.reports_fd >= 0 else None,
        traces=settings.otlp_endpoint is not None,
        rate=settings.rate,
        logs=settings.access_log is not None,
    )


def watched(send: Send, timeline: Timeline, *, tells_timing: bool) -> Send:
    """ASGI's ``send``, with what it is given noted.

    Args:
        send: ASGI's.
        timeline: of the request.
        tells_timing: whether the answer's head says how long each phase took.
    """

    async def note_and_send(event: dict[str, Any]) -> None:
        kind = event["type"]
        if kind == "http.response.body":
            timeline.sent_bytes += len(event.get("body", b""))
        else:
            if kind == "http.response.start":
                timeline.status = event["status"]
            for name, value in event.get("headers", ()):
                if name == b"grpc-status":
                    timeline.grpc_status = int(value)
            if tells_timing and kind == "http.response.start":
                field = (b"server-timing", timeline.server_timing(time.monotonic()))
                event = {**event, "headers": [*event["headers"], field]}
        await send(event)

    return note_and_send
