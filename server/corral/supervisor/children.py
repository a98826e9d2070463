"""All children: started, listened to, handed to one another, reaped, started again.

The fleet acts on what children do; its watcher says what that means for the whole server.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Sequence

import msgspec

from corral.ipc import channel, messages
from corral.ipc.status import Cause
from corral.launch.factory import ChildFactory
from corral.launch.spawn import Process, describe_end
from corral.metrics.counters import Pages
from corral.planning.plan import PlannedWorker
from corral.supervisor import frontend_link, tracing
from corral.supervisor.slots import AnySlot, FrontendSlot, WorkerSlot
from corral.supervisor.watcher import Watcher
from corral.system.limits import start_refusal

logger = logging.getLogger(__name__)

#: how long a worker whose data socket ended may take to leave by itself
_LEAVE_S = 1.0


class Fleet:
    """The children of one server.

    Args:
        factory: makes frontends; workers' slots name their own.
        pages: the counters, whose gauges a dead frontend leaves behind.
        frontends: the frontend slots, by cell.
        workers: the worker slots, any order.
        boot_timeout_s: a process that is not ready by then is killed.
        watcher: is told.
    """

    def __init__(
        self,
        factory: ChildFactory,
        pages: Pages,
        frontends: Sequence[FrontendSlot],
        workers: Sequence[WorkerSlot],
        *,
        boot_timeout_s: float,
        watcher: Watcher,
    ) -> None:
        self._factory = factory
        self._pages = pages
        self.frontends = frontends
        self.workers = list(workers)
        self._boot_timeout_s = boot_timeout_s
        self._watcher = watcher
        self.tracer = tracing.Tracer(frontends)
        self.on_ask_view: Callable[[FrontendSlot, messages.AskView], None]
        self._workers_by_id = {slot.planned.id: slot for slot in workers}
        self._loop = asyncio.get_running_loop()
        self._gone = asyncio.Event()
        self._gone.set()

    @property
    def slots(self) -> list[AnySlot]:
        """Frontends first."""
        return [*self.frontends, *self.workers]

    # --- starting ---

    def start(self, slot: AnySlot) -> None:
        """Fills a slot with a new process, or says why not and tries again later."""
        slot.timer = None
        if not self._watcher.may_restart(slot):
            return
        slot.life.started(self._loop.time())
        try:
            process = self._spawn(slot)
        except OSError as error:
            slot.end_reason = f"{slot.name} could not be started: {start_refusal(error)}"
            self._watcher.not_started(slot, error)
            self._fill_again(slot, in_order=False)
            return
        slot.process = process
        slot.ended_for = None
        slot.timer = self._loop.call_later(self._boot_timeout_s, self._on_boot_timeout, slot)
        self._gone.clear()
        self._loop.add_reader(process.control.fileno(), self._on_message, slot, process)
        self._loop.add_reader(process.stderr_fd, self._on_stderr, process)
        self._loop.add_reader(process.pidfd, self._on_end, slot, process)
        logger.debug("%s started, pid %d", slot.name, process.pid)
        self._watcher.changed()

    def _spawn(self, slot: AnySlot) -> Process:
        if isinstance(slot, FrontendSlot):
            return self._factory.start_frontend(slot.cell, slot.planned)
        slot.handover = slot.factory.start_worker(slot.cell, slot.planned)
        return slot.handover.process

    def _on_boot_timeout(self, slot: AnySlot) -> None:
        """A child hangs before it is ready. While the server starts, that is its end, too."""
        slot.timer = None
        self._kill(slot, Cause.BOOT, f"is not ready after {self._boot_timeout_s:g} s")

    def _is_ready(self, slot: AnySlot) -> None:
        slot.stop_timer()
        slot.life.ready(self._loop.time())

    def _fill_again(self, slot: AnySlot, *, in_order: bool) -> None:
        if isinstance(slot, WorkerSlot) and slot.leaving:
            self._has_left(slot)
            return
        delay_s = slot.life.died(in_order=in_order, cause=slot.ended_for)
        again = self._watcher.may_restart(slot)
        if again:
            slot.timer = self._loop.call_later(delay_s, self.start, slot)
        else:
            slot.life.end()
        level = logging.DEBUG if not again else logging.INFO if in_order else logging.WARNING
        when = f"in {delay_s:g} s" if delay_s else "at once"
        logger.log(level, "%s%s", slot.end_reason, f"; starting another {when}" if again else "")
        self._watcher.changed()

    # --- replacing ---

    def use(self, factory: ChildFactory, boot_timeout_s: float) -> None:
        """From now on frontends are started by this factory."""
        self._factory, self._boot_timeout_s = factory, boot_timeout_s

    def worker(self, key: int) -> WorkerSlot:
        """The worker's slot, by its id."""
        return self._workers_by_id[key]

    def add(self, slot: WorkerSlot) -> None:
        """Starts a worker in a slot of its own."""
        self.workers.append(slot)
        self._workers_by_id[slot.planned.id] = slot
        self.start(slot)

    def replace(self, slot: WorkerSlot, factory: ChildFactory, planned: PlannedWorker) -> None:
        """Lets a worker finish its batch and go, and fills its slot with another at once."""
        slot.successor = factory, planned
        self._release(slot)

    def retire(self, slot: WorkerSlot) -> None:
        """Lets a worker finish its batch and go, and the slot with it."""
        self._release(slot)

    def _release(self, slot: WorkerSlot) -> None:
        slot.leaving = True
        frontend = self.frontends[slot.cell]
        if slot.process is None:
            slot.stop_timer()
            self._has_left(slot)
        elif slot.attached_to is None:
            # Nobody feeds it: there is nothing to finish.
            slot.process.signal(signal.SIGKILL)
        elif frontend.process and frontend.process.pid == slot.attached_to:
            frontend_link.tell(frontend, messages.DetachWorker(worker=slot.planned.id))

    def _has_left(self, slot: WorkerSlot) -> None:
        slot.leaving = False
        slot.life.asked_to_end()
        successor, slot.successor = slot.successor, None
        if successor:
            slot.factory, slot.planned = successor
            self.start(slot)
        else:
            slot.life.end()
            self.workers.remove(slot)
            del self._workers_by_id[slot.planned.id]
        self._watcher.changed()

    # --- ends ---

    def _on_end(self, slot: AnySlot, process: Process) -> None:
        """The process has ended: take its last messages, reap it, fill the slot again."""
        self._on_message(slot, process)
        for fd in (process.control.fileno(), process.stderr_fd, process.pidfd):
            self._loop.remove_reader(fd)
        code = process.reap()
        slot.process = None
        slot.stop_timer()
        slot.end_reason = f"{slot.name} {describe_end(code)}"
        if not slot.life.is_ready:
            slot.end_reason += " before it was ready"
            slot.end_reason += f": {process.last_error_line()}" if process.last_error_line() else ""
            self._watcher.not_started(slot, None)
        if isinstance(slot, WorkerSlot):
            slot.drop_handover()
            slot.attached_to = None
        else:
            self._on_frontend_end(slot, process)
        self._fill_again(slot, in_order=code == 0)
        if isinstance(slot, FrontendSlot):
            self._watcher.frontend_done(slot)
        if not any(other.process for other in self.slots):
            self._gone.set()

    def _on_frontend_end(self, frontend: FrontendSlot, process: Process) -> None:
        """A frontend is dead: its gauges are nobody's, and its workers must leave."""
        frontend.told_to_open = frontend.opened = False
        self._pages.reset_gauges(frontend.cell)
        for worker in self.workers:
            if worker.attached_to == process.pid:
                self._expect_to_leave(worker)

    def _expect_to_leave(self, worker: WorkerSlot) -> None:
        """Its data socket ended, so it exits; if it hangs instead, it is made to."""
        process = worker.process
        if process is not None:
            self._loop.call_later(_LEAVE_S, self._kill_if_there, worker, process)

    def _kill_if_there(self, slot: AnySlot, process: Process) -> None:
        if slot.process is process:
            self._kill(slot, slot.ended_for, "does not leave")

    def _kill(self, slot: AnySlot, cause: Cause | None, why: str) -> None:
        if slot.process:
            logger.warning("%s %s: killed", slot.name, why)
            slot.ended_for = cause
            slot.process.signal(signal.SIGKILL)

    def _on_stderr(self, process: Process) -> None:
        if not process.forward_stderr():
            self._loop.remove_reader(process.stderr_fd)

    # --- messages ---

    def _on_message(self, slot: AnySlot, process: Process) -> None:
        """Takes everything that a child has sent."""
        while True:
            try:
                message, _ = channel.receive(process.control, messages.from_child_decoder)
            except BlockingIOError:
                return
            except (channel.Closed, OSError):
                self._loop.remove_reader(process.control.fileno())
                return
            except msgspec.DecodeError:
                logger.exception("%s: not a control message", slot.name)
                continue
            if isinstance(slot, WorkerSlot):
                self._hear_worker(slot, message)
            else:
                self._hear_frontend(slot, message)
            self._watcher.changed()

    def _hear_worker(self, slot: WorkerSlot, message: messages.FromChild) -> None:
        match message:
            case messages.WorkerReady():
                self._is_ready(slot)
                slot.report = message
                slot.factory.learn(message, slot.planned.cores)
                self._watcher.worker_ready(slot)
                self._attach(slot)
            case messages.WorkerFailed():
                self._watcher.child_failed(slot, message.message)
            case _:
                logger.error("%s: unexpected %s", slot.name, type(message).__name__)

    def _hear_frontend(self, slot: FrontendSlot, message: messages.FromChild) -> None:
        match message:
            case messages.FrontendUp():
                self._is_ready(slot)
                for worker in self.workers:
                    self._attach(worker)
            case messages.FrontendFailed():
                self._watcher.child_failed(slot, message.message)
            case messages.WorkerVerified():
                if message.worker in self._workers_by_id:
                    self._workers_by_id[message.worker].life.verified()
                slot.life.verified()
                self._watcher.worker_verified()
            case messages.WorkerGone():
                self._worker_gone(slot, message)
            case messages.Traced():
                self.tracer.traced(message)
            case messages.AskView():
                self.on_ask_view(slot, message)
            case messages.Opened():
                slot.opened = True
                self._watcher.frontend_opened()
            case messages.Drained():
                slot.drained = True
                self._watcher.frontend_done(slot)
            case messages.Pong() | messages.Reconfigured():
                slot.heard(message)
            case _:
                logger.error("%s: unexpected %s", slot.name, type(message).__name__)

    def _worker_gone(self, frontend: FrontendSlot, message: messages.WorkerGone) -> None:
        worker = self._workers_by_id.get(message.worker)
        if worker is None or not frontend.process or worker.attached_to != frontend.process.pid:
            return
        if worker.process is None or worker.process.pid != message.pid:
            # Old news: the slot is filled by another process already.
            return
        if message.hung:
            self._kill(worker, Cause.HANG, "hangs: its batch is run elsewhere")
        else:
            self._expect_to_leave(worker)

    def _attach(self, worker: WorkerSlot) -> None:
        """Hands a ready worker to its frontend, if both are there."""
        frontend = self.frontends[worker.cell]
        if not worker.waits_for_frontend or not frontend.life.is_ready:
            return
        frontend_link.attach(frontend, worker, again=lambda: self._attach(worker))

    # --- stopping ---

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to every child."""
        for process in filter(None, (slot.process for slot in self.slots)):
            process.signal(number)

    def dismiss(self) -> None:
        """Lets children leave: frontends on the end of their control sockets, workers on theirs.

        A worker that no frontend feeds yet holds nothing, and is ended.
        """
        for frontend in self.frontends:
            if frontend.process:
                with contextlib.suppress(OSError):
                    frontend.process.control.shutdown(socket.SHUT_RDWR)
        for worker in self.workers:
            if worker.process and worker.handover is not None:
                worker.process.signal(signal.SIGKILL)

    async def gone(self, timeout_s: float) -> bool:
        """Waits until no child is left; False when some still are."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._gone.wait(), timeout_s)
        return self._gone.is_set()

    def cancel_starts(self) -> None:
        """Whoever waits to be started is not; who runs has all the time that is left."""
        for slot in self.slots:
            if slot.timer and slot.process is None:
                slot.life.end()
            slot.stop_timer()
