"""HTTP's statuses: the errors that only HTTP has, and the one table from errors to statuses."""

from __future__ import annotations

import math

import msgspec

from corral.errors import (
    AlreadyExists,
    DeadlineMissed,
    InferenceFailed,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    QueueFull,
    RequestError,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unsupported,
)

#: header fields, names in lower case
Fields = list[tuple[bytes, bytes]]

#: what a client is told to wait for a server that starts or stops, seconds
_UNAVAILABLE_RETRY_S = 1


class LengthMissing(InvalidRequest):
    """A request that needs a body has none, and no Content-Length either."""


class MediaNotTaken(InvalidRequest):
    """A body in a format or an encoding that this route does not read."""


class MethodNotAllowed(RequestError):
    """The path exists, the method does not.

    Args:
        allowed: the methods that do, "GET, HEAD".
    """

    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(f"this path takes {allowed}, not {method[:20]!r}")
        self.allowed = allowed


#: The nearest class in an error's ancestry counts.
STATUSES: dict[type[RequestError], int] = {
    InvalidRequest: 400,
    Unauthenticated: 401,
    PermissionDenied: 403,
    NotFound: 404,
    MethodNotAllowed: 405,
    AlreadyExists: 409,
    LengthMissing: 411,
    TooLarge: 413,
    MediaNotTaken: 415,
    QueueFull: 429,
    InferenceFailed: 500,
    Unsupported: 501,
    Unavailable: 503,
    DeadlineMissed: 504,
}
INTERNAL = 500
#: this and what is above it says no to a request
FIRST_REFUSAL = 400


def status_of(error: RequestError) -> int:
    """The status that answers a request which ended with this error."""
    return next((STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES), INTERNAL)


def fields_of(error: RequestError) -> Fields:
    """The header fields that go with an error's status."""
    if isinstance(error, QueueFull):
        # Whole seconds are all that Retry-After can say; a queue has room again much sooner.
        return [
            (b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_ms / 1000))),
            (b"retry-after-ms", b"%d" % error.retry_after_ms),
        ]
    if isinstance(error, Unavailable):
        return [(b"retry-after", b"%d" % _UNAVAILABLE_RETRY_S)]
    if isinstance(error, MethodNotAllowed):
        return [(b"allow", error.allowed.encode())]
    if isinstance(error, Unauthenticated):
        return [(b"www-authenticate", b"Bearer")]
    if isinstance(error, MediaNotTaken):
        return [(b"accept-encoding", b"gzip, deflate")]
    return []


def body_of(text: str) -> bytes:
    """``{"error": text}``."""
    return msgspec.json.encode({"error": text})
