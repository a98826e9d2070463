"""The frontend's end of the supervisor: workers come and go, settings change, the end is told."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import Callable

import msgspec

from corral.dataplane.dispatcher import Dispatcher
from corral.ipc import channel
from corral.ipc.messages import (
    AttachWorker,
    CapBatches,
    DetachWorker,
    Drain,
    FrontendFailed,
    Open,
    Ping,
    Pong,
    Reconfigure,
    StartTrace,
    StopTrace,
    TellView,
    to_frontend_decoder,
)
from corral.system.limits import start_refusal

logger = logging.getLogger(__name__)


class SupervisorLink:
    """Reads what the supervisor says, and acts on it.

    Args:
        control_fd: the socket's descriptor; taken over.
        cell: the frontend's.
        on_open: every cell has a verified worker.
        on_worker: called with what a worker was attached with.
        on_settings: other settings hold from now on.
        on_drain: not ready from now on, and nothing new is taken after so many seconds.
        on_trace: requests' phases are noted in the memory that came along; None: no more.
        on_view: how the server is, for the console, lies in the memory that came along.
    """

    def __init__(
        self,
        control_fd: int,
        cell: int,
        *,
        on_open: Callable[[], None],
        on_worker: Callable[[AttachWorker], None],
        on_settings: Callable[[Reconfigure], None],
        on_drain: Callable[[float], None],
        on_trace: Callable[[StartTrace | None, list[int]], None],
        on_view: Callable[[TellView, list[int]], None],
    ) -> None:
        self._socket = socket.socket(fileno=control_fd)
        self._socket.setblocking(False)
        self._loop = asyncio.get_running_loop()
        #: done when the supervisor has closed the socket
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._dispatcher: Dispatcher | None = None
        self._cell = cell
        self._opened = False
        self._on_open = on_open
        self._on_worker = on_worker
        self._on_settings = on_settings
        self._on_drain = on_drain
        self._on_trace = on_trace
        self._on_view = on_view

    def start(self, dispatcher: Dispatcher) -> None:
        """Listens from now on; workers are the dispatcher's."""
        self._dispatcher = dispatcher
        self._loop.add_reader(self._socket, self._on_readable)

    def say(self, message: msgspec.Struct) -> None:
        """Tells the supervisor."""
        try:
            channel.send(self._socket, message)
        except channel.Closed:
            self._end()

    def _on_readable(self) -> None:
        try:
            message, fds = channel.receive(self._socket, to_frontend_decoder)
        except BlockingIOError:
            return
        except channel.Closed:
            self._end()
            return
        assert self._dispatcher
        if isinstance(message, AttachWorker):
            self._attach(self._dispatcher, message, fds)
        elif isinstance(message, DetachWorker):
            self._dispatcher.detach(message.worker)
        elif isinstance(message, Reconfigure):
            self._on_settings(message)
        elif isinstance(message, CapBatches):
            self._dispatcher.cap_batches(message.most)
        elif isinstance(message, Open):
            self._opened = True
            self._on_open()
        elif isinstance(message, Drain):
            self._on_drain(message.delay_s)
        elif isinstance(message, Ping):
            self.say(Pong(number=message.number))
        elif isinstance(message, StartTrace):
            self._start_trace(message, fds)
        elif isinstance(message, StopTrace):
            self._on_trace(None, [])
        elif isinstance(message, TellView):
            self._on_view(message, fds)

    def _start_trace(self, message: StartTrace, fds: list[int]) -> None:
        try:
            self._on_trace(message, fds)
        except (OSError, ValueError, IndexError) as error:
            # Without descriptors to spare the memory does not arrive: there is no trace then.
            logger.error("no trace: %s", error)  # noqa: TRY400

    def _attach(self, dispatcher: Dispatcher, message: AttachWorker, fds: list[int]) -> None:
        try:
            dispatcher.attach(message, fds)
        except (OSError, ValueError) as error:
            # Without descriptors to spare some or all of its own do not arrive. It notices that
            # nobody has the other end of its socket, leaves, and is started again.
            for fd in fds:
                with contextlib.suppress(OSError):
                    os.close(fd)
            self._cannot_take(message.worker, error)
            return
        self._on_worker(message)

    def _cannot_take(self, worker: int, error: OSError | ValueError) -> None:
        """Before the server has opened it is its end: the next worker would meet the same limit."""
        # What did not arrive is of no use as a reason: no room for it is.
        refused = (
            error if isinstance(error, OSError) else OSError(errno.EMFILE, "no descriptors left")
        )
        text = f"worker {worker} cannot be taken on: {start_refusal(refused)}"
        if self._opened:
            logger.error("%s", text)
        else:
            self.say(FrontendFailed(cell=self._cell, message=text))

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
