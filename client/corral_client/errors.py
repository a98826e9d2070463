"""The client's error tree, and the one place where gRPC's statuses are mapped to it.

    CorralClientError
    ├── InvalidArgument    the request can never be answered as it is
    ├── NotFound           no such model, version or method
    ├── Overloaded         the queue was full; carries when to try again
    ├── Unauthenticated    credentials are missing or not valid
    ├── PermissionDenied   the server knows who this is, and does not allow it
    ├── DeadlineExceeded   no answer in time
    ├── Unavailable        the server cannot be reached, is starting or stopping
    └── InternalError      the server failed, or its answer cannot be read

The text is the server's own sentence where it sent one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

#: the trailing metadata in which a server says when to try again (gRPC's own name for it)
PUSHBACK_KEY = "grpc-retry-pushback-ms"
#: what gRPC itself says of a message above the server's limit, under RESOURCE_EXHAUSTED
_TOO_LARGE_TO_GRPC = "message larger than max"
#: what corral's own sentence about such a message contains
_TOO_LARGE = "larger than the limit"
#: what gRPC itself says when a deadline passes
_BARE_DEADLINE = "Deadline Exceeded"


class CorralClientError(Exception):
    """Base of everything the client raises on purpose; its text is for a person.

    Attributes:
        status: the name of the gRPC status behind it, "UNAVAILABLE".
    """

    status: str = "UNKNOWN"


class InvalidArgument(CorralClientError):
    """The request can never be answered as it is; sending it again does not help."""

    status = "INVALID_ARGUMENT"


class NotFound(CorralClientError):
    """The server has no such model, version or method."""

    status = "NOT_FOUND"


class Overloaded(CorralClientError):
    """The server's queue was full.

    Attributes:
        retry_after_ms: when the server suggests another try; None when it does not say.
        may_retry: False when the server asks for no other try.
    """

    status = "RESOURCE_EXHAUSTED"

    def __init__(
        self, message: str, retry_after_ms: int | None = None, *, may_retry: bool = True
    ) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms
        self.may_retry = may_retry


class Unauthenticated(CorralClientError):
    """The server wants a token or a certificate, and another than it got."""

    status = "UNAUTHENTICATED"


class PermissionDenied(CorralClientError):
    """The server knows who this is, and does not allow it."""

    status = "PERMISSION_DENIED"


class DeadlineExceeded(CorralClientError):
    """No answer before the deadline, or the server saw that it could not meet it."""

    status = "DEADLINE_EXCEEDED"


class Unavailable(CorralClientError):
    """The server cannot be reached, or is starting or stopping; retries did not help."""

    status = "UNAVAILABLE"


class InternalError(CorralClientError):
    """The server failed on this request, or its answer cannot be read."""

    status = "INTERNAL"


_KINDS: dict[str, type[CorralClientError]] = {
    "INVALID_ARGUMENT": InvalidArgument,
    "OUT_OF_RANGE": InvalidArgument,
    "FAILED_PRECONDITION": InvalidArgument,
    "NOT_FOUND": NotFound,
    "UNIMPLEMENTED": NotFound,
    "RESOURCE_EXHAUSTED": Overloaded,
    "UNAUTHENTICATED": Unauthenticated,
    "PERMISSION_DENIED": PermissionDenied,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "UNAVAILABLE": Unavailable,
    "INTERNAL": InternalError,
    "UNKNOWN": InternalError,
    "DATA_LOSS": InternalError,
}


def from_status(
    status: str,
    message: str,
    trailing: Iterable[tuple[str, str | bytes]] = (),
    deadline_s: float | None = None,
) -> CorralClientError:
    """The error for a gRPC status; to be raised by the caller.

    Args:
        status: the status code's name, "RESOURCE_EXHAUSTED".
        message: what came with it.
        trailing: the trailing metadata.
        deadline_s: the deadline of the call, to say more than gRPC does when it passed.
    """
    kind = _KINDS.get(status, CorralClientError)
    text = message or f"the server answered {status} and nothing more"
    if kind is Overloaded:
        # Waiting does not make a message smaller.
        if _TOO_LARGE_TO_GRPC in message:
            return _marked(InvalidArgument(f"the request is too large: {message}"), status)
        if _TOO_LARGE in message:
            return _marked(InvalidArgument(message), status)
        hint_ms = _pushback_ms(trailing)
        # In gRPC a hint that is negative or no number means: do not try again.
        may_retry = hint_ms is None or hint_ms >= 0
        return Overloaded(text, hint_ms if may_retry else None, may_retry=may_retry)
    if kind is DeadlineExceeded and message in {"", _BARE_DEADLINE} and deadline_s is not None:
        text = f"no answer within {deadline_s:g} s"
    if status == "UNIMPLEMENTED":
        text = f"the server does not know this call of the Open Inference Protocol: {text}"
    return _marked(kind(text), status)


def from_rpc_error(error: Any, deadline_s: float | None = None) -> CorralClientError:
    """The error for a ``grpc.RpcError`` of either of gRPC's Python interfaces."""
    return from_status(
        error.code().name,
        error.details() or "",
        tuple(error.trailing_metadata() or ()),
        deadline_s,
    )


def _marked(error: CorralClientError, status: str) -> CorralClientError:
    error.status = status
    return error


def _pushback_ms(trailing: Iterable[tuple[str, str | bytes]]) -> int | None:
    for key, value in trailing:
        if key == PUSHBACK_KEY:
            try:
                return int(value)
            except ValueError:
                return -1
    return None
