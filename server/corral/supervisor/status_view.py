"""A running server as a table: what ``corral status`` prints."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from corral.ipc.status import CellStatus, ServerStatus, WorkerStatus
from corral.supervisor.ports import format_address
from corral.system.cpu_list import format_cpus


def render(status: ServerStatus, now_s: float) -> Group:
    """The table of processes, and the server's state below it.

    Args:
        status: as the server told it.
        now_s: unix time.
    """
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for heading in ("process", "pid", "state", "CPUs", "boot"):
        table.add_column(heading)
    table.add_column("restarts", overflow="fold")
    for cell in status.cells:
        name = f"ingress {cell.cell}"
        table.add_row(name, *_process(cell), "", _restarts(cell))
        for worker in status.workers:
            if worker.cell == cell.cell:
                boot = "" if worker.boot_s is None else f"{worker.boot_s:.1f} s"
                row = _process(worker)
                table.add_row(f"worker {worker.id}", *row, boot, _restarts(worker))
    return Group(table, _facts(status, now_s))


def _process(child: CellStatus | WorkerStatus) -> tuple[str, str, str]:
    state = "serving" if child.state == "proven" else str(child.state)
    return str(child.pid or "-"), state, format_cpus(child.cpus)


def _restarts(child: CellStatus | WorkerStatus) -> str:
    """How often by cause: "2 crash, 1 reload"; a dash for never."""
    found = [f"{times} {cause}" for cause, times in child.restarts.items() if times]
    return ", ".join(found) or "-"


def _facts(status: ServerStatus, now_s: float) -> Text:
    ready = "ready" if status.ready else "not ready"
    lines = [
        f"server    {status.phase}, {ready}, up {_duration(now_s - status.started_at_s)}",
        f"mode      {status.mode}",
        f"model     {status.model}, {status.backend} {status.precision}, {status.weights}",
        f"gRPC      {format_address(status.host, status.port)}",
        f"metrics   {format_address(status.metrics_host, status.metrics_port)}",
    ]
    return Text("\n".join([*lines, *(f"! {warning}" for warning in status.warnings)]))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
