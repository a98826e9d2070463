"""A frontend's reports on their way to the supervisor: gathered, sent in packets, never awaited."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

from corral.telemetry import report
from corral.telemetry.report import RequestReport

#: the first report of a packet waits that long for others
_GATHER_S = 0.1
#: reports that wait for the supervisor to read; what comes beyond is dropped
_MOST_WAITING = 8192


class Outbox:
    """Use it from one event loop.

    Args:
        fd: the frontends' end of the socket; taken over.
        dropped: told of each report that finds no room.
    """

    def __init__(self, fd: int, dropped: Callable[[RequestReport], None]) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(False)
        self._dropped = dropped
        self._waiting: list[RequestReport] = []
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def put(self, told: RequestReport) -> None:
        """Sends a report soon."""
        if len(self._waiting) >= _MOST_WAITING:
            self._dropped(told)
            return
        self._waiting.append(told)
        if self._timer is None:
            self._timer = self._loop.call_later(_GATHER_S, self._on_timer)
        elif len(self._waiting) == report.PACKET_REQUESTS:
            # At the loop's next turn, not in the midst of a request's end.
            self._timer.cancel()
            self._timer = self._loop.call_later(0, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.flush()
        if self._waiting:
            self._timer = self._loop.call_later(_GATHER_S, self._on_timer)

    def flush(self) -> None:
        """Sends what there is, as far as the socket has room."""
        waiting = self._waiting
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < len(waiting):
                packet = waiting[sent : sent + report.PACKET_REQUESTS]
                try:
                    self._socket.send(report.encode(packet), socket.MSG_NOSIGNAL)
                except BlockingIOError:
                    raise
                except OSError:
                    # Nobody is there to read it.
                    for told in packet:
                        self._dropped(told)
                sent += len(packet)
        del waiting[:sent]
