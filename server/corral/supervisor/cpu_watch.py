"""The CPUs that are ours change under a running server; so does how much of them we get.

Somebody changes the affinity mask, the cpuset or the quota: the workers must be planned anew, else
several land on one CPU, or more threads want to run than the quota feeds. And where the quota
stops threads, somebody should hear of it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
from collections.abc import Callable

from corral.planning import topology
from corral.supervisor.admin import Reply
from corral.supervisor.lifecycle import Backoff
from corral.system import procfs
from corral.system.cgroups import Throttling

#: throttling is reported at most that often
REPORT_S = 60.0
#: fewer stopped periods than this share are not worth a line
_MIN_SHARE = 0.05
#: a plan that failed is tried again, for what was in its way may be gone
RETRY = Backoff(first_s=5.0, max_s=300.0)

logger = logging.getLogger(__name__)

#: a look costs a few dozen small reads of /proc and /sys/fs/cgroup, less than a millisecond
LOOK_S = 1.0


class CpuWatch:
    """Looks once a second, on the running loop.

    Args:
        read: the CPUs that are allowed now.
        on_allowed_cpus: called with one that is new and has settled, until the task that it returns
            went well; None: it is not the time for a change.
        on_throttling: called with a sentence when a quota stops threads.
    """

    def __init__(
        self,
        read: Callable[[], AllowedCpus],
        on_allowed_cpus: Callable[[AllowedCpus], asyncio.Task[Reply] | None],
        on_throttling: Callable[[str], None],
    ) -> None:
        self._read = read
        self._on_allowed_cpus = on_allowed_cpus
        self._on_throttling = on_throttling
        self._loop = asyncio.get_running_loop()
        self._watch = AllowedCpusWatch(read())
        self._change: asyncio.Task[Reply] | None = None
        self._report = ThrottlingReport(procfs.cpu_throttling(), self._loop.time())
        self._timer = self._loop.call_later(LOOK_S, self.look)

    def look(self) -> None:
        """Looks once, and sets the time of the next look."""
        self._timer = self._loop.call_later(LOOK_S, self.look)
        now_s = self._loop.time()
        allowed_cpus = self._watch.look(self._read(), now_s)
        if allowed_cpus is not None and self._change is None:
            self._change = self._on_allowed_cpus(allowed_cpus)
            if self._change is not None:
                self._change.add_done_callback(functools.partial(self._on_changed, allowed_cpus))
        if (sentence := self._report.look(procfs.cpu_throttling(), now_s)) is not None:
            self._on_throttling(sentence)

    def _on_changed(self, allowed_cpus: AllowedCpus, change: asyncio.Task[Reply]) -> None:
        self._change = None
        if change.cancelled():
            return
        if (error := change.exception()) is not None:
            logger.error("no plan could be made for %s", allowed_cpus, exc_info=error)
        if error is None and change.result().exit_code == 0:
            self._watch.planned(allowed_cpus)
        else:
            self._watch.failed(allowed_cpus, self._loop.time())

    def stop(self) -> None:
        """Looks no more."""
        self._timer.cancel()


@dataclasses.dataclass(frozen=True, kw_only=True)
class AllowedCpus:
    """What a process may use: CPUs by affinity mask and cpuset, and CPUs' worth of time."""

    cpus: tuple[int, ...]
    quota: float | None

    def __str__(self) -> str:
        cpus = f"CPUs {','.join(map(str, self.cpus))}"
        return cpus if self.quota is None else f"{cpus}, quota {self.quota:g}"


def read_allowed_cpus() -> AllowedCpus:
    """What this process is allowed now."""
    cpus, quota = topology.read_allowed()
    return AllowedCpus(cpus=cpus, quota=quota)


class AllowedCpusWatch:
    """Notices other allowed CPUs once they have been the same for two looks.

    Somebody who moves a process from one cpuset to another changes masks several times on the
    way; planning for each of them would replace the workers several times. What is told is told
    again at every look, until a plan was made for it.

    Args:
        allowed_cpus: what the plan was made for.
    """

    def __init__(self, allowed_cpus: AllowedCpus) -> None:
        self._planned = allowed_cpus
        self._seen = allowed_cpus
        self._failed: AllowedCpus | None = None
        self._failures = 0
        self._again_s = 0.0

    def look(self, now: AllowedCpus, now_s: float) -> AllowedCpus | None:
        """The new ones while the plan does not fit them and is worth a try; else None.

        Args:
            now: what is allowed.
            now_s: monotonic seconds.
        """
        settled, self._seen = now == self._seen, now
        if not settled or now == self._planned:
            return None
        return None if now == self._failed and now_s < self._again_s else now

    def planned(self, allowed_cpus: AllowedCpus) -> None:
        """The plan fits this one."""
        self._planned = allowed_cpus
        self._failed, self._failures = None, 0

    def failed(self, allowed_cpus: AllowedCpus, now_s: float) -> None:
        """No plan could be made for this one, or its workers did not start: later, once more."""
        self._failures = self._failures + 1 if allowed_cpus == self._failed else 1
        self._failed = allowed_cpus
        self._again_s = now_s + RETRY.delay_s(self._failures)


class ThrottlingReport:
    """Says when a CPU quota stops threads, now and then.

    Args:
        stat: what cpu.stat says at the start; None where there is none.
        now_s: monotonic seconds.
    """

    def __init__(self, stat: Throttling | None, now_s: float) -> None:
        self._before = stat
        self._next_s = now_s

    def look(self, stat: Throttling | None, now_s: float) -> str | None:
        """A sentence when threads were stopped since the last one; else None."""
        before = self._before
        if stat is None or before is None:
            self._before = stat
            return None
        if now_s < self._next_s:
            return None
        periods = stat.periods - before.periods
        stopped = stat.throttled_periods - before.throttled_periods
        if stopped <= 0 or stopped < _MIN_SHARE * periods:
            return None
        seconds = stat.throttled_seconds - before.throttled_seconds
        self._before, self._next_s = stat, now_s + REPORT_S
        return (
            f"the CPU quota stopped threads in {stopped} of {periods} periods, for {seconds:.1f} s "
            "in all: answers take longer; raise the quota, or give fewer --workers"
        )
