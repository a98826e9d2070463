"""Spans of a request that has ended, made from the moments that a frontend noted.

Names and attributes are OpenTelemetry's where it has some; the others begin with ``corral.``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from corral import __version__
from corral.telemetry.access_log import code_name
from corral.telemetry.report import RequestReport, Traced
from corral.telemetry.timeline import Run
from corral.telemetry.trace_context import new_span_id

Attributes = dict[str, str | int | float]

_SCOPE = InstrumentationScope("corral", __version__)
#: gRPC's codes that are the server's fault, by OpenTelemetry's convention for servers:
#: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS
_FAULTS = frozenset({2, 4, 12, 13, 14, 15})
_HTTP_FAULT = 500


class SpanMaker:
    """Makes the spans of requests.

    Args:
        resource: the server, as OpenTelemetry describes it.
        cores: says how many cores a worker has, by its id.
    """

    def __init__(self, resource: Resource, cores: Callable[[], Mapping[int, int]]) -> None:
        self._resource = resource
        self._cores = cores

    def spans(
        self, told: RequestReport, trace: Traced, unix_offset_s: float
    ) -> Iterator[ReadableSpan]:
        """The request's own span first, then those of its phases.

        Args:
            told: of the request.
            trace: its place among traces.
            unix_offset_s: what the wall clock is ahead of the monotonic one.
        """
        family = _Family(self._resource, trace, unix_offset_s)
        server = family.context(trace.span_id)
        parent = family.context(trace.parent_id, remote=True) if trace.parent_id else None
        yield family.span(
            told.path.lstrip("/") if told.is_grpc else _http_name(told),
            (told.begun_s, told.ended_s),
            (server, parent),
            kind=SpanKind.SERVER,
            attributes=_request_attributes(told),
            status=_status(told),
        )
        for name, times_s in _waits(told):
            yield family.span(name, times_s, (family.new(), server))
        cores = self._cores()
        for run in told.runs:
            batch, about = family.new(), _batch_attributes(run, cores)
            times_s = (run.formed_s, run.collected_s)
            yield family.span("batch", times_s, (batch, server), attributes=about)
            times_s = (run.started_s, run.ended_s)
            yield family.span("infer", times_s, (family.new(), batch), attributes=about)
        if told.answered_s:
            times_s = (told.answered_s, told.ended_s)
            yield family.span("answer", times_s, (family.new(), server))


class _Family:
    """The spans of one trace."""

    def __init__(self, resource: Resource, trace: Traced, unix_offset_s: float) -> None:
        self._resource = resource
        self._trace_id = int(trace.trace_id, 16)
        self._state = TraceState.from_header([trace.state]) if trace.state else TraceState()
        self._unix_offset_s = unix_offset_s

    def context(self, span_id: str, *, remote: bool = False) -> SpanContext:
        """Of a span that has its id."""
        flags = TraceFlags(TraceFlags.SAMPLED)
        return SpanContext(self._trace_id, int(span_id, 16), remote, flags, self._state)

    def new(self) -> SpanContext:
        """Of a span that gets one."""
        return self.context(new_span_id())

    def span(
        self,
        name: str,
        times_s: tuple[float, float],
        contexts: tuple[SpanContext, SpanContext | None],
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes | None = None,
        status: Status | None = None,
    ) -> ReadableSpan:
        """A span that has ended; ``contexts`` are its own and its parent's."""
        start_s, end_s = times_s
        return ReadableSpan(
            name,
            context=contexts[0],
            parent=contexts[1],
            resource=self._resource,
            attributes=attributes or {},
            kind=kind,
            status=status or Status(StatusCode.UNSET),
            start_time=int((start_s + self._unix_offset_s) * 1e9),
            end_time=int((max(start_s, end_s) + self._unix_offset_s) * 1e9),
            instrumentation_scope=_SCOPE,
        )


def _waits(told: RequestReport) -> Iterator[tuple[str, tuple[float, float]]]:
    """The phases before the first batch that have come."""
    moments = [
        ("receive", told.begun_s, told.received_s),
        ("admit", told.received_s, told.admitted_s),
        ("decode", told.admitted_s, told.queued_s if told.decoded else 0.0),
        ("queue", told.queued_s, told.runs[0].formed_s if told.runs else 0.0),
    ]
    return ((name, (start_s, end_s)) for name, start_s, end_s in moments if start_s and end_s)


def _http_name(told: RequestReport) -> str:
    """The method and the route: a path would make as many names as there are models."""
    return f"{told.method} {_route(told)}".rstrip()


def _route(told: RequestReport) -> str:
    if not told.model:
        return ""
    return f"/v2/models/{{model}}/{told.path.rstrip('/').rpartition('/')[2]}"


def _request_attributes(told: RequestReport) -> Attributes:
    found: Attributes = {
        "corral.cell": told.cell,
        "network.protocol.version": told.http_version,
    }
    if told.peer:
        found |= {"client.address": told.peer, "client.port": told.peer_port}
    if told.is_grpc:
        service, _, method = told.path.lstrip("/").partition("/")
        found |= {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
        if told.grpc_status >= 0:
            found["rpc.grpc.status_code"] = told.grpc_status
    else:
        found |= {"http.request.method": told.method, "url.path": told.path}
        if route := _route(told):
            found["http.route"] = route
        if told.status:
            found["http.response.status_code"] = told.status
    if told.model:
        found |= {"corral.model": told.model, "corral.items": told.items}
    if told.outcome:
        found["corral.outcome"] = told.outcome
    if told.runs:
        last = told.runs[-1]
        found |= {"corral.worker": last.worker, "corral.batch.size": last.items}
    return found


def _batch_attributes(run: Run, cores: Mapping[int, int]) -> Attributes:
    found: Attributes = {
        "corral.worker": run.worker,
        "corral.batch.number": run.batch,
        "corral.batch.size": run.items,
    }
    if run.worker in cores:
        found["corral.worker.cores"] = cores[run.worker]
    return found


def _status(told: RequestReport) -> Status:
    if told.is_grpc and told.grpc_status in _FAULTS:
        return Status(StatusCode.ERROR, code_name(told.grpc_status))
    if not told.is_grpc and told.status >= _HTTP_FAULT:
        return Status(StatusCode.ERROR, f"HTTP {told.status}")
    return Status(StatusCode.UNSET)
