"""A server's processes by the numbers that they have for whoever asks, in a container or not."""

from __future__ import annotations

from msgspec.structs import replace

from corral.ipc.status import ServerStatus
from corral.system import pid_namespace


def as_seen_here(status: ServerStatus) -> ServerStatus:
    """The same with the process ids of this PID namespace; without those that it does not see."""
    if status.pid_namespace is None:
        return status
    told = [status.pid, *(cell.pid for cell in status.cells), *(w.pid for w in status.workers)]
    told += [status.spin.pid] if status.spin else []
    pids = {pid for pid in told if pid is not None}
    seen = pid_namespace.as_seen_here(pids, status.pid_namespace)
    if all(seen.get(pid) == pid for pid in pids):
        return status
    return replace(
        status,
        pid=_here(status.pid, seen),
        cells=[replace(cell, pid=_here(cell.pid, seen)) for cell in status.cells],
        workers=[replace(each, pid=_here(each.pid, seen)) for each in status.workers],
        spin=replace(status.spin, pid=_here(status.spin.pid, seen)) if status.spin else None,
        pids_hidden=status.pid not in seen,
    )


def _here(pid: int | None, seen: dict[int, int]) -> int | None:
    return None if pid is None else seen.get(pid)
