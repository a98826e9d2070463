"""Keeps a latency bound: looks at the rate and at what batches take, and caps batches by that.

The counters that frontends write anyway say everything, and the queue simulator what follows: up to
which rate the bound is kept, and with which cap the 99th percentile is lowest at the rate that
comes. Frontends are told the cap. It is computed in a thread of the lowest priority, and only when
the rate or the times have changed; without a bound nothing happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import threading
import time
from collections import deque
from collections.abc import Callable

from corral.batching.contention import taken_of
from corral.batching.latency_bound import Kept, keep_bound, spread
from corral.batching.policy import queue_policy
from corral.batching.prediction import poisson_gaps
from corral.ipc.messages import CapBatches
from corral.ipc.status import BoundStatus
from corral.metrics.counters import Counts, Pages
from corral.settings import Settings
from corral.supervisor import frontend_link
from corral.supervisor.children import Fleet
from corral.supervisor.deployment import Deployment
from corral.system import procfs
from corral.tensors import View

_LOOK_S = 1.0
#: the rate is that of so long, and so are the times
_WINDOW_S = 10.0
#: batches of a size that say what one takes
_ENOUGH = 10
#: requests that say what one costs a frontend: CPU time is counted in ticks of 10 ms
_ENOUGH_REQUESTS = 100
#: changes that are worth a new computation, as shares
_CHANGED = 0.1
_REQUESTS = 2000
_LOWEST_PRIORITY = 19


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Seen:
    """What a computation is made of."""

    settings: Settings
    bound_s: float
    rate: float
    workers: int
    cells: int
    overhead_s: float
    services_s: dict[int, list[float]]
    #: by each request from every worker: its frontend computes on their cores
    taken_s: float

    def asks_for(self, settings: Settings) -> bool:
        """Whether these settings ask for the same bound, by the same rules."""
        mine = self.settings
        return (mine.queue, mine.model.mode) == (settings.queue, settings.model.mode)

    def is_like(self, other: _Seen) -> bool:
        """Whether nothing has changed that is worth a computation."""
        alike = self.bound_s == other.bound_s and self.services_s.keys() == other.services_s.keys()
        same = (self.workers, self.cells, self.settings.queue, self.settings.model.mode)
        if not alike or same != (
            other.workers, other.cells, other.settings.queue, other.settings.model.mode
        ):  # fmt: skip
            return False
        pairs = [(self.rate, other.rate)]
        pairs += [(self._cost_s(n), other._cost_s(n)) for n in self.services_s]
        return all(abs(one - two) <= _CHANGED * max(one, two) for one, two in pairs)

    def _cost_s(self, size: int) -> float:
        """Mean seconds of a worker for a batch and one request's frontend."""
        samples_s = self.services_s[size]
        return sum(samples_s) / len(samples_s) + self.taken_s

    def compute(self) -> Kept:
        """See batching.latency_bound; for a thread."""
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)
        per_cell = -(-self.workers // self.cells)
        found = keep_bound(
            queue_policy(self.settings, per_cell, max(self.services_s)),
            per_cell,
            self.services_s,
            overhead_s=self.overhead_s,
            bound_s=self.bound_s,
            rate=self.rate / self.cells,
            gaps=poisson_gaps(_REQUESTS),
            taken_s=self.taken_s * self.cells,
        )
        return dataclasses.replace(found, keeps_per_s=found.keeps_per_s * self.cells)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Look:
    """The counters at a moment, and the CPU seconds of each frontend by its pid."""

    at_s: float
    counts: Counts
    frontends_s: dict[int, float]

    def frontends_since(self, before: _Look) -> float | None:
        """CPU seconds of all frontends since then; None where one of them is another process."""
        if self.frontends_s.keys() != before.frontends_s.keys():
            return None
        return sum(self.frontends_s.values()) - sum(before.frontends_s.values())


class BoundKeeper:
    """Looks once a second, on the running loop.

    Args:
        fleet: its frontends and workers.
        pages: the counters.
        deployment: whose settings and plan hold now.
        changed: called when the status has changed.
    """

    def __init__(
        self,
        fleet: Fleet,
        pages: Pages,
        deployment: Callable[[], Deployment],
        changed: Callable[[], None],
    ) -> None:
        self._fleet = fleet
        self._pages = pages
        self._deployment = deployment
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._looks: deque[_Look] = deque()
        self._computed: _Seen | None = None
        #: what was computed last, and of what
        self._kept: tuple[_Seen, Kept] | None = None
        self._task: asyncio.Task[None] | None = None
        self._told: dict[int, tuple[int, int | None]] = {}
        #: how the bound is kept; None without one
        self.status: BoundStatus | None = None
        self._timer = self._loop.call_later(_LOOK_S, self._look)

    def stop(self) -> None:
        """Looks no more."""
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _look(self) -> None:
        self._timer = self._loop.call_later(_LOOK_S, self._look)
        settings = self._deployment().settings
        bound_ms = settings.queue.p99_ms
        if bound_ms is None:
            self._looks.clear()
            self._computed = self._kept = None
            self._show(None)
            return
        look = _Look(
            at_s=time.monotonic(), counts=self._pages.snapshot(), frontends_s=self._frontends_s()
        )
        self._looks.append(look)
        while look.at_s - self._looks[0].at_s > _WINDOW_S:
            self._looks.popleft()
        seen = self._see(bound_ms / 1000)
        rate = 0.0 if seen is None else seen.rate
        if seen is not None and (self._computed is None or not seen.is_like(self._computed)):
            self._begin(seen)
        of, kept = self._kept or (None, None)
        # After a reload what was computed before says nothing of the new bound; its cap holds on.
        known = kept is not None and of is not None and of.asks_for(settings)
        self._show(
            BoundStatus(
                p99_ms=bound_ms,
                keeps_per_s=round(kept.keeps_per_s, 2) if kept is not None and known else None,
                now_per_s=round(rate, 2),
                batch_cap=None if kept is None else kept.batch_cap,
            )
        )

    def _show(self, status: BoundStatus | None) -> None:
        self._tell(None if status is None else status.batch_cap)
        if status != self.status:
            self.status = status
            self._changed()

    def _tell(self, cap: int | None) -> None:
        """Every frontend once: one that came back knows of no cap."""
        for frontend in self._fleet.frontends:
            pid = frontend.process.pid if frontend.process and frontend.life.is_ready else None
            if pid is None or self._told.get(frontend.cell, (pid, None)) == (pid, cap):
                continue
            frontend_link.tell(frontend, CapBatches(most=cap))
            self._told[frontend.cell] = (pid, cap)

    def _begin(self, seen: _Seen) -> None:
        if self._task is not None and not self._task.done():
            return
        self._computed = seen
        self._task = self._loop.create_task(self._compute(seen))

    async def _compute(self, seen: _Seen) -> None:
        self._kept = seen, await asyncio.to_thread(seen.compute)

    def _see(self, bound_s: float) -> _Seen | None:
        """What there is to go by; None before a worker has told what batches take."""
        reports = [worker.report for worker in self._fleet.workers if worker.report]
        if not reports or not reports[0].costs_s:
            return None
        first, last = self._looks[0], self._looks[-1]
        span_s = last.at_s - first.at_s

        def more(key: str) -> int:
            return last.counts.read(key) - first.counts.read(key)

        def views(name: str) -> int:
            return sum(more(f"view/{view}/{name}") for view in View)

        # In the order in which they were measured: the first datatype is the model's own.
        datatype = next(iter(reports[0].costs_s)).partition(":")[0]
        services_s = {}
        for size in reports[0].sizes:
            least_s = reports[0].costs_s.get(f"{datatype}:{size}", 0.0)
            runs, spent_ns = more(f"size/{size}/executions"), more(f"size/{size}/infer_ns")
            mean_s = spent_ns / runs / 1e9 if runs >= _ENOUGH else least_s
            services_s[size] = spread(max(1e-6, min(least_s, mean_s)), max(1e-6, mean_s))
        succeeded = views("succeeded")
        beside_ns = views("success_ns") - views("queue_ns") - views("compute_infer_ns")
        rate = views("admitted") / span_s if span_s else 0.0
        return _Seen(
            settings=self._deployment().settings,
            bound_s=bound_s,
            rate=rate,
            workers=len(reports),
            cells=len(self._fleet.frontends),
            overhead_s=max(0.0, beside_ns / succeeded / 1e9) if succeeded else 0.0,
            services_s=services_s,
            taken_s=self._taken_s(last.frontends_since(first), succeeded, rate),
        )

    def _frontends_s(self) -> dict[int, float]:
        """CPU seconds of each frontend that runs, by its pid."""
        found = {}
        for frontend in self._fleet.frontends:
            if frontend.process is not None:
                with contextlib.suppress(OSError):
                    pid = frontend.process.pid
                    found[pid] = procfs.process_cpu_seconds(pid)
        return found

    def _taken_s(self, frontends_s: float | None, requests: int, rate: float) -> float:
        """What a request takes from every worker; 0 while too few came to tell."""
        if frontends_s is None or requests < _ENOUGH_REQUESTS:
            return 0.0
        plan = self._deployment().plan
        workers = [worker for cell in plan.cells for worker in cell.workers]
        spare = max(0, plan.cpu_budget - sum(worker.cores for worker in workers))
        return taken_of(frontends_s / requests, rate, len(workers), spare)
