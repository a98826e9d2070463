"""The CPUs that are ours change under a running server; so does how much of them we get. Pure.

Somebody changes the affinity mask, the cpuset or the quota: the workers must be planned anew, else
several land on one CPU, or more threads want to run than the quota feeds. And where the quota
stops threads, somebody should hear of it.
"""

from __future__ import annotations

import dataclasses

from corral.supervisor.backoff import Backoff
from corral.system.cgroups import Throttling

#: throttling is reported at most that often
REPORT_S = 60.0
#: fewer stopped periods than this share are not worth a line
_MIN_SHARE = 0.05
#: a plan that failed is tried again, for what was in its way may be gone
_RETRY = Backoff(first_s=5.0, max_s=300.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Allowance:
    """What a process may use: CPUs by affinity mask and cpuset, and CPUs' worth of time."""

    cpus: tuple[int, ...]
    quota: float | None

    def __str__(self) -> str:
        cpus = f"CPUs {','.join(map(str, self.cpus))}"
        return cpus if self.quota is None else f"{cpus}, quota {self.quota:g}"


class AllowanceWatch:
    """Notices a changed allowance once it has been the same for two looks.

    Somebody who moves a process from one cpuset to another changes masks several times on the
    way; planning for each of them would replace the workers several times. What is told is told
    again at every look, until a plan was made for it.

    Args:
        allowance: what the plan was made for.
    """

    def __init__(self, allowance: Allowance) -> None:
        self._planned = allowance
        self._seen = allowance
        self._failed: Allowance | None = None
        self._failures = 0
        self._again_s = 0.0

    def look(self, now: Allowance, now_s: float) -> Allowance | None:
        """The new allowance while the plan does not fit it and is worth a try; else None.

        Args:
            now: the allowance.
            now_s: monotonic seconds.
        """
        settled, self._seen = now == self._seen, now
        if not settled or now == self._planned:
            return None
        return None if now == self._failed and now_s < self._again_s else now

    def planned(self, allowance: Allowance) -> None:
        """The plan fits this one."""
        self._planned = allowance
        self._failed, self._failures = None, 0

    def failed(self, allowance: Allowance, now_s: float) -> None:
        """No plan could be made for this one, or its workers did not start: later, once more."""
        self._failures = self._failures + 1 if allowance == self._failed else 1
        self._failed = allowance
        self._again_s = now_s + _RETRY.delay_s(self._failures)


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
