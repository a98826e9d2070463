"""The HTTP session that spans travel by: what a collector answers, and why nothing arrived.

OpenTelemetry's exporter counts an answer of 3xx as success though it follows no redirect, and one
that rejects the spans, too. It reads an answer of any size for any time, and forgets in the end why
it failed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from corral.errors import printable, without_secrets

#: of an answer that are read; a collector's own has some hundred
_MOST_BYTES = 64 * 2**10
#: where collectors take OTLP over gRPC, which this does not speak
_GRPC_PORT = 4317
_REDIRECTS = range(300, 400)
_ERRORS = range(400, 600)
_REASON_CHARS = 200
_PROTOBUF = "application/x-protobuf"


class OtlpSession(requests.Session):  # type: ignore[misc]
    """Requests to one collector.

    Attributes:
        problem: why the last request failed, in a few words; empty if it did not.
        rejected: spans of it that the collector says it did not keep.
    """

    def __init__(self) -> None:
        super().__init__()
        self.problem = ""
        self.rejected = 0

    def request(self, method: str, url: str, **options: Any) -> requests.Response:
        """Makes a request and sends it.

        Raises:
            requests.RequestException: it could not be made, nothing was answered, or a redirect.
            OSError, ValueError: a file of certificates or a time that cannot be.
        """
        self.problem, self.rejected = "", 0
        try:
            return super().request(method, url, **options)
        except Exception as error:
            # What is refused before it is sent has passed nobody who noted why.
            self.problem = self.problem or _said_of_settings(error)
            raise

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """Sends a request, and reads no more of the answer, and no longer, than one may have.

        Raises:
            requests.RequestException: nothing was answered, or a redirect, or not to its end.
        """
        patience_s, began_s = options.get("timeout"), time.monotonic()
        try:
            answer = super().send(request, **{**options, "stream": True})
        except requests.RequestException as error:
            self.problem = _said_by(error)
            if urlsplit(request.url or "").port == _GRPC_PORT:
                self.problem += "; 4317 is OTLP over gRPC as a rule, and OTLP over HTTP has 4318"
            raise
        # The timeout is a socket's, which a byte now and then keeps.
        until_s = began_s + patience_s if isinstance(patience_s, int | float) else None
        with answer:
            content = _content(answer, until_s)
        if content is None:
            self.problem = "its answer does not end"
            raise requests.exceptions.ReadTimeout(self.problem)
        # requests knows no other way to have an answer that is not read to its end.
        answer._content = content
        self.problem, self.rejected = _read(answer, content)
        if answer.status_code in _REDIRECTS:
            raise requests.RequestException(self.problem)
        return answer


def _content(answer: requests.Response, until_s: float | None) -> bytes | None:
    """The beginning of the answer's body; None where that has not come by then."""
    content = b""
    while piece := answer.raw.read1(_MOST_BYTES - len(content), decode_content=False):
        content += piece
        if len(content) >= _MOST_BYTES:
            break
        if until_s is not None and time.monotonic() > until_s:
            return None
    return content


def _read(answer: requests.Response, content: bytes) -> tuple[str, int]:
    """What is wrong with the answer, if anything is, and how many spans it rejects."""
    if answer.status_code in _REDIRECTS:
        where = without_secrets(answer.headers.get("location", "nowhere"))
        return _shown(
            f"{answer.status_code}, a redirect to {where}, which is to be the endpoint then"
        ), 0
    if answer.status_code in _ERRORS:
        return _shown(f"{answer.status_code} {answer.reason}"), 0
    if answer.headers.get("content-type") != _PROTOBUF:
        return "", 0
    try:
        said = ExportTraceServiceResponse.FromString(content).partial_success
    except DecodeError:
        return "", 0
    if said.rejected_spans <= 0:
        return "", 0
    return _shown(
        f"it rejects {said.rejected_spans} spans: {said.error_message}"
    ), said.rejected_spans


def _shown(words: str) -> str:
    """A collector's words on one line of a log, without what a terminal obeys."""
    return printable(" ".join(words.split()))[:_REASON_CHARS]


def _said_of_settings(error: BaseException) -> str:
    """Why a request could not be made. The library's own words may hold passwords and tokens."""
    if isinstance(error, requests.exceptions.InvalidHeader):
        return "no field of a header: $OTEL_EXPORTER_OTLP_HEADERS"
    if isinstance(error, requests.exceptions.InvalidURL):
        return "its host or its port cannot be"
    return _said_by(error)


def _said_by(error: BaseException) -> str:
    """The innermost cause: what wraps it names objects and addresses in memory."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return _shown(str(error)) or type(error).__name__


def brings_its_own(environ: Mapping[str, str]) -> bool:
    """Whether a user's own session (an OpenTelemetry credential provider) is to be taken."""
    names = (
        "OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER",
        "OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER",
    )
    return any(map(environ.get, names))
