"""A collector of traces for tests: OTLP over HTTP, read by OpenTelemetry's own protobufs."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import http.server
import threading
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from support.running_server import wait_until


@dataclasses.dataclass(frozen=True)
class ReceivedSpan:
    """A span, its attributes as plain values, and its resource's."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    start_ns: int
    end_ns: int
    status: int
    state: str
    attributes: dict[str, Any]
    resource: dict[str, Any]
    scope: str


def _values(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


class OtlpReceiver:
    """Takes traces until the block ends.

    Attributes:
        endpoint: its base address.
        posts: requests, refused ones included.
        refuses: the HTTP status that it answers with; 0: it takes what comes. A redirect leads to
            another host, with a password.
        flood_bytes: of the answer, where it is to be a large one.
        flooded: bytes of that which were sent before the other side hung up.
    """

    def __init__(self) -> None:
        self.posts = 0
        self.refuses = 0
        self.flood_bytes = self.flooded = 0
        self.headers: dict[str, str] = {}
        self._spans: list[ReceivedSpan] = []
        self._lock = threading.Lock()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                receiver.headers = dict(self.headers)
                receiver._take(self.path, body)
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(receiver.refuses or 200)
                if 300 <= receiver.refuses < 400:
                    self.send_header("Location", "https://who:secret@elsewhere.example/v1/traces")
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(receiver.flood_bytes or len(answer)))
                self.end_headers()
                if receiver.flood_bytes:
                    self._flood()
                else:
                    self.wfile.write(answer)

            def _flood(self) -> None:
                piece = bytes(2**20)
                with contextlib.suppress(OSError):
                    while receiver.flooded < receiver.flood_bytes:
                        self.wfile.write(piece)
                        receiver.flooded += len(piece)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def _take(self, path: str, body: bytes) -> None:
        assert path == "/v1/traces"
        message = ExportTraceServiceRequest.FromString(body)
        found = [
            _plain(span, _values(resource.resource.attributes), scope.scope.name)
            for resource in message.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        with self._lock:
            self.posts += 1
            if not self.refuses:
                self._spans += found

    def spans(self) -> list[ReceivedSpan]:
        """What has come so far."""
        with self._lock:
            return list(self._spans)

    def trace(self, trace_id: str, *, least: int = 1) -> dict[str, ReceivedSpan]:
        """The spans of a trace by name, once so many have come."""

        def there() -> bool:
            return sum(span.trace_id == trace_id for span in self.spans()) >= least

        wait_until(there, f"{least} spans of {trace_id}")
        return {span.name: span for span in self.spans() if span.trace_id == trace_id}

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _plain(span: Span, resource: dict[str, Any], scope: str) -> ReceivedSpan:
    return ReceivedSpan(
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.kind,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        span.status.code,
        span.trace_state,
        _values(span.attributes),
        resource,
        scope,
    )
