"""What the service manager (systemd) is told, and when: ready, reloading, stopping, alive.

READY once requests are taken and not before; more time while a model is prepared, workers warm up,
a change is under way or requests are drained; a sign of life only while every frontend answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from corral.ipc.messages import Ping
from corral.ipc.status import Phase, ServerStatus, StatusBoard
from corral.settings import Settings
from corral.supervisor import frontend_link
from corral.supervisor.slots import FrontendSlot
from corral.system.addresses import format_address
from corral.system.sd_notify import ServiceSocket, monotonic_us, service_socket, watchdog_s

#: how often more time is asked for, and how much
_EXTEND_EVERY_S = 5.0
_EXTEND_BY_S = 30.0
#: looks for answers of the frontends within the time that the service manager gives
_LOOKS = 4
#: for children to leave, after all requests are answered
_LEAVE_S = 5.0


class ServiceManager:
    """Tells the service manager what the server does; without one, nothing happens.

    Args:
        environ: the process's environment, with ``NOTIFY_SOCKET`` and ``WATCHDOG_USEC``.
        pid: of this process.
    """

    def __init__(self, environ: Mapping[str, str], pid: int) -> None:
        self._socket = service_socket(environ)
        self._watchdog_s = watchdog_s(environ, pid)
        self._said = ""
        self._phase: Phase | None = None
        self._ready = False
        self._reloading = False
        self._over = False

    # --- before there is a loop ---

    @contextlib.contextmanager
    def preparing(self, model: str) -> Iterator[None]:
        """Asks for more time while the body runs, which may be minutes."""
        if self._socket is None:
            yield
            return
        tell, over = self._socket, threading.Event()
        tell.send(STATUS=f"preparing {model}")

        def extend() -> None:
            _extend(tell, _EXTEND_BY_S)
            while not over.wait(_EXTEND_EVERY_S):
                _extend(tell, _EXTEND_BY_S)

        thread = threading.Thread(target=extend, name="extend", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def failed(self, reason: str) -> None:
        """Says in ``systemctl status`` why the server ends."""
        if self._socket is not None:
            self._socket.send(STATUS=reason.replace("\n", " "))

    # --- while the loop runs ---

    @contextlib.contextmanager
    def watching(
        self,
        board: StatusBoard,
        frontends: Sequence[FrontendSlot],
        settings: Callable[[], Settings],
    ) -> Iterator[None]:
        """Tells all that happens while the body runs, in the running loop.

        Args:
            board: what the server does.
            frontends: their slots: each is asked for a sign of life.
            settings: those that hold now.
        """
        if self._socket is None:
            yield
            return
        tell, loop = self._socket, asyncio.get_running_loop()
        timers: dict[str, asyncio.TimerHandle] = {}

        def extend() -> None:
            if self._phase is Phase.STARTING or self._reloading:
                _extend(tell, _EXTEND_BY_S)
            timers["extend"] = loop.call_later(_EXTEND_EVERY_S, extend)

        def look(watchdog: Watchdog, every_s: float) -> None:
            if watchdog.alive():
                tell.send(WATCHDOG=1)
            timers["watchdog"] = loop.call_later(every_s, look, watchdog, every_s)

        def news(status: ServerStatus, change: str | None) -> None:
            self._show(tell, status, change, settings())

        board.subscribe(news)
        news(board.current(), None)
        extend()
        if self._watchdog_s is not None:
            look(Watchdog(frontends), self._watchdog_s / _LOOKS)
        try:
            yield
        finally:
            for timer in timers.values():
                timer.cancel()
            self._over = True

    def _show(
        self, tell: ServiceSocket, status: ServerStatus, change: str | None, settings: Settings
    ) -> None:
        if self._over:
            return
        words: dict[str, str | int] = {}
        if (sentence := state_line(status, change)) != self._said:
            words["STATUS"] = self._said = sentence
        if status.phase is not self._phase:
            self._phase = status.phase
            if status.phase in {Phase.DRAINING, Phase.STOPPED}:
                words["STOPPING"] = 1
            if status.phase is Phase.DRAINING:
                lifecycle = settings.lifecycle
                _extend(tell, lifecycle.drain_delay_s + lifecycle.grace_s + _LEAVE_S)
        if change and not self._reloading and self._phase is Phase.SERVING:
            words |= {"RELOADING": 1, "MONOTONIC_USEC": monotonic_us()}
        if self._phase is Phase.SERVING and not change and (not self._ready or self._reloading):
            words["READY"] = 1
            self._ready = True
        self._reloading = bool(change)
        if words and not tell.send(**words):
            # What it did not get is said with the next news, which a frontend's answer is, too.
            self._said, self._ready = "", self._ready and "READY" not in words


class Watchdog:
    """Whether every frontend answers: each is sent a number, and has to send it back.

    Args:
        frontends: their slots.
    """

    def __init__(self, frontends: Sequence[FrontendSlot]) -> None:
        self._frontends = frontends
        self._number = 0
        #: pids of the processes that were asked
        self._asked: dict[int, int | None] = {}

    def alive(self) -> bool:
        """Whether all have answered since the last look; those that have are asked again.

        True at the first look, for nobody was asked before.
        """
        late = [slot for slot in self._frontends if self._is_late(slot)]
        if not late:
            self._number += 1
        for slot in late or self._frontends:
            pid = slot.process.pid if slot.process else None
            # One that does not answer is not asked again, but another process in its slot is.
            if not late or self._asked.get(slot.cell) != pid:
                frontend_link.tell(slot, Ping(number=self._number))
                self._asked[slot.cell] = pid
        return not late

    def _is_late(self, slot: FrontendSlot) -> bool:
        return self._number > 0 and slot.answered != self._number


def state_line(status: ServerStatus, change: str | None) -> str:
    """What the server does, for ``systemctl status``."""
    serving = sum(worker.state == "verified" for worker in status.workers)
    line = f"{status.phase} {status.model}, {status.mode}, {status.backend} {status.precision}"
    line += f"; {serving} of {len(status.workers)} workers serve"
    if status.phase is Phase.SERVING:
        line += "" if status.ready else "; NOT READY"
        line += f"; gRPC on {format_address(status.host, status.port)}"
    return f"{line}; under way: {change}" if change else line


def _extend(tell: ServiceSocket, by_s: float) -> None:
    # The service manager's number ends where its clock does.
    tell.send(EXTEND_TIMEOUT_USEC=min(int(by_s * 1e6), 2**62))
