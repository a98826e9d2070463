"""The HTTP session that spans travel by: what a collector answers, and why nothing arrived.

OpenTelemetry's exporter counts an answer of 3xx as success though it follows no redirect, reads an
answer of any size, and forgets in the end why it failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import requests

#: of an answer that are read; a collector's own has some hundred
_MOST_BYTES = 64 * 2**10
#: where collectors take OTLP over gRPC, which this does not speak
_GRPC_PORT = 4317
_REDIRECTS = range(300, 400)
_ERRORS = range(400, 600)
_REASON_CHARS = 200


class OtlpSession(requests.Session):  # type: ignore[misc]
    """Requests to one collector.

    Attributes:
        problem: why the last request failed, in a few words; empty if it did not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.problem = ""

    def request(self, method: str, url: str, **options: Any) -> requests.Response:
        """Makes a request and sends it.

        Raises:
            requests.RequestException: it could not be made, nothing was answered, or a redirect.
            OSError, ValueError: a file of certificates or a time that cannot be.
        """
        self.problem = ""
        try:
            return super().request(method, url, **options)
        except Exception as error:
            # What is refused before it is sent has passed nobody who noted why.
            self.problem = self.problem or _said_of_settings(error)
            raise

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """Sends a request, and reads no more of the answer than one may have.

        Raises:
            requests.RequestException: nothing was answered, or a redirect.
        """
        try:
            answer = super().send(request, **{**options, "stream": True})
        except requests.RequestException as error:
            self.problem = _said_by(error)
            if urlsplit(request.url or "").port == _GRPC_PORT:
                self.problem += "; 4317 is OTLP over gRPC as a rule, and OTLP over HTTP has 4318"
            raise
        self.problem = _read(answer)
        if answer.status_code in _REDIRECTS:
            raise requests.RequestException(self.problem)
        return answer


def _read(answer: requests.Response) -> str:
    """Reads the answer in part, and says what is wrong with it, if anything is."""
    with answer:
        content = answer.raw.read(_MOST_BYTES, decode_content=False)
    # requests knows no other way to have an answer that is not read to its end.
    answer._content = content
    if answer.status_code in _REDIRECTS:
        where = without_secrets(answer.headers.get("location", "nowhere"))
        return f"{answer.status_code}, a redirect to {where}, which is to be the endpoint then"
    if answer.status_code in _ERRORS:
        return f"{answer.status_code} {answer.reason}"
    return ""


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
    words = " ".join(str(error).split())
    return words[:_REASON_CHARS] or type(error).__name__


def without_secrets(url: str) -> str:
    """An address as it may stand in a log: no user, no password, no query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def brings_its_own(environ: Mapping[str, str]) -> bool:
    """Whether a user's own session (an OpenTelemetry credential provider) is to be taken."""
    names = (
        "OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER",
        "OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER",
    )
    return any(map(environ.get, names))
