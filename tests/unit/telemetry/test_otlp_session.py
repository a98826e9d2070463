"""What a collector answers, of whatever kind."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from corral.telemetry.otlp_session import OtlpSession


@contextlib.contextmanager
def collector(answer: bytes, dribble_s: float | None = None) -> Iterator[str]:
    """Answers one request, then sends a byte now and then until the client hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError), listener.accept()[0] as client:
                client.recv(2**16)
                client.sendall(answer)
                while dribble_s is not None:
                    time.sleep(dribble_s)
                    client.sendall(b"x")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1/traces"
        thread.join(10)
        assert not thread.is_alive()


def said(content: bytes, *, kind: str = "application/x-protobuf") -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


def rejects(spans: int, why: str) -> bytes:
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = spans
    answer.partial_success.error_message = why
    return answer.SerializeToString()


def test_an_answer_that_does_not_end_is_left_in_time() -> None:
    """Each byte comes within the time that a read may take."""
    session, began_s = OtlpSession(), time.monotonic()
    with collector(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n", 0.05) as url:
        with pytest.raises(requests.Timeout):
            session.post(url, b"", timeout=0.3)
        session.close()
    assert session.problem == "its answer does not end"
    assert time.monotonic() - began_s < 5


@pytest.mark.parametrize(
    ("answer", "rejected", "problem"),
    [
        (said(rejects(7, "no \x1b[31mroom\n")), 7, r"it rejects 7 spans: no \x1b[31mroom"),
        (said(rejects(0, "only a warning")), 0, ""),
        (said(b""), 0, ""),
        (said(b"\xff\xfe nonsense"), 0, ""),
        (said(rejects(7, "no protobuf"), kind="text/html"), 0, ""),
        (b"HTTP/1.1 500 \x1b[31mred\r\nContent-Length: 0\r\n\r\n", 0, r"500 \x1b[31mred"),
    ],
)
def test_spans_that_it_rejects_and_words_that_a_terminal_would_obey(
    answer: bytes, rejected: int, problem: str
) -> None:
    session = OtlpSession()
    with collector(answer) as url:
        session.post(url, b"", timeout=5)
    assert (session.rejected, session.problem) == (rejected, problem)
