"""What the kernel counts of a process's threads: time, waits for a CPU, switches, migrations."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from corral.system.tree import fields

_MIGRATIONS = re.compile(r"se\.nr_migrations\s*:\s*(\d+)")


class ThreadCounts(msgspec.Struct, frozen=True, kw_only=True):
    """One thread; the numbers only grow."""

    #: on a CPU, seconds
    cpu_s: float
    #: ready to run, and no CPU to be had
    waited_s: float
    #: it gave the CPU up, to wait for something
    voluntary: int
    #: it was taken off the CPU
    involuntary: int
    #: between CPUs; None where the kernel does not say
    migrations: int | None


class ThreadUse(msgspec.Struct, frozen=True, kw_only=True):
    """What a process's threads did in a while."""

    #: seconds that were looked at
    span_s: float
    #: threads that used more than a hundredth of a CPU
    computing: int
    #: share of the busiest thread's time on the CPU that the others used in the mean, percent
    balance_percent: float
    #: share of the threads' time in which they were ready and had no CPU, percent
    waited_percent: float
    voluntary_per_s: float
    involuntary_per_s: float
    #: None where the kernel does not say
    migrations: int | None

    @property
    def idle_for_slowest_percent(self) -> float:
        """Share of the time that the other threads had nothing to do while the busiest worked."""
        return 100.0 - self.balance_percent


def read(pid: int, root: Path = Path("/")) -> dict[int, ThreadCounts]:
    """The threads of a process, by id; those that end meanwhile are left out.

    Raises:
        ProcessLookupError: there is no such process.
    """
    folder = root / "proc" / str(pid) / "task"
    found = {}
    try:
        tasks = list(folder.iterdir())
    except FileNotFoundError:
        raise ProcessLookupError(f"no process {pid}") from None
    for task in tasks:
        with contextlib.suppress(OSError, KeyError, ValueError):
            found[int(task.name)] = _counts(task)
    return found


def _counts(task: Path) -> ThreadCounts:
    on_cpu_ns, waited_ns, _ = (task / "schedstat").read_text(encoding="utf-8").split()
    status = fields((task / "status").read_text(encoding="utf-8"))
    migrations = None
    with contextlib.suppress(OSError):
        match = _MIGRATIONS.search((task / "sched").read_text(encoding="utf-8"))
        migrations = int(match[1]) if match else None
    return ThreadCounts(
        cpu_s=int(on_cpu_ns) / 1e9,
        waited_s=int(waited_ns) / 1e9,
        voluntary=int(status["voluntary_ctxt_switches"]),
        involuntary=int(status["nonvoluntary_ctxt_switches"]),
        migrations=migrations,
    )


def use(
    before: Mapping[int, ThreadCounts], after: Mapping[int, ThreadCounts], span_s: float
) -> ThreadUse:
    """What threads did between two looks; those that were there at both."""
    both = [(before[thread], after[thread]) for thread in before.keys() & after.keys()]
    spent_s = [b.cpu_s - a.cpu_s for a, b in both]
    computing = [seconds for seconds in spent_s if seconds > span_s / 100]
    waited_s = sum(b.waited_s - a.waited_s for a, b in both)
    most_s = max(computing, default=0.0)
    moved = [
        b.migrations - a.migrations
        for a, b in both
        if a.migrations is not None and b.migrations is not None
    ]
    return ThreadUse(
        span_s=span_s,
        computing=len(computing),
        balance_percent=100 * sum(computing) / (len(computing) * most_s) if most_s else 100.0,
        waited_percent=100 * waited_s / max(1e-9, waited_s + sum(spent_s)),
        voluntary_per_s=sum(b.voluntary - a.voluntary for a, b in both) / span_s,
        involuntary_per_s=sum(b.involuntary - a.involuntary for a, b in both) / span_s,
        migrations=sum(moved) if moved else None,
    )
