"""The one error tree. It knows nothing of gRPC: frontend.py maps the kinds to status codes.

    CorralError
    ├── ConfigError          a setting is wrong or cannot be had       exit code 2
    │   └── PictureError     a user's own picture cannot be read
    ├── ModelError           model, weights or artefact unusable        exit code 2
    │   ├── PassingError     for a reason that may pass: worth another try
    │   └── ValuesRefused    an engine takes these values not, and others perhaps
    ├── StartError           children did not become ready              exit code 1
    └── RequestError         a request is answered with this
        ├── InvalidRequest   INVALID_ARGUMENT
        ├── NotFound         NOT_FOUND
        ├── AlreadyExists    ALREADY_EXISTS
        ├── Unauthenticated  UNAUTHENTICATED
        ├── PermissionDenied PERMISSION_DENIED
        ├── TooLarge         RESOURCE_EXHAUSTED, and not worth another try
        ├── QueueFull        RESOURCE_EXHAUSTED, with a retry hint
        ├── DeadlineMissed   DEADLINE_EXCEEDED
        ├── Unavailable      UNAVAILABLE
        ├── Unsupported      UNIMPLEMENTED
        └── InferenceFailed  INTERNAL

The text of a RequestError is written for the client and goes to the client. No other
exception's text does, but for what an engine says of a request's values, see backends/thrown.py.
"""

from __future__ import annotations

import re
from typing import ClassVar

#: how OpenVINO's exceptions begin
_PLACES = ("Exception from ", "Check '")


class CorralError(Exception):
    """Base of everything corral raises on purpose; its text is one line for a person."""

    exit_code = 1


class ConfigError(CorralError):
    """A setting is wrong, or what it asks for cannot be had on this machine."""

    exit_code = 2


class PictureError(ConfigError):
    """A user's own picture cannot be read; no candidate of a search is to blame for it."""


class ModelError(CorralError):
    """The model, its weights or its artefact cannot be used."""

    exit_code = 2


class PassingError(ModelError):
    """It failed for a reason that may pass (memory, disk, a kill, no compiler): not remembered."""


class ValuesRefused(ModelError):
    """The engine does not take these values (a zero to divide by); the text is its reason."""


class StartError(CorralError):
    """The children did not become ready."""

    exit_code = 1


class RequestError(CorralError):
    """A request is answered with this error; the text is meant for the client."""

    #: which of counters.FAILURES it is counted under
    outcome: ClassVar[str] = "failed"
    #: the signature that the request named, where it was read that far: it is counted under that
    view = "tensor"


class InvalidRequest(RequestError):
    """The request can never be answered as it is."""

    outcome = "invalid"


class NotFound(RequestError):
    """No such model, version or service."""

    outcome = "invalid"


class AlreadyExists(RequestError):
    """There is something of that name."""

    outcome = "invalid"


class Unauthenticated(RequestError):
    """No credentials, or none that are valid."""

    outcome = "invalid"


class PermissionDenied(RequestError):
    """The client is known, and not allowed."""

    outcome = "invalid"


class TooLarge(RequestError):
    """The message is larger than the server takes; it would be the next time, too."""

    outcome = "invalid"


class Unsupported(RequestError):
    """The protocol has it, this server does not."""

    outcome = "invalid"


class QueueFull(RequestError):
    """Refused at the door; worth another try after ``retry_after_ms``."""

    outcome = "refused"

    def __init__(self, message: str, retry_after_ms: int) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class DeadlineMissed(RequestError):
    """The deadline has passed, or not even an idle worker could meet it."""

    outcome = "expired"


class Unavailable(RequestError):
    """The server is starting or stopping."""

    outcome = "unavailable"


class InferenceFailed(RequestError):
    """The engine failed on this request, twice."""

    outcome = "failed"


def one_line(error: Exception) -> str:
    """An error's text for a terminal or log: what a user gave may hold line ends and worse."""
    return printable(str(error))


def os_reason(error: OSError) -> str:
    """The kernel's word in the middle of a sentence: its first letter small, but for a name's."""
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def without_secrets(address: str) -> str:
    """An address, or what is none, as it may stand in a log: no user, no password, no query."""
    return re.sub(r"//[^/?#]*@", "//", re.split("[?#]", address, maxsplit=1)[0])


def printable(text: str) -> str:
    """Text of a file or of its name, for a terminal, a page or JSON, in one line.

    What would move a terminal's cursor, or cannot be written as UTF-8, is escaped.
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def telling_line(error: Exception) -> str:
    """What an engine's exception of many lines says, in one for a person.

    Most begin with it. OpenVINO begins with the places in its source, and ends with what is wrong.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[-1].lstrip("- ") if lines[0].startswith(_PLACES) else lines[0]
