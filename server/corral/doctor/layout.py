"""Which process runs where: of a running server, or as the plan would have it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from corral.ipc.status import ServerStatus
from corral.planning.plan import Plan
from corral.settings import Settings


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeenWorker:
    """A worker; see ``PlannedWorker`` and ``WorkerStatus``.

    Attributes:
        id: its number.
        cell: whose frontend feeds it.
        cpus: logical CPUs that it may run on.
        cores: physical cores, which is its thread count.
        memory_node: NUMA node that its memory is bound to, or None.
        pid: None where no process runs.
        engine: what its engine said of itself.
        took_hold: what it found mapped and in force (``WorkerStatus.checks``).
    """

    id: int
    cell: int
    cpus: tuple[int, ...]
    cores: int
    memory_node: int | None
    pid: int | None = None
    engine: Mapping[str, str] = dataclasses.field(default_factory=dict)
    took_hold: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeenFrontend:
    """A cell's frontend: its CPUs, and its process where one runs."""

    cell: int
    cpus: tuple[int, ...]
    pid: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """All processes.

    Attributes:
        mode: "rti" or "throughput".
        workers: by id.
        frontends: by cell.
        running: whether a server runs.
        supervisor: its supervisor's process, whose mask and control groups are the server's;
            None: those of whoever asks count.
        allocator: the one asked for; None where it is not known.
        huge_pages: whether they were asked for; None where it is not known.
        warnings: what the server itself says did not take hold.
        hidden: its processes are in a PID namespace that is not seen from here.
    """

    mode: str
    workers: tuple[SeenWorker, ...]
    frontends: tuple[SeenFrontend, ...] = ()
    running: bool = False
    supervisor: int | None = None
    allocator: str | None = None
    huge_pages: bool | None = None
    warnings: tuple[str, ...] = ()
    hidden: bool = False

    @property
    def worker_cpus(self) -> tuple[int, ...]:
        """Every CPU of a worker, sorted."""
        return tuple(sorted({cpu for worker in self.workers for cpu in worker.cpus}))

    @property
    def frontend_cpus(self) -> tuple[int, ...]:
        """Every CPU of a frontend, sorted."""
        return tuple(sorted({cpu for front in self.frontends for cpu in front.cpus}))

    @property
    def all_cpus(self) -> tuple[int, ...]:
        """The CPUs of all processes, sorted."""
        return tuple(sorted({*self.worker_cpus, *self.frontend_cpus}))

    @property
    def threads(self) -> int:
        """Threads that compute at once."""
        return sum(worker.cores for worker in self.workers)

    @property
    def pids(self) -> tuple[int, ...]:
        """Processes that run."""
        pids = (*(w.pid for w in self.workers), *(front.pid for front in self.frontends))
        return tuple(pid for pid in pids if pid is not None)

    def workers_on(self, cpus: Iterable[int]) -> tuple[int, ...]:
        """The ids of the workers that have one of these CPUs."""
        wanted = set(cpus)
        return tuple(worker.id for worker in self.workers if wanted.intersection(worker.cpus))


def planned(plan: Plan, settings: Settings) -> Layout:
    """What the plan would have."""
    return Layout(
        mode=plan.mode,
        workers=tuple(
            SeenWorker(
                id=worker.id,
                cell=number,
                cpus=tuple(worker.cpus),
                cores=worker.cores,
                memory_node=worker.memory_node,
            )
            for number, cell in enumerate(plan.cells)
            for worker in cell.workers
        ),
        frontends=tuple(
            SeenFrontend(cell=number, cpus=tuple(cell.frontend_cpus))
            for number, cell in enumerate(plan.cells)
        ),
        allocator=settings.placement.allocator.value,
        huge_pages=settings.placement.huge_pages,
    )


def running(status: ServerStatus, huge_pages: bool | None = None) -> Layout:
    """What a server has.

    Args:
        status: as the server told it.
        huge_pages: whether they were asked for, where that is known.
    """
    return Layout(
        mode=status.mode,
        workers=tuple(
            SeenWorker(
                id=worker.id,
                cell=worker.cell,
                cpus=tuple(worker.cpus),
                cores=worker.cores,
                memory_node=worker.memory_node,
                pid=worker.pid,
                engine=worker.engine,
                took_hold=worker.checks,
            )
            for worker in status.workers
        ),
        frontends=tuple(
            SeenFrontend(cell=cell.cell, cpus=tuple(cell.cpus), pid=cell.pid)
            for cell in status.cells
        ),
        running=True,
        supervisor=status.pid,
        allocator=status.allocator,
        huge_pages=huge_pages,
        warnings=tuple(status.warnings),
        hidden=status.pids_hidden,
    )
