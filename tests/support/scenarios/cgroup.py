"""CPUs that are taken away and given back under a running server: the promise R15.

Control groups are made for real where this process may, which takes root; affinity masks anyone
may change.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from corral.ipc.status import ServerStatus
from corral.system import procfs
from support.counted_load import closed_loop
from support.running_server import Server, wait_until
from support.scenarios.fault import check_counts
from support.scenarios.reload import status_of

_MOUNT = Path("/sys/fs/cgroup")
_QUOTA_US, _PERIOD_US = 50_000, 100_000


class Group:
    """A control group of our own, of v1 or v2, that a server's processes are in."""

    def __init__(self, folder: Path, *, v2: bool) -> None:
        self._folder = folder
        self._v2 = v2

    def take(self, server: Server) -> None:
        """Moves a server's processes into it; those started later follow."""
        for pid in tree(server):
            (self._folder / "cgroup.procs").write_text(str(pid))

    def take_one(self, pid: int) -> None:
        """Moves one process into it, with its memory to come."""
        (self._folder / "cgroup.procs").write_text(str(pid))

    def set_memory(self, most_bytes: int) -> None:
        """Beyond that the kernel kills what is in it."""
        if self._v2:
            (self._folder / "memory.swap.max").write_text("0")
            (self._folder / "memory.max").write_text(str(most_bytes))
        else:
            (self._folder / "memory.swappiness").write_text("0")
            (self._folder / "memory.limit_in_bytes").write_text(str(most_bytes))

    def kills(self) -> int:
        """How often the kernel did so."""
        events = self._folder / ("memory.events" if self._v2 else "memory.oom_control")
        found = dict(line.split() for line in events.read_text().splitlines())
        return int(found["oom_kill"])

    def set_cpus(self, cpus: set[int]) -> None:
        (self._folder / "cpuset.cpus").write_text(",".join(map(str, sorted(cpus))))

    def set_quota(self, cpus: float | None) -> None:
        """CPUs' worth of time; None for no limit."""
        quota_us = None if cpus is None else int(cpus * _PERIOD_US)
        if self._v2:
            (self._folder / "cpu.max").write_text(f"{quota_us or 'max'} {_PERIOD_US}")
        else:
            (self._folder / "cpu.cfs_quota_us").write_text(str(quota_us or -1))


@contextlib.contextmanager
def control_group(controller: str) -> Iterator[Group | None]:
    """A new group, None where we may make none; what is in it goes back to the root group."""
    v1 = _MOUNT / controller
    parent = v1 if v1.is_dir() else _MOUNT
    folder = parent / f"corral-test-{os.getpid()}"
    try:
        if parent is _MOUNT and controller not in (parent / "cgroup.subtree_control").read_text():
            yield None
            return
        folder.mkdir()
        if controller == "cpuset":
            mems = folder / "cpuset.mems"
            mems.write_text((parent / "cpuset.mems").read_text() or "0")
            (folder / "cpuset.cpus").write_text(",".join(map(str, os.sched_getaffinity(0))))
    except OSError:
        with contextlib.suppress(OSError):
            folder.rmdir()
        yield None
        return
    try:
        yield Group(folder, v2=parent is _MOUNT)
    finally:
        # A group goes once the last of its processes has been reaped.
        wait_until(lambda: not (folder / "cgroup.procs").read_text(), "the group to be empty")
        folder.rmdir()


def tree(server: Server) -> list[int]:
    """The pids of a server's processes, its own first."""
    return [server.pid, *(child.pid for child in server.children())]


def set_affinity(server: Server, cpus: set[int]) -> None:
    """``taskset --all-tasks`` on every process of the server."""
    for pid in tree(server):
        procfs.move(pid, cpus)


def inside(server: Server, cpus: set[int], budget: int) -> ServerStatus | None:
    """The status once all workers serve, inside these CPUs, with no more threads than that."""
    status = status_of(server)
    ready = [worker for worker in status.workers if worker.state == "verified"]
    if len(ready) < len(status.workers) or sum(worker.cores for worker in ready) > budget:
        return None
    for worker in ready:
        if not set(worker.cpus) <= cpus or worker.pid is None:
            return None
        with contextlib.suppress(ProcessLookupError):
            masks = procfs.thread_affinities(worker.pid).values()
            if not all(mask <= cpus for mask in masks):
                return None
    return status


def most_runnable(server: Server, looks: int = 50) -> int:
    """How many threads of workers wanted a CPU at a time: at most, of so many looks."""
    return max(_runnable(server.workers()) for _ in range(looks))


def _runnable(pids: list[int]) -> int:
    found = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            # A name in brackets may have blanks in it.
            state = (task / "stat").read_text().rpartition(") ")[2][0]
            found += state == "R"
    return found


def change_cpus(server: Server, change: Callable[[set[int]], None], rounds: int = 1) -> None:
    """R15: one CPU is left, then all are there again; every request is answered.

    Args:
        server: planned for all CPUs.
        change: makes them what the server may use.
        rounds: how often.
    """
    everything = os.sched_getaffinity(0)
    with closed_loop(server.port, 4) as load:
        for _ in range(rounds):
            load.wait_for_answers(8)
            change({max(everything)})
            wait_until(
                lambda: inside(server, {max(everything)}, 1),
                "the workers to be inside what is left",
            )
            load.wait_for_answers(8)
            change(everything)
            wait_until(
                lambda: sum(w.cores for w in status_of(server).workers) == len(everything),
                "the workers to use what is there again",
            )
            wait_until(lambda: inside(server, everything, len(everything)), "all to serve")
        load.wait_for_answers(8)
    check_counts(server, load.counted)


def cpu_seconds(server: Server) -> float:
    """What the server's processes have used."""
    used_s = 0.0
    for pid in tree(server):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = psutil.Process(pid).cpu_times()
            used_s += times.user + times.system
    return used_s


def throttle(server: Server, group: Group, duration_s: float, cpus: float) -> float:
    """R15: a quota stops the server's threads; it says so and answers all the same.

    Returns:
        the CPUs that it used meanwhile.
    """
    group.take(server)
    with closed_loop(server.port, 8) as load:
        load.wait_for_answers(8)
        group.set_quota(cpus)
        before_s, began_s = cpu_seconds(server), time.monotonic()
        load.run_for(duration_s)
        server.wait_for_line(r"the CPU quota stopped threads in \d+ of \d+ periods")
        used = (cpu_seconds(server) - before_s) / (time.monotonic() - began_s)
        group.set_quota(None)
    check_counts(server, load.counted)
    return used
