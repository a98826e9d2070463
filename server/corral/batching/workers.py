"""The workers of a queue: what a batch costs each of them, and until when it is busy. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from corral.batching.cost_model import CostModel
from corral.batching.jobs import Job
from corral.tensors import Datatype

#: no batch has come back from another process sooner than this, however little it computes
_LEAST_ROUND_TRIP_S = 20e-6


class Workers:
    """Workers by their number. Times are monotonic seconds.

    Args:
        datatypes: those that batches have.
        cap: see ``cap``.
    """

    def __init__(self, datatypes: Sequence[Datatype], cap: int | None = None) -> None:
        self._datatypes = datatypes
        self._cap = cap
        #: what batches cost, by worker
        self.costs: dict[int, CostModel] = {}
        self._busy_until_s: dict[int, float] = {}
        #: no worker has been expected to be busy for longer
        self._latest_s = 0.0

    def __len__(self) -> int:
        return len(self.costs)

    def add(self, worker: int, costs: CostModel) -> None:
        """A worker that is free."""
        costs.cap(self._cap)
        self.costs[worker] = costs
        self._busy_until_s[worker] = 0.0

    def cap(self, cap: int | None) -> None:
        """Batches hold at most so many items from now on; None: as many as are compiled."""
        self._cap = cap
        for costs in self.costs.values():
            costs.cap(cap)

    def remove(self, worker: int) -> None:
        """The worker is gone; nothing happens if it is gone already."""
        self.costs.pop(worker, None)
        self._busy_until_s.pop(worker, None)

    def any_costs(self) -> CostModel | None:
        """The costs of one of them; None where there are none."""
        return next(iter(self.costs.values()), None)

    def is_busy_until(self, worker: int, until_s: float) -> None:
        """The worker, if it is not gone, is expected to be free at that time."""
        if worker in self._busy_until_s:
            self._busy_until_s[worker] = until_s
            self._latest_s = max(self._latest_s, until_s)

    def others_free_s(self, worker: int, now_s: float) -> list[float]:
        """Seconds until each worker but this one is free."""
        return [
            max(0.0, until_s - now_s)
            for other, until_s in self._busy_until_s.items()
            if other != worker
        ]

    def is_in_time(self, job: Job, queued: int, now_s: float) -> bool:
        """Whether a job is surely answered by its deadline, as far as one can tell at once.

        Where it says no, ``waiting_s`` and ``fastest_s``, which look at each worker, may say so.

        Args:
            job: it has a deadline.
            queued: items that wait already.
            now_s: the time.
        """
        if (costs := self.any_costs()) is None or job.deadline_s is None:
            return False
        most_s = queued * costs.item_s(job.datatype) + costs.fastest_s(job.datatype, job.count)
        return max(now_s, self._latest_s) + most_s + _LEAST_ROUND_TRIP_S < job.deadline_s

    def waiting_s(self, datatype: Datatype, queued: int, now_s: float) -> float:
        """How long a request that came now would wait for a worker, as far as one can tell.

        Args:
            datatype: of the request.
            queued: items that wait already.
            now_s: the time.
        """
        if not self.costs:
            return 0.0
        busy_s = [max(0.0, until_s - now_s) for until_s in self._busy_until_s.values()]
        if not queued:
            return min(busy_s)
        item_s = min(costs.item_s(datatype) for costs in self.costs.values())
        return (sum(busy_s) + queued * item_s) / len(self.costs)

    def least_s(self) -> float:
        """The least time that any request takes; 0 while there are no workers."""
        if not self.costs:
            return 0.0
        fastest_s = min(
            costs.fastest_one_s(d) for costs in self.costs.values() for d in self._datatypes
        )
        return max(fastest_s, _LEAST_ROUND_TRIP_S)

    def fastest_s(self, job: Job) -> float:
        """The least time that idle workers need for the job; 0 while there are none."""
        if not self.costs:
            return 0.0
        share = math.ceil(job.count / len(self.costs))
        fastest_s = min(costs.fastest_s(job.datatype, share) for costs in self.costs.values())
        return max(fastest_s, _LEAST_ROUND_TRIP_S)
