"""The error tree as statuses of gRPC: the one place that maps them."""

from __future__ import annotations

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
from corral.frontend.grpc_asgi.status import Code, GrpcError

_CODES: dict[type[RequestError], Code] = {
    InvalidRequest: Code.INVALID_ARGUMENT,
    NotFound: Code.NOT_FOUND,
    AlreadyExists: Code.ALREADY_EXISTS,
    Unauthenticated: Code.UNAUTHENTICATED,
    PermissionDenied: Code.PERMISSION_DENIED,
    TooLarge: Code.RESOURCE_EXHAUSTED,
    QueueFull: Code.RESOURCE_EXHAUSTED,
    DeadlineMissed: Code.DEADLINE_EXCEEDED,
    Unavailable: Code.UNAVAILABLE,
    Unsupported: Code.UNIMPLEMENTED,
    InferenceFailed: Code.INTERNAL,
}
_PUSHBACK = b"grpc-retry-pushback-ms"
#: tells a client that retries by itself not to
_NEVER_AGAIN = ((_PUSHBACK, b"-1"),)


def to_status(error: Exception) -> GrpcError | None:
    """The status that answers a call that ended with this error; None for any other exception."""
    if not isinstance(error, RequestError):
        return None
    code = _CODES[type(error)]
    if isinstance(error, QueueFull):
        return GrpcError(code, str(error), ((_PUSHBACK, b"%d" % error.retry_after_ms),))
    return GrpcError(code, str(error), _NEVER_AGAIN if isinstance(error, TooLarge) else ())
