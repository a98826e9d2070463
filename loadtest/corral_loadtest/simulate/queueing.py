"""What queueing alone costs: c workers, arrivals, service times, a policy; no overhead at all.

Pure and deterministic by seed. Times are in the caller's unit: seconds, milliseconds, or services.
A sojourn is waiting and service. It is the floor that a measured latency stands beside.
"""

from __future__ import annotations

import dataclasses
import enum
import heapq
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]
Cost = Callable[[int], float]
#: how many a free worker takes, by how many are queued and by when each other worker is free
Taker = Callable[[int, Sequence[float]], int]


class Policy(enum.StrEnum):
    """Who serves what.

    SHARED: one queue, one request at a time, to whoever is free.
    FAIR: one queue; a free worker takes ⌈queued / workers⌉, at most the largest batch.
    GREEDY: one queue; a free worker takes all there is, at most the largest batch.
    RANDOM: every request is bound to a worker by lot as it arrives, as SO_REUSEPORT does.
    """

    SHARED = "shared"
    FAIR = "fair"
    GREEDY = "greedy"
    RANDOM = "random"


@dataclasses.dataclass(frozen=True)
class Sojourns:
    """Percentiles over all simulated requests, in the caller's unit."""

    p50: float
    p90: float
    p99: float
    p999: float
    mean: float


def poisson_arrivals(rate: float, count: int, seed: int = 0) -> Times:
    """Ascending arrival times of a Poisson process; shape [count]."""
    gaps = np.random.default_rng(seed).exponential(1 / rate, count)
    return np.cumsum(gaps)


def exponential_services(mean: float, count: int, seed: int = 1) -> Times:
    """Independent exponential service times; shape [count]."""
    return np.random.default_rng(seed).exponential(mean, count)


def shared(arrivals: Times, services: Times, workers: int) -> Times:
    """Sojourns with one queue, first come first served, a request at a time; shape [n].

    Args:
        arrivals: ascending, shape [n].
        services: of each request, shape [n].
        workers: 1 or more.
    """
    free = [0.0] * workers
    found = np.empty(len(arrivals))
    times = zip(arrivals.tolist(), services.tolist(), strict=True)
    for number, (arrival, service) in enumerate(times):
        end = max(arrival, free[0]) + service
        heapq.heapreplace(free, end)
        found[number] = end - arrival
    return found


def random_split(arrivals: Times, services: Times, workers: int, seed: int = 2) -> Times:
    """Sojourns where each request waits for the one worker that chance gave it; shape [n]."""
    chosen = np.random.default_rng(seed).integers(0, workers, len(arrivals))
    found = np.empty(len(arrivals))
    for worker in range(workers):
        mine = chosen == worker
        found[mine] = shared(arrivals[mine], services[mine], 1)
    return found


def batched(
    arrivals: Times, cost: Cost, workers: int, policy: Policy | Taker, max_batch: int
) -> Times:
    """Sojourns where a free worker takes several requests at once; shape [n].

    Args:
        arrivals: ascending, shape [n].
        cost: what a batch of n takes.
        workers: 1 or more.
        policy: FAIR, GREEDY, or a rule; it gets the others' times from now, none below 0.
        max_batch: the most requests one batch holds.
    """
    times = arrivals.tolist()
    total = len(times)
    free = [0.0] * workers
    ends = np.empty(total)
    head = tail = 0
    while head < total:
        now = max(free[0], times[head])
        while tail < total and times[tail] <= now:
            tail += 1
        queued = tail - head
        if not isinstance(policy, Policy):
            wanted = policy(queued, [max(0.0, time - now) for time in free[1:]])
        else:
            wanted = -(-queued // workers) if policy is Policy.FAIR else queued
        size = min(wanted, max_batch)
        end = now + cost(size)
        heapq.heapreplace(free, end)
        ends[head : head + size] = end
        head += size
    return ends - arrivals


def sojourns(
    arrivals: Times,
    *,
    workers: int,
    service: float | Times,
    policy: Policy = Policy.SHARED,
    cost: Cost | None = None,
    max_batch: int = 8,
    seed: int = 0,
) -> Times:
    """Every request's sojourn, in order of arrival; shape [n].

    Args:
        arrivals: ascending, shape [n].
        workers: 1 or more.
        service: of a request alone, one for all or of each.
        policy: who serves what.
        cost: what a batch of n takes; by default n services, so that batching gains nothing.
        max_batch: for the policies with batches.
        seed: of the random split.

    Raises:
        ValueError: no worker, or service times of each request with a policy that batches.
    """
    if workers < 1 or max_batch < 1:
        raise ValueError("a queue needs a worker and batches of one or more")
    if policy in (Policy.FAIR, Policy.GREEDY):
        if isinstance(service, np.ndarray):
            raise ValueError("batches cost what their size says, not what each request takes")
        alone = service
        return batched(arrivals, cost or (lambda n: n * alone), workers, policy, max_batch)
    times = np.broadcast_to(np.asarray(service, dtype=np.float64), arrivals.shape)
    if policy is Policy.RANDOM:
        return random_split(arrivals, times, workers, seed)
    return shared(arrivals, times, workers)


def percentiles(found: Times | Sequence[float], discard: float = 0.0) -> Sojourns:
    """Percentiles of sojourns; ``discard`` is the share at the begin that an empty start spoils."""
    kept = np.asarray(found)[int(len(found) * discard) :]
    p50, p90, p99, p999 = np.percentile(kept, [50, 90, 99, 99.9]).tolist()
    return Sojourns(p50=p50, p90=p90, p99=p99, p999=p999, mean=float(kept.mean()))


def under_poisson(
    load: float,
    *,
    workers: int,
    policy: Policy = Policy.SHARED,
    cost: Cost | None = None,
    max_batch: int = 8,
    count: int = 200_000,
    seed: int = 0,
) -> Sojourns:
    """Percentiles in units of one service, at ``load`` of what the workers carry one by one."""
    arrivals = poisson_arrivals(load * workers, count, seed)
    found = sojourns(
        arrivals,
        workers=workers,
        service=1.0,
        policy=policy,
        cost=cost,
        max_batch=max_batch,
        seed=seed + 1,
    )
    return percentiles(found, discard=0.05)


def erlang_c(workers: int, load: float) -> float:
    """The probability that a request of an M/M/c queue waits at all."""
    offered = workers * load
    inverse = 1.0
    for n in range(1, workers + 1):
        inverse = 1.0 + inverse * n / offered  # 1 / Erlang B, by its recursion
    blocked = 1 / inverse
    return blocked / (1 - load * (1 - blocked))


def mean_wait_m_m_c(workers: int, load: float) -> float:
    """Mean wait of an M/M/c queue in units of one mean service (Erlang C)."""
    return erlang_c(workers, load) / (workers * (1 - load))


def mean_wait_m_d_1(load: float) -> float:
    """Mean wait of an M/D/1 queue in units of one service (Pollaczek and Khinchine)."""
    return load / (2 * (1 - load))
