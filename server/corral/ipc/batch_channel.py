"""The feeding end of a worker's data socket: one batch at a time, every answer checked.

A fixed message over SOCK_SEQPACKET says what lies in the worker's region, and another how it
ended. A worker that answers anything else is no worker any more. Frontends and trials use it.
"""

from __future__ import annotations

import socket

import msgspec

from corral.ipc.packets import BATCH, MOST_REASON_BYTES, RESULT, ResultStatus
from corral.tensors import Datatype

_STATUSES = {status.value: status for status in ResultStatus}


class Nonsense(EOFError):
    """The worker answered what it was not asked, or in no known form; the text says what."""


class Result(msgspec.Struct, frozen=True):
    """How a batch ended.

    Attributes:
        number: the batch's.
        status: whether it worked.
        engine_s: seconds that the engine took.
        started_s: when it began, on the monotonic clock; the worker's word.
        reason: of REFUSED, what the engine says of the values, in one line.
    """

    number: int
    status: ResultStatus
    engine_s: float
    started_s: float
    reason: str = ""


def _line(text: bytes) -> str:
    """One line, whatever the worker wrote: it goes to a client."""
    return "".join(c if c.isprintable() else " " for c in text.decode(errors="replace"))


class BatchChannel:
    """Sends batches to one worker and receives their results; never blocks.

    Args:
        sock: the data socket; taken over, and set to non-blocking.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._socket.setblocking(False)
        #: the number that the next result must have; None while none is due
        self._awaited: int | None = None

    def fileno(self) -> int:
        """The data socket: readable when a result is there, or the worker is gone."""
        return self._socket.fileno()

    def send(self, number: int, datatype: Datatype, count: int) -> bool:
        """Hands over the batch that lies in the region.

        Args:
            number: of the batch, which its result must have; 0 or more.
            datatype: of its items.
            count: number of its items.

        Returns:
            False when it did not reach the worker, which has died: a batch that did not arrive
            cannot have killed it.
        """
        self._awaited = number
        try:
            self._socket.send(BATCH.pack(number, datatype, count), socket.MSG_NOSIGNAL)
        except OSError:
            return False
        return True

    def receive(self) -> Result | None:
        """The result of the batch that was sent; None when there is nothing to read yet.

        Raises:
            EOFError: the worker is gone.
            Nonsense: it answered something else.
        """
        try:
            message = self._socket.recv(RESULT.size + MOST_REASON_BYTES + 1)
        except BlockingIOError:
            return None
        except OSError:
            raise EOFError from None
        if not message:
            raise EOFError
        if len(message) < RESULT.size:
            raise Nonsense(f"a message of {len(message)} bytes")
        number, code, duration_ns, started_ns = RESULT.unpack_from(message)
        status = _STATUSES.get(code)
        room = MOST_REASON_BYTES if status is ResultStatus.REFUSED else 0
        if len(message) > RESULT.size + room:
            raise Nonsense(f"a message of {len(message)} bytes or more")
        if status is None or number != self._awaited:
            raise Nonsense(f"batch {number}, status {code}")
        self._awaited = None
        reason = _line(message[RESULT.size :]) if room else ""
        return Result(number, status, duration_ns / 1e9, started_ns / 1e9, reason)

    def close(self) -> None:
        """Closes the socket, which ends the worker."""
        self._socket.close()
