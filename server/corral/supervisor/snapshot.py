"""From the supervisor's slots to the frozen status that other threads read."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence

from corral.dataplane.upkeep import warm_every_s, warm_share
from corral.ipc.messages import ModelBoot
from corral.ipc.status import (
    BoundStatus,
    CellStatus,
    Phase,
    ServerStatus,
    State,
    WarmStatus,
    WorkerStatus,
)
from corral.settings import Settings
from corral.supervisor.slots import FrontendSlot, WorkerSlot
from corral.system import pid_namespace


def take(
    *,
    settings: Settings,
    model: ModelBoot,
    phase: Phase,
    started_at_s: float,
    ready_after_s: float | None,
    frontends: Sequence[FrontendSlot],
    workers: Sequence[WorkerSlot],
    warnings: Iterable[str],
    admin_socket: str | None = None,
    bound: BoundStatus | None = None,
) -> ServerStatus:
    """The server as it is now.

    Args:
        settings: with the ports settled.
        model: as prepared.
        phase: of the server.
        started_at_s: unix time.
        ready_after_s: seconds from there to ready, or None.
        frontends: by cell.
        workers: all of them.
        warnings: what did not take hold.
        admin_socket: its path, or None.
        bound: how a latency bound is kept, or None.
    """
    cells = [_cell(slot, workers) for slot in frontends]
    return ServerStatus(
        phase=phase,
        ready=phase is Phase.SERVING and all(cell.ready for cell in cells),
        started_at_s=started_at_s,
        pid=os.getpid(),
        pid_namespace=pid_namespace.own(),
        ready_after_s=ready_after_s,
        host=settings.listen.host,
        port=settings.listen.port,
        http_port=settings.listen.http_port or 0,
        metrics_host=settings.listen.metrics_host,
        metrics_port=settings.listen.metrics_port,
        mode=settings.model.mode.value,
        model=model.name,
        backend=settings.engine.backend.value,
        precision=model.precision,
        allocator=settings.placement.allocator.value,
        weights=model.weights,
        synthetic=model.synthetic,
        guard=model.guard,
        search=model.search,
        cells=cells,
        workers=[_worker(slot) for slot in workers],
        warnings=list(warnings),
        admin_socket=admin_socket,
        bound=bound,
        warm=_warm(settings, workers),
    )


def _warm(settings: Settings, workers: Sequence[WorkerSlot]) -> WarmStatus | None:
    """By what the slowest lone item took while its worker warmed up."""
    share = warm_share(settings)
    costs_s = [
        cost_s
        for slot in workers
        if slot.report
        for name, cost_s in slot.report.costs_s.items()
        if name.endswith(":1")
    ]
    if not share or not costs_s:
        return None
    took_s = max(costs_s)
    every_s = warm_every_s(
        took_s,
        share,
        least_s=settings.lifecycle.keep_warm_every_s,
        workers=max(Counter(slot.cell for slot in workers).values()),
    )
    return WarmStatus(every_s=round(every_s, 3), share=round(took_s / every_s, 4))


def _cell(slot: FrontendSlot, workers: Sequence[WorkerSlot]) -> CellStatus:
    verified = any(w.cell == slot.cell and w.life.state is State.VERIFIED for w in workers)
    return CellStatus(
        cell=slot.cell,
        state=slot.life.state,
        pid=slot.process.pid if slot.process else None,
        restarts=dict(slot.life.restarts),
        cpus=slot.planned.frontend_cpus,
        ready=slot.opened and verified,
    )


def _worker(slot: WorkerSlot) -> WorkerStatus:
    report = slot.report
    return WorkerStatus(
        id=slot.planned.id,
        cell=slot.cell,
        slot=slot.index,
        state=slot.life.state,
        pid=slot.process.pid if slot.process else None,
        restarts=dict(slot.life.restarts),
        cpus=slot.planned.cpus,
        cores=slot.planned.cores,
        memory_node=slot.planned.memory_node,
        boot_s=slot.life.boot_s,
        memory_bytes=report.memory_bytes if report else 0,
        engine=report.engine if report else {},
        checks=report.checks if report else {},
        warnings=report.warnings if report else [],
        sizes=report.sizes if report else [],
        costs_s=report.costs_s if report else {},
    )
