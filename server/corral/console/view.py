"""What people see of a server besides its numbers: it changes rarely. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from corral import __version__
from corral.console.sample import Place
from corral.doctor import drawing
from corral.doctor.finding import Finding, Report, Status
from corral.doctor.layout import running
from corral.doctor.page import finding
from corral.doctor.view import headline, totals
from corral.ipc.status import CellStatus, ServerStatus, WorkerStatus
from corral.pages.document import card
from corral.planning.machine import Machine
from corral.system.addresses import format_address
from corral.system.cpu_list import format_cpus

_URGENT = (Status.ERROR, Status.WARNING, Status.INFO)


class ChildView(msgspec.Struct, frozen=True, kw_only=True):
    """A frontend or a worker."""

    #: a worker's number; a frontend's is its cell's
    id: int
    cell: int
    #: a worker's place in its cell's counter page; 0 for a frontend
    slot: int = 0
    #: "serving" or where it is in its life
    state: str
    #: as people write them, "0-3"
    cpus: str
    #: how often it was started again, by cause, where it was
    restarts: dict[str, int]
    memory_bytes: int = 0
    #: seconds of a batch of one; None before it was measured
    first_s: float | None = None


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What the doctor found, without what is in order."""

    sentence: str
    machine: str
    #: HTML of each error, warning, and what is worth knowing
    findings: str
    #: how many of them there are, by status
    counts: dict[str, int]


class View(msgspec.Struct, frozen=True, kw_only=True):
    """A server as its page shows it. It holds no pid, no token, and not where the socket lies."""

    version: str
    #: where it is in its life, and what is being changed; empty where nothing is
    phase: str
    ready: bool
    change: str
    #: unix time
    started_at_s: float
    model: str
    mode: str
    engine: str
    precision: str
    weights: str
    synthetic: bool
    #: how the search for the fastest ended; may be empty
    search: str
    #: the precision guard's word and sentence; empty for FP32 that serves in place of nothing
    guard: str
    guard_says: str
    grpc: str
    http: str
    metrics: str
    warnings: list[str]
    frontends: list[ChildView]
    workers: list[ChildView]
    #: HTML; empty where the machine was not looked at yet
    drawn: str
    found: Found | None


def places_of(status: ServerStatus) -> list[Place]:
    """Where a server's workers have their counters."""
    return [Place(worker.id, worker.cell, worker.slot) for worker in status.workers]


def make(
    status: ServerStatus,
    change: str | None,
    machine: Machine | None,
    report: Report | None,
) -> View:
    """The view of a server.

    Args:
        status: of now.
        change: the reload or the like that is under way.
        machine: that it runs on; None where nobody has looked.
        report: the doctor's; None where nobody has looked.
    """
    findings: Sequence[Finding] = report.checks if report else ()
    return View(
        version=__version__,
        phase=status.phase,
        ready=status.ready,
        change=change or "",
        started_at_s=status.started_at_s,
        model=status.model,
        mode=status.mode,
        engine=engine_of(status),
        precision=status.precision,
        weights=status.weights,
        synthetic=status.synthetic,
        search=status.search,
        guard=status.guard.verdict if status.guard else "",
        guard_says=status.guard.sentence() if status.guard else "",
        grpc=format_address(status.host, status.port),
        http=format_address(status.host, status.http_port),
        metrics=format_address(status.metrics_host, status.metrics_port),
        warnings=status.warnings,
        frontends=[_frontend(cell) for cell in status.cells],
        workers=[_worker(worker) for worker in status.workers],
        drawn=drawing.draw(machine, running(status), findings) if machine else "",
        found=_found(report) if report else None,
    )


def engine_of(status: ServerStatus) -> str:
    """The engine as the first worker that reported describes it, else its name."""
    engine = next((worker.engine for worker in status.workers if worker.engine), {})
    parts = (engine.get(key, "") for key in ("engine", "version"))
    return " ".join(part for part in parts if part) or status.backend


def state_of(child: CellStatus | WorkerStatus) -> str:
    """Where a child is in its life, in a word for people."""
    return "serving" if child.state == "verified" else str(child.state)


def _frontend(cell: CellStatus) -> ChildView:
    return ChildView(
        id=cell.cell,
        cell=cell.cell,
        state=state_of(cell),
        cpus=format_cpus(cell.cpus),
        restarts=_restarts(cell),
    )


def _worker(worker: WorkerStatus) -> ChildView:
    first = [seconds for name, seconds in worker.costs_s.items() if name.endswith(":1")]
    return ChildView(
        id=worker.id,
        cell=worker.cell,
        slot=worker.slot,
        state=state_of(worker),
        cpus=format_cpus(worker.cpus),
        restarts=_restarts(worker),
        memory_bytes=worker.memory_bytes,
        first_s=first[0] if first else None,
    )


def _restarts(child: CellStatus | WorkerStatus) -> dict[str, int]:
    return {str(cause): times for cause, times in child.restarts.items() if times}


def _found(report: Report) -> Found:
    urgent = report.of(*_URGENT)
    return Found(
        sentence=totals(report),
        machine=headline(report).replace("\n", "; "),
        findings="".join(
            card(finding(found), found.id)
            for status in _URGENT
            for found in urgent
            if found.status is status
        ),
        counts={status.value: report.summary[status] for status in _URGENT},
    )
