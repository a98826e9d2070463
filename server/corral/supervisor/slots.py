"""The supervisor's slots: each is filled by one process after another."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from corral.ipc.messages import Pong, Reconfigured, WorkerReady
from corral.ipc.status import Cause, State
from corral.launch.spawn import Process
from corral.planning.plan import Plan, PlannedCell, PlannedWorker
from corral.settings import LifecycleSettings
from corral.supervisor.lifecycle import Backoff, Life

if TYPE_CHECKING:
    from corral.launch.factory import ChildFactory
    from corral.launch.worker import StartedWorker


class Slot:
    """A place for one child."""

    def __init__(self, life: Life, name: str, cell: int) -> None:
        self.life = life
        self.name = name
        self.cell = cell
        self.process: Process | None = None
        #: how the last process ended, with its last line: for the error that names a reason
        self.end_reason = ""
        #: the pending start, while the slot waits; then the end of the time to get ready
        self.timer: asyncio.TimerHandle | None = None
        #: why we ended the process ourselves, if we did
        self.ended_for: Cause | None = None

    def stop_timer(self) -> None:
        """Takes back what is pending, if anything is."""
        if self.timer:
            self.timer.cancel()
            self.timer = None


class FrontendSlot(Slot):
    """A place for a cell's frontend."""

    def __init__(self, life: Life, cell: int, planned: PlannedCell) -> None:
        super().__init__(life, f"frontend {cell}", cell)
        self.planned = planned
        #: it was told to take requests; then it does
        self.told_to_open = False
        self.opened = False
        self.drained = False
        #: the number of the last Reconfigure that one of its processes goes by
        self.reconfigured = 0
        #: the number of the last Ping that one of its processes answered
        self.answered = 0

    def heard(self, message: Pong | Reconfigured) -> None:
        """Notes which number was answered."""
        if isinstance(message, Pong):
            self.answered = message.number
        else:
            self.reconfigured = message.number


class WorkerSlot(Slot):
    """A place for a worker, ``index`` in its cell's counter page."""

    def __init__(
        self, life: Life, cell: int, index: int, planned: PlannedWorker, factory: ChildFactory
    ) -> None:
        super().__init__(life, f"worker {planned.id}", cell)
        self.index = index
        self.planned = planned
        #: makes its processes: what workers of one deployment have in common
        self.factory = factory
        #: it was told to finish its batch and go
        self.leaving = False
        #: what fills the slot when it has gone; without, the slot goes too
        self.successor: tuple[ChildFactory, PlannedWorker] | None = None
        #: what the last process that got ready said
        self.report: WorkerReady | None = None
        #: with the data socket and the region that its frontend is given, until it has them
        self.handover: StartedWorker | None = None
        #: pid of the frontend that feeds it
        self.attached_to: int | None = None

    @property
    def waits_for_frontend(self) -> bool:
        """True when it is ready and nobody feeds it."""
        return self.life.state is State.READY and self.handover is not None

    def drop_handover(self) -> None:
        """Closes our copies of what the frontend has now, or nobody needs any more.

        While one is open here, the death of the process at one end is no EOF at the other.
        """
        if self.handover is not None:
            self.handover.close_feed()
            self.handover = None


AnySlot = FrontendSlot | WorkerSlot


def make_slots(
    lifecycle: LifecycleSettings, plan: Plan, factory: ChildFactory
) -> tuple[list[FrontendSlot], list[WorkerSlot]]:
    """A slot for every child of the plan: frontends by cell, and all workers."""
    backoff = Backoff(lifecycle.restart_backoff_s, lifecycle.restart_backoff_max_s)
    frontends, workers = [], []
    for cell, planned in enumerate(plan.cells):
        frontends.append(FrontendSlot(Life(backoff), cell, planned))
        for index, worker in enumerate(planned.workers):
            workers.append(WorkerSlot(Life(backoff), cell, index, worker, factory))
    return frontends, workers
