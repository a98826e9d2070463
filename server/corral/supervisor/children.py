"""All children: started, listened to, handed to one another, reaped, started again.

The fleet acts on what children do; what that means for the server as a whole (ready, drained,
failed) is for its watcher to say.
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
from corral.launch.factory import Nursery
from corral.launch.spawn import Process, describe_end
from corral.metrics.counters import Pages
from corral.planning.plan import PlannedWorker
from corral.supervisor.slots import AnySlot, IngressSlot, WorkerSlot
from corral.supervisor.watcher import Watcher

logger = logging.getLogger(__name__)

#: how long a worker whose data socket ended may take to leave by itself
_LEAVE_S = 1.0
#: how soon a message that did not fit into a child's socket is tried again
_RETRY_S = 0.05


class Fleet:
    """The children of one server.

    Args:
        nursery: makes ingresses; workers' slots name their own.
        pages: the counters, whose gauges a dead ingress leaves behind.
        ingresses: the ingress slots, by cell.
        workers: the worker slots, any order.
        boot_timeout_s: a process that is not ready by then is killed.
        watcher: is told.
    """

    def __init__(
        self,
        nursery: Nursery,
        pages: Pages,
        ingresses: Sequence[IngressSlot],
        workers: Sequence[WorkerSlot],
        *,
        boot_timeout_s: float,
        watcher: Watcher,
    ) -> None:
        self._nursery = nursery
        self._pages = pages
        self.ingresses = ingresses
        self.workers = list(workers)
        self._boot_timeout_s = boot_timeout_s
        self._watcher = watcher
        self._workers_by_id = {slot.planned.id: slot for slot in workers}
        self._loop = asyncio.get_running_loop()
        self._gone = asyncio.Event()
        self._gone.set()

    @property
    def slots(self) -> list[AnySlot]:
        """Ingresses first."""
        return [*self.ingresses, *self.workers]

    # --- starting ---

    def start(self, slot: AnySlot) -> None:
        """Fills a slot with a new process, or says why not and tries again later."""
        slot.timer = None
        if not self._watcher.may_restart(slot):
            return
        slot.life.started(self._loop.time())
        try:
            process = (
                slot.nursery.start_worker(slot)
                if isinstance(slot, WorkerSlot)
                else self._nursery.start_ingress(slot)
            )
        except OSError as error:
            slot.obituary = f"{slot.name} could not be started: {error.strerror}"
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

    def _on_boot_timeout(self, slot: AnySlot) -> None:
        """A child hangs before it is ready. While the server starts, that is its end, too."""
        slot.timer = None
        self._kill(slot, Cause.BOOT, f"is not ready after {self._boot_timeout_s:g} s")

    def _is_ready(self, slot: AnySlot) -> None:
        if slot.timer:
            slot.timer.cancel()
            slot.timer = None
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
        logger.log(level, "%s%s", slot.obituary, f"; starting another {when}" if again else "")
        self._watcher.changed()

    # --- replacing ---

    def use(self, nursery: Nursery, boot_timeout_s: float) -> None:
        """From now on ingresses are started by this nursery."""
        self._nursery, self._boot_timeout_s = nursery, boot_timeout_s

    def worker(self, key: int) -> WorkerSlot:
        """The worker's slot, by its id."""
        return self._workers_by_id[key]

    def add(self, slot: WorkerSlot) -> None:
        """Starts a worker in a slot of its own."""
        self.workers.append(slot)
        self._workers_by_id[slot.planned.id] = slot
        self.start(slot)

    def replace(self, slot: WorkerSlot, nursery: Nursery, planned: PlannedWorker) -> None:
        """Lets a worker finish its batch and go, and fills its slot with another at once."""
        slot.successor = nursery, planned
        self._release(slot)

    def retire(self, slot: WorkerSlot) -> None:
        """Lets a worker finish its batch and go, and the slot with it."""
        self._release(slot)

    def _release(self, slot: WorkerSlot) -> None:
        slot.leaving = True
        ingress = self.ingresses[slot.cell]
        if slot.process is None:
            if slot.timer:
                slot.timer.cancel()
                slot.timer = None
            self._has_left(slot)
        elif slot.attached_to is None:
            # Nobody feeds it: there is nothing to finish.
            slot.process.signal(signal.SIGTERM)
        elif ingress.process and ingress.process.pid == slot.attached_to:
            self.tell(ingress, messages.DetachWorker(worker=slot.planned.id))

    def _has_left(self, slot: WorkerSlot) -> None:
        slot.leaving = False
        slot.life.relieved()
        successor, slot.successor = slot.successor, None
        if successor:
            slot.nursery, slot.planned = successor
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
        if slot.timer:
            slot.timer.cancel()
            slot.timer = None
        slot.obituary = f"{slot.name} {describe_end(code)}"
        if not slot.life.is_ready:
            slot.obituary += " before it was ready"
            slot.obituary += f": {process.last_words()}" if process.last_words() else ""
        if isinstance(slot, WorkerSlot):
            slot.drop_handover()
            slot.attached_to = None
        else:
            self._mourn(slot, process)
        self._fill_again(slot, in_order=code == 0)
        if isinstance(slot, IngressSlot):
            self._watcher.ingress_done(slot)
        if not any(other.process for other in self.slots):
            self._gone.set()

    def _mourn(self, ingress: IngressSlot, process: Process) -> None:
        """An ingress is dead: its gauges are nobody's, and its workers must leave."""
        ingress.opened = False
        self._pages.reset_gauges(ingress.cell)
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
                self._hear_ingress(slot, message)
            self._watcher.changed()

    def _hear_worker(self, slot: WorkerSlot, message: messages.FromChild) -> None:
        match message:
            case messages.WorkerReady():
                self._is_ready(slot)
                slot.report = message
                slot.nursery.learn(message)
                self._watcher.worker_ready(slot)
                self._attach(slot)
            case messages.WorkerFailed():
                self._watcher.child_failed(slot, message.message)
            case _:
                logger.error("%s: unexpected %s", slot.name, type(message).__name__)

    def _hear_ingress(self, slot: IngressSlot, message: messages.FromChild) -> None:
        match message:
            case messages.IngressUp():
                self._is_ready(slot)
                for worker in self.workers:
                    self._attach(worker)
            case messages.IngressFailed():
                self._watcher.child_failed(slot, message.message)
            case messages.WorkerProven():
                if message.worker in self._workers_by_id:
                    self._workers_by_id[message.worker].life.proven()
                slot.life.proven()
                self._watcher.worker_proven(slot)
            case messages.WorkerGone():
                self._worker_gone(slot, message)
            case messages.Drained():
                slot.drained = True
                self._watcher.ingress_done(slot)
            case _:
                logger.error("%s: unexpected %s", slot.name, type(message).__name__)

    def _worker_gone(self, ingress: IngressSlot, message: messages.WorkerGone) -> None:
        worker = self._workers_by_id.get(message.worker)
        if worker is None or not ingress.process or worker.attached_to != ingress.process.pid:
            return
        if worker.process is None or worker.process.pid != message.pid:
            # Old news: the slot is filled by another process already.
            return
        if message.hung:
            self._kill(worker, Cause.HANG, "hangs: its batch is run elsewhere")
        else:
            self._expect_to_leave(worker)

    def _attach(self, worker: WorkerSlot) -> None:
        """Hands a ready worker to its ingress, if both are there."""
        ingress = self.ingresses[worker.cell]
        if not worker.waits_for_ingress or not ingress.life.is_ready:
            return
        assert worker.process and worker.report and worker.handover and ingress.process
        data, region_fd = worker.handover
        message = messages.AttachWorker(
            worker=worker.planned.id,
            slot=worker.index,
            pid=worker.process.pid,
            sizes=worker.report.sizes,
            costs_s=worker.report.costs_s,
            region_batch=worker.nursery.region_batch,
        )
        if self._send(ingress, message, (data.fileno(), region_fd), lambda: self._attach(worker)):
            worker.attached_to = ingress.process.pid
            worker.drop_handover()

    def tell(self, ingress: IngressSlot, message: messages.ToIngress) -> None:
        """Sends a message to the ingress that fills the slot now; if none does, nothing."""
        process = ingress.process
        if process is None:
            return

        def again() -> None:
            if ingress.process is process:
                self.tell(ingress, message)

        self._send(ingress, message, (), again)

    def _send(
        self,
        ingress: IngressSlot,
        message: messages.ToIngress,
        fds: Sequence[int],
        again: Callable[[], None],
    ) -> bool:
        assert ingress.process
        try:
            channel.send(ingress.process.control, message, fds)
        except BlockingIOError:
            self._loop.call_later(_RETRY_S, again)
            return False
        except channel.Closed:
            return False
        return True

    # --- stopping ---

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to every child."""
        for slot in self.slots:
            if slot.process:
                slot.process.signal(number)

    def dismiss(self) -> None:
        """Lets children leave: ingresses on the end of their control sockets, workers on theirs.

        A worker that no ingress feeds yet holds nothing, and is told by a signal.
        """
        for ingress in self.ingresses:
            if ingress.process:
                with contextlib.suppress(OSError):
                    ingress.process.control.shutdown(socket.SHUT_RDWR)
        for worker in self.workers:
            if worker.process and worker.handover is not None:
                worker.process.signal(signal.SIGTERM)

    async def gone(self, timeout_s: float) -> bool:
        """Waits until no child is left; False when some still are."""
        try:
            await asyncio.wait_for(self._gone.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    def cancel_starts(self) -> None:
        """Whoever waits to be started is not; who runs has all the time that is left."""
        for slot in self.slots:
            if slot.timer:
                slot.timer.cancel()
                slot.timer = None
                if slot.process is None:
                    slot.life.end()
