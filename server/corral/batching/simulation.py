"""The queue of a cell, simulated: the batcher's own rules on a schedule and measured times. Pure.

Requests of one item, one datatype and no deadline, which is what a rate under a latency bound is
promised for. tests/unit/batching holds every decision to those of the real ``Batcher``.
"""

from __future__ import annotations

import bisect
import dataclasses
import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from corral.batching import backlog
from corral.batching.contention import slowdown
from corral.batching.policy import Policy

#: when a worker is through with a batch: its number, when it begins, and seconds at its usual pace
Ends = Callable[[int, float, float], float]


def steady(_: int, begins_s: float, spent_s: float) -> float:
    """Ends of workers that never leave their pace."""
    return begins_s + spent_s


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimulatedCell:
    """A cell as the simulator knows it.

    Attributes:
        policy: of its queue.
        workers: that it has.
        services_s: seconds that a worker has a batch while all others compute, by compiled size
            from 1: what was measured, each as likely as the others.
        lone: what a batch takes while no other worker computes, as a share of that, above 0.
        taken_s: seconds that a request takes from every worker, beside its batch: its frontend and
            its client compute on the workers' cores.
    """

    policy: Policy
    workers: int
    services_s: Mapping[int, Sequence[float]]
    lone: float = 1.0
    taken_s: float = 0.0

    @property
    def sizes(self) -> list[int]:
        """The compiled sizes that the policy allows, ascending."""
        return self.policy.capped(sorted(self.services_s))

    def mean_s(self, size: int) -> float:
        """Mean seconds of a batch."""
        services_s = self.services_s[size]
        return math.fsum(services_s) / len(services_s)

    @property
    def most_per_s(self) -> float:
        """The rate that no policy can exceed: all workers busy with their best size."""
        most = self.workers * max(size / self.mean_s(size) for size in self.sizes)
        # A batch is 1 / (1 - rate * taken_s) times as long: solved for the rate.
        return most / (1 + most * self.taken_s)

    def at(self, rate: float) -> SimulatedCell:
        """The same at so many requests a second, with times as they are there."""
        if not self.taken_s:
            return self
        factor = slowdown(rate, self.taken_s)
        # A worker that rests leaves its cores to the frontend: nothing is taken from the others.
        lone = self.lone / factor if self.workers > 1 else self.lone
        return dataclasses.replace(self.slower(factor), lone=lone, taken_s=0.0)

    def slower(self, factor: float) -> SimulatedCell:
        """The same with times that are so many times as long."""
        services_s = {n: [spent * factor for spent in s] for n, s in self.services_s.items()}
        return dataclasses.replace(self, services_s=services_s)


@dataclasses.dataclass(frozen=True, slots=True)
class Simulated:
    """What became of a schedule.

    Attributes:
        sojourns_s: of each request in the order of arrival, waiting and service; infinite for
            those that were refused.
        refused: how many.
        batches: how many batches there were of each size.
    """

    sojourns_s: list[float]
    refused: int
    batches: Mapping[int, int]


def simulate(
    cell: SimulatedCell, arrivals_s: Sequence[float], seed: int = 0, ends: Ends = steady
) -> Simulated:
    """Serves a schedule.

    Args:
        cell: what serves.
        arrivals_s: ascending.
        seed: of the service times.
        ends: of batches, on a machine whose pace changes.
    """
    return _Run(cell, arrivals_s, seed, ends).serve()


class _Run:
    """One pass over a schedule."""

    def __init__(
        self, cell: SimulatedCell, arrivals_s: Sequence[float], seed: int, ends: Ends
    ) -> None:
        self._arrivals_s = arrivals_s
        self._ends = ends
        self._policy = cell.policy
        self._sizes = cell.sizes
        self._workers = cell.workers
        self._lone = cell.lone
        self._services_s = {size: list(cell.services_s[size]) for size in self._sizes}
        self._mean_s = {size: cell.mean_s(size) for size in self._sizes}
        self._draw = random.Random(f"times {seed}").random  # noqa: S311 - chance, and no secret
        self._waiting: deque[int] = deque()
        self._next = 0
        self._sojourns_s = [math.inf] * len(arrivals_s)
        self._refused = 0
        #: until when each worker should be busy, as the batcher expects it
        self._expected_s = [0.0] * cell.workers

    def serve(self) -> Simulated:
        free = [(0.0, worker) for worker in range(self._workers)]
        batches = dict.fromkeys(self._sizes, 0)
        arrivals_s, waiting, draw = self._arrivals_s, self._waiting, self._draw
        while waiting or self._next < len(arrivals_s):
            free_s, worker = free[0]
            now_s = self._formed_s(free_s)
            if now_s is None:
                break
            size = self._size(worker, now_s)
            services_s = self._services_s[size]
            spent_s = services_s[int(draw() * len(services_s))] * self._share(free, now_s)
            end_s = self._ends(worker, now_s, spent_s)
            self._expected_s[worker] = now_s + self._mean_s[size]
            heapq.heapreplace(free, (end_s, worker))
            batches[size] += 1
            for _ in range(size):
                number = waiting.popleft()
                self._sojourns_s[number] = end_s - arrivals_s[number]
        return Simulated(self._sojourns_s, self._refused, batches)

    def _share(self, free: Sequence[tuple[float, int]], now_s: float) -> float:
        """Of its time while all compute, what a batch takes beside those that compute now."""
        if self._lone == 1.0 or self._workers == 1:
            return 1.0
        resting = -1
        # A loop of its own takes half as long as a sum of a generator, for each batch.
        for until_s, _ in free:
            if until_s <= now_s:
                resting += 1
        return 1.0 - (1.0 - self._lone) * resting / (self._workers - 1)

    def _formed_s(self, free_s: float) -> float | None:
        """When the worker that is free first gets a batch; None where all that is left is refused.

        What arrives until then joins the queue.
        """
        arrivals_s, waiting = self._arrivals_s, self._waiting
        while not waiting:
            if self._next == len(arrivals_s):
                return None
            # A worker that is idle takes what comes before it can see what comes next.
            self._admit()
        now_s = max(free_s, arrivals_s[waiting[0]])
        self._admit_until(free_s)
        delay_s, largest = self._policy.max_delay_s, self._sizes[-1]
        if not delay_s or len(waiting) >= largest:
            return now_s
        due_s = arrivals_s[waiting[0]] + delay_s
        while len(waiting) < largest and self._next < len(arrivals_s):
            if arrivals_s[self._next] > due_s:
                break
            now_s = max(now_s, arrivals_s[self._next])
            self._admit()
        return now_s if len(waiting) >= largest else max(now_s, due_s)

    def _admit_until(self, time_s: float) -> None:
        while self._next < len(self._arrivals_s) and self._arrivals_s[self._next] <= time_s:
            self._admit()

    def _admit(self) -> None:
        if len(self._waiting) < self._policy.max_queue:
            self._waiting.append(self._next)
        else:
            self._refused += 1
        self._next += 1

    def _size(self, worker: int, now_s: float) -> int:
        """The batcher's ``_share``, in a compiled size."""
        live, sizes = len(self._waiting), self._sizes
        if live == 1 or len(sizes) == 1:
            return 1
        if self._policy.max_delay_s:
            share = live
        elif self._policy.real_time:
            others_s = [
                max(0.0, until_s - now_s)
                for other, until_s in enumerate(self._expected_s)
                if other != worker
            ]
            share = backlog.batch_size(live, live, others_s, sizes, self._mean_s.__getitem__)
        else:
            share = math.ceil(live / self._workers)
        return sizes[bisect.bisect_right(sizes, share) - 1]
