"""gRPC's status codes, and how a status travels: as HTTP/2 fields."""

from __future__ import annotations

import enum
import functools
from collections.abc import Sequence

Fields = list[tuple[bytes, bytes]]

#: what a grpc-message holds as it is; everything else is percent-encoded
_PLAIN = frozenset(range(0x20, 0x7F)) - {ord("%")}
#: a status is a sentence, not a page: clients bound the fields that they take
_MAX_MESSAGE_BYTES = 4096


class Code(enum.IntEnum):
    """The status codes of gRPC."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class GrpcError(Exception):
    """A call ends with this status.

    Args:
        code: the status; never OK.
        message: a sentence for the client.
        trailers: further fields, names in lower case.
    """

    def __init__(
        self, code: Code, message: str, trailers: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.trailers = trailers


class MessageTooLarge(GrpcError):
    """A message is larger than its receiver takes; it would be the next time, too."""

    def __init__(self, message: str) -> None:
        # A client that retries what was refused would send it again for nothing.
        super().__init__(Code.RESOURCE_EXHAUSTED, message, ((b"grpc-retry-pushback-ms", b"-1"),))


class ClientGone(Exception):
    """The client has closed the stream: nobody is there to be answered."""


@functools.lru_cache(maxsize=256)
def percent_encoded(text: str) -> bytes:
    """A sentence as the field ``grpc-message`` carries it: printable ASCII."""
    encoded = text.encode("utf-8", "replace")[:_MAX_MESSAGE_BYTES]
    return b"".join(bytes((byte,)) if byte in _PLAIN else b"%%%02X" % byte for byte in encoded)


def status_fields(error: GrpcError) -> Fields:
    """The fields that end a call with an error."""
    return [
        (b"grpc-status", b"%d" % error.code),
        (b"grpc-message", percent_encoded(error.message)),
        *error.trailers,
    ]
