"""Has CPUs kept from halting while the server serves, and knows what that costs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Mapping

import msgspec

from corral.ipc.status import Phase, ServerStatus, SpinStatus, State, StatusBoard
from corral.launch import spinning
from corral.launch.spawn import Process, describe_end
from corral.launch.spinning import SpinnerBoot
from corral.supervisor.lifecycle import Backoff
from corral.supervisor.supervisor import Supervisor
from corral.system import procfs

logger = logging.getLogger(__name__)

#: for those that were killed: at once, but on a CPU that others want
_LEAVE_S = 0.5
_RETRY = Backoff(first_s=5.0, max_s=300.0)


class Spinners:
    """Starts and ends the processes that spin, as snapshots come; on the running loop.

    They stand still while a worker starts: what it measures of its batches is to be its own.

    Args:
        board: whose snapshots they go by, and whose status gets what they cost.
        boot: what they are to be told now; None: nothing is to be spun on.
        environ: the supervisor's environment.
    """

    def __init__(
        self,
        board: StatusBoard,
        boot: Callable[[], SpinnerBoot | None],
        environ: Mapping[str, str],
    ) -> None:
        self._boot = boot
        self._environ = environ
        self._loop = asyncio.get_running_loop()
        self._process: Process | None = None
        self._told: SpinnerBoot | None = None
        self._is_still = False
        #: those that were told to end, until they have
        self._leaving: dict[Process, asyncio.TimerHandle] = {}
        self._ends = 0
        self._began_s = 0.0
        self._retry: asyncio.TimerHandle | None = None
        #: CPU time of those that have ended, and of those that run when it was last read
        self._past_s, self._seen_s = 0.0, 0.0
        self._is_over = False
        board.complete_with(self.complete)
        board.subscribe(lambda status, _: self.follow(status))

    def follow(self, status: ServerStatus) -> None:
        """Goes by another snapshot."""
        wanted = self._boot() if status.phase is Phase.SERVING and not self._is_over else None
        if self._told is not None and wanted != self._told:
            self._end()
        if wanted is not None and self._told is None:
            self._start(wanted)
        if self._process is not None:
            self._stand_still(_is_starting(status))

    def _start(self, boot: SpinnerBoot) -> None:
        self._told = boot
        try:
            process = spinning.start_spinners(boot, self._environ)
        except OSError as error:
            logger.warning("--keep-warm on: no CPU is kept from halting: %s", error.strerror)
            self._again(boot)
            return
        self._process, self._is_still = process, False
        self._began_s = self._loop.time()
        self._loop.add_reader(process.pidfd, self._on_end, process)
        self._loop.add_reader(process.stderr_fd, self._on_stderr, process)

    def _on_stderr(self, process: Process) -> None:
        if not process.forward_stderr():
            self._loop.remove_reader(process.stderr_fd)

    def _on_end(self, process: Process) -> None:
        """One has ended: it was told to, or a scheduling class is refused, or a CPU is gone."""
        told = self._told if process is self._process else None
        if told is not None:
            self._forget()  # before it is reaped: its time goes with it
        end = describe_end(self._reap(process))
        if told is not None:
            self._ends = ends_in_a_row(self._ends, self._loop.time() - self._began_s)
            logger.warning("--keep-warm on: CPUs halt again: one of what spins ended (%s)", end)
            self._again(told)

    def _again(self, boot: SpinnerBoot) -> None:
        self._told = boot
        self._ends += 1
        self._retry = self._loop.call_later(_RETRY.delay_s(self._ends), self._start, boot)

    def _end(self) -> None:
        """Ends what spins; its parent, which reaps it, ends with it."""
        self._told = None
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        process = self._process
        if process is not None:
            self._forget()
            with contextlib.suppress(ProcessLookupError):
                for pid in procfs.children(process.pid):
                    os.kill(pid, signal.SIGKILL)
                os.killpg(process.pid, signal.SIGCONT)
            self._leaving[process] = self._loop.call_later(_LEAVE_S, process.signal, signal.SIGKILL)

    def _forget(self) -> None:
        self._past_s, self._seen_s = self._cpu_s(), 0.0
        self._process = None

    def _reap(self, process: Process) -> int:
        """Closes what is left of one that has ended; returns its code."""
        if (timer := self._leaving.pop(process, None)) is not None:
            timer.cancel()
        self._loop.remove_reader(process.pidfd)
        self._loop.remove_reader(process.stderr_fd)
        return process.reap()

    def _stand_still(self, still: bool) -> None:
        if still is not self._is_still and self._process is not None:
            self._is_still = still
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGSTOP if still else signal.SIGCONT)

    def _cpu_s(self) -> float:
        """That all have taken; any thread may ask."""
        process = self._process
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._seen_s = max(self._seen_s, procfs.tree_cpu_seconds(process.pid))
        return self._past_s + self._seen_s

    def complete(self, status: ServerStatus) -> ServerStatus:
        """The same status, with what spinning costs; any thread may ask."""
        boot, process = self._boot(), self._process
        if boot is None:
            return status
        spin = SpinStatus(
            cpus=[place.cpu for place in boot.places],
            while_s=boot.while_s,
            pid=None if process is None else process.pid,
            cpu_s=round(self._cpu_s(), 2),
        )
        return msgspec.structs.replace(status, spin=spin)

    def stop(self) -> None:
        """Ends them for good, and waits for that, for a moment."""
        self._is_over = True
        self._end()
        deadline_s = time.monotonic() + _LEAVE_S
        for process in list(self._leaving):
            select.select([process.pidfd], [], [], max(0.0, deadline_s - time.monotonic()))
            process.signal(signal.SIGKILL)
            self._reap(process)


def ends_in_a_row(ends: int, ran_s: float) -> int:
    """How many came before this one: none, where it ran for longer than the longest pause.

    Args:
        ends: in a row, before it.
        ran_s: how long it ran.
    """
    return 0 if ran_s > _RETRY.max_s else ends


def _is_starting(status: ServerStatus) -> bool:
    return any(worker.state is State.STARTING for worker in status.workers)


@contextlib.contextmanager
def spinning_while(supervisor: Supervisor, environ: Mapping[str, str]) -> Iterator[None]:
    """Spinners of a server until it is left; see the class."""
    spinners = Spinners(supervisor.board, lambda: supervisor.deployment.spinner, environ)
    try:
        yield
    finally:
        spinners.stop()
