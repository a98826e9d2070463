"""Sends spans to a collector by OTLP over HTTP, in batches, with OpenTelemetry's own SDK.

A collector that is down costs the traces, and nothing else: what it does not take within a batch's
patience is dropped and counted, and so is what comes while too much waits.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind

from corral import __version__
from corral.errors import without_secrets
from corral.system.background import step_back
from corral.telemetry.otlp_session import OtlpSession, brings_its_own
from corral.telemetry.report import RequestReport, Traced
from corral.telemetry.spans import SpanMaker

logger = logging.getLogger(__name__)

#: where collectors take traces
_PATH = "/v1/traces"
#: spans that wait to be sent; a trace has some eight
_MOST_SPANS = 16_384
_BATCH_SPANS = 512
#: what one batch may take, tries again included
_PATIENCE_S = 5.0
_TIMEOUTS = ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")
#: what the last traces may take, when the server ends
_LAST_S = 2.0


def traces_url(endpoint: str) -> str:
    """Where traces are posted to: an endpoint without a path is a collector's base address."""
    return endpoint.rstrip("/") + _PATH if urlsplit(endpoint).path in {"", "/"} else endpoint


class TraceExporter:
    """One thread hands requests over, the SDK's sends their spans.

    Args:
        endpoint: the collector's address.
        cores: says how many cores a worker has, by its id.

    Attributes:
        sent: traces that the collector took.
        refused: traces that it did not.
        overflowed: traces that found no room.
    """

    def __init__(self, endpoint: str, cores: Callable[[], Mapping[int, int]]) -> None:
        _silence()
        resource = Resource.create({"service.name": "corral", "service.version": __version__})
        self._maker = SpanMaker(resource, cores)
        url = traces_url(endpoint)
        # Its variables win over ours.
        patience_s = None if any(map(os.environ.get, _TIMEOUTS)) else _PATIENCE_S
        session = None if brings_its_own(os.environ) else OtlpSession()
        exporter = OTLPSpanExporter(url, timeout=patience_s, session=session)
        self._outlet = _Outlet(exporter, without_secrets(url), session)
        # Every 5 seconds, or as $OTEL_BSP_SCHEDULE_DELAY says: each request to a collector costs.
        self._processor = BatchSpanProcessor(
            self._outlet, max_queue_size=_MOST_SPANS, max_export_batch_size=_BATCH_SPANS
        )

    @property
    def sent(self) -> int:
        """Traces that the collector took."""
        return self._outlet.sent

    @property
    def refused(self) -> int:
        """Traces that it did not take."""
        return self._outlet.refused

    @property
    def overflowed(self) -> int:
        """Traces that found no room."""
        return self._outlet.overflowed

    def add(self, told: RequestReport, trace: Traced, unix_offset_s: float) -> None:
        """Sends the spans of a request soon; see SpanMaker."""
        spans = list(self._maker.spans(told, trace, unix_offset_s))
        if not self._outlet.has_room(len(spans)):
            return
        for span in spans:
            self._processor.on_end(span)

    def close(self) -> None:
        """Sends what there is, unless that takes long."""
        ending = threading.Thread(target=self._processor.shutdown, daemon=True)
        ending.start()
        ending.join(_LAST_S)
        self._outlet.tell_left()


class _Outlet(SpanExporter):
    """Counts what the SDK's exporter does with its batches."""

    def __init__(self, exporter: SpanExporter, url: str, session: OtlpSession | None) -> None:
        self._exporter = exporter
        self._url = url
        self._session = session
        self._lock = threading.Lock()
        self._waiting = 0
        self._has_begun = False
        self._drops = False
        self.sent = 0
        self.refused = 0
        self.overflowed = 0

    def has_room(self, count: int) -> bool:
        """Takes room for so many spans, if there is some; a trace without room is counted."""
        with self._lock:
            if self._waiting + count <= _MOST_SPANS:
                self._waiting += count
                return True
            self.overflowed += 1
        self._begin_to_drop("they come faster than it takes them")
        return False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Sends a batch; a trace counts with its request's own span."""
        if not self._has_begun:
            # The SDK's own thread, which only calls this.
            self._has_begun = True
            step_back()
        traces = sum(span.kind is SpanKind.SERVER for span in spans)
        result = self._exporter.export(spans)
        is_whole = result is SpanExportResult.SUCCESS
        lost = 0 if is_whole else traces
        if is_whole and self._session is not None and self._session.rejected:
            # Nobody says whose spans they were: as many traces as there may be have a gap.
            is_whole, lost = False, min(traces, self._session.rejected)
        with self._lock:
            self._waiting -= len(spans)
            # A queue that is emptied a bit and fills again is one story.
            is_over = is_whole and self._drops and self._waiting < _MOST_SPANS // 2
        self.sent += traces - lost
        self.refused += lost
        if not is_whole:
            self._begin_to_drop((self._session and self._session.problem) or "no reason given")
        elif is_over:
            self._drops = False
            dropped = self.refused + self.overflowed
            logger.warning("%s takes traces again; %d were dropped", self._url, dropped)
        return result

    def _begin_to_drop(self, reason: str) -> None:
        """Says so once, until it is over."""
        with self._lock:
            is_known, self._drops = self._drops, True
        if not is_known:
            self._tell("traces are dropped", reason)

    def tell_left(self) -> None:
        """At the end: what waits is lost, which somebody who was never told of drops must know."""
        with self._lock:
            left = self._waiting > 0 and not self._drops
        if left:
            reason = (self._session and self._session.problem) or "no answer in time"
            self._tell("the last traces are dropped", reason)

    def _tell(self, what: str, reason: str) -> None:
        logger.warning("%s: %s does not take them (%s)", what, self._url, reason)

    def shutdown(self) -> None:
        """Ends the exporter."""
        self._exporter.shutdown()


def _silence() -> None:
    """OpenTelemetry says the same with every batch, and of each request; we say it once."""
    theirs = logging.getLogger("opentelemetry")
    theirs.handlers[:] = [logging.NullHandler()]
    theirs.propagate = False
