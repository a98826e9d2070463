"""CPU time of what spins for ``--keep-warm on``: to its own group it gives way, and is no load."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path

from corral.system import cgroups, procfs
from corral.system.tree import read_text

#: of the processes, as /proc/PID/comm has it
NAME = "corral-spinner"

#: CPU seconds by the process, and the CPU that it is bound to
Spun = Mapping[tuple[int, int], float]


def spun_seconds(
    root: Path = Path("/"), *, apart: Collection[int] = (), gives_way_to: Collection[int] = ()
) -> Spun:
    """What the spinners that run have taken, of every server that we see.

    Args:
        root: the folder that holds ``proc``.
        apart: processes; what spins below them is left out.
        gives_way_to: processes; what spins in groups of its own takes CPU time from them, as
            anything else does, and is left out. Without any, whatever spins counts.
    """
    groups = {_scheduling_group(pid, root) for pid in gives_way_to}
    found = {}
    for comm in (root / "proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError, LookupError, ValueError):
            pid = int(comm.parent.name)
            if read_text(comm).strip() != NAME or _is_below(pid, apart, root):
                continue
            (cpus,) = procfs.thread_affinities(pid, root).values()
            # The parent of them all may run anywhere, and sleeps.
            if len(cpus) == 1 and (not groups or _scheduling_group(pid, root) in groups):
                found[pid, min(cpus)] = procfs.process_cpu_seconds(pid, root)
    return found


def between(before: Spun, after: Spun) -> dict[int, float]:
    """CPU seconds by CPU that were taken from one look to the next.

    Of a process that is gone at the second it is not known; what it took before is nobody's.
    """
    found: defaultdict[int, float] = defaultdict(float)
    for (pid, cpu), seconds in after.items():
        found[cpu] += max(0.0, seconds - before.get((pid, cpu), 0.0))
    return dict(found)


def _scheduling_group(pid: int, root: Path) -> str:
    """Where SCHED_IDLE gives way: a control group, or a session where those are groups."""
    group = cgroups.cpu_group(root, str(pid))
    if group is not None:
        return str(group)
    with contextlib.suppress(OSError, IndexError):
        if read_text(root / "proc/sys/kernel/sched_autogroup_enabled").strip() == "1":
            return read_text(root / "proc" / str(pid) / "autogroup").split()[0]
    return ""


def _is_below(pid: int, roots: Collection[int], root: Path) -> bool:
    while pid > 1 and roots:
        if pid in roots:
            return True
        pid = procfs.parent(pid, root)
    return False
