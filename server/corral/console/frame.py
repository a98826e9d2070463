"""What happened between two samples: rates, quantiles, each worker's use. Pure."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping, Sequence

import msgspec

from corral.console.sample import Sample, WorkerCounts
from corral.metrics.counters import TIME_BUCKETS_S

#: what rates, quantiles and use are taken over
WINDOW_S = 5.0
_QUANTILES = (0.5, 0.9, 0.99)


class Times(msgspec.Struct, frozen=True):
    """Quantiles of a time in milliseconds, estimated within the counters' buckets."""

    p50: float
    p90: float
    p99: float


class WorkerFrame(msgspec.Struct, frozen=True):
    """One worker."""

    id: int
    #: part of the time that its engine ran, 0 to 1
    use: float
    items_s: float
    #: mean items of its batches; 0 where there was none
    batch: float


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """The server over the last seconds; rates are a second's."""

    #: unix time of its end
    at_s: float
    #: what it is taken over; 0 where there was one sample only, and everything but gauges is 0
    span_s: float
    received_s: float
    #: requests answered, by outcome, a second
    outcomes_s: dict[str, float]
    items_s: float
    batches_s: float
    #: mean items of a batch; 0 where there was none
    batch: float
    #: batches by size, in the span
    sizes: dict[int, int]
    #: arrival to answer of requests with a result; None where there was none
    latency_ms: Times | None
    #: arrival to the start of a request's first batch
    queue_ms: Times | None
    inflight: int
    waiting: int
    queues: list[int]
    #: mean of the workers' use, 0 to 1
    use: float
    workers: list[WorkerFrame]
    #: since the server started: requests by outcome, and items run again
    total: dict[str, int]
    retried: int

    @property
    def answered_s(self) -> float:
        """Requests answered with a result, a second."""
        return self.outcomes_s["succeeded"]

    @property
    def refused_s(self) -> float:
        """Those that there was no room or no time for."""
        return self.outcomes_s["refused"] + self.outcomes_s["expired"]

    @property
    def failed_s(self) -> float:
        """Those that the server could not answer."""
        return self.outcomes_s["failed"] + self.outcomes_s["unavailable"]

    @property
    def invalid_s(self) -> float:
        """Those that could not be answered, or whose client left."""
        return self.outcomes_s["invalid"] + self.outcomes_s["cancelled"]


#: by worker, a moment and what it had run by then
Since = Mapping[int, tuple[float, WorkerCounts]]


def between(before: Sample, after: Sample, *, unix_s: float, since: Since | None = None) -> Frame:
    """The frame from one sample to a later one.

    Args:
        before: the earlier; the same as ``after`` where there is no other.
        after: the later, of the same server.
        unix_s: when that was, in unix time.
        since: what each worker's numbers are taken over; None: from ``before`` on.
    """
    span_s = after.at_s - before.at_s

    def rate(was: int, now: int) -> float:
        return max(0, now - was) / span_s if span_s > 0 else 0.0

    if since is None:
        since = {worker.id: (before.at_s, worker) for worker in before.workers}
    workers = [_worker(now, after.at_s, since) for now in after.workers]
    sizes = {
        size: ran
        for size, count in after.sizes.items()
        if (ran := count - before.sizes.get(size, 0)) > 0
    }
    batches = sum(sizes.values())
    return Frame(
        at_s=unix_s,
        span_s=span_s,
        received_s=rate(before.received, after.received),
        outcomes_s={
            name: rate(before.outcomes.get(name, 0), count)
            for name, count in after.outcomes.items()
        },
        items_s=rate(before.items, after.items),
        batches_s=rate(0, batches),
        batch=_mean(sum(size * ran for size, ran in sizes.items()), batches),
        sizes=sizes,
        latency_ms=_times(before.request_times, after.request_times),
        queue_ms=_times(before.queue_times, after.queue_times),
        inflight=after.inflight,
        waiting=after.waiting,
        queues=after.queues,
        use=_mean(sum(worker.use for worker in workers), len(workers)),
        workers=workers,
        total=after.outcomes,
        retried=after.retried,
    )


def _mean(total: float, count: int) -> float:
    return total / count if count else 0.0


def _worker(now: WorkerCounts, at_s: float, since: Since) -> WorkerFrame:
    # One that is new has nothing to compare with yet.
    then_s, then = since.get(now.id, (at_s, now))
    span_s = at_s - then_s
    if span_s <= 0:
        return WorkerFrame(now.id, 0.0, 0.0, 0.0)
    # A slot that another worker had before may have counted more.
    batches, items = max(0, now.batches - then.batches), max(0, now.items - then.items)
    # A batch counts when it ends: one that began before the span can overfill it.
    use = min(1.0, max(0.0, (now.busy_ns - then.busy_ns) / (span_s * 1e9)))
    return WorkerFrame(now.id, use, items / span_s, _mean(items, batches))


def _times(before: Sequence[int], after: Sequence[int]) -> Times | None:
    counts = [max(0, now - was) for was, now in zip(before, after, strict=True)]
    if not any(counts):
        return None
    return Times(*(quantile(counts, q) * 1000 for q in _QUANTILES))


def quantile(counts: Sequence[int], q: float) -> float:
    """A quantile of a histogram in seconds, as Prometheus estimates it: linear within a bucket.

    Args:
        counts: by bucket of TIME_BUCKETS_S, and one beyond, of which the lower bound is told; not
            all of them 0.
        q: 0 to 1.
    """
    rank = q * sum(counts)
    reached = list(itertools.accumulate(counts))
    at = next(i for i, total in enumerate(reached) if total >= rank and counts[i])
    if at == len(TIME_BUCKETS_S):
        return TIME_BUCKETS_S[-1]
    low = TIME_BUCKETS_S[at - 1] if at else 0.0
    inside = (rank - (reached[at] - counts[at])) / counts[at]
    return low + (TIME_BUCKETS_S[at] - low) * inside


class Window:
    """The samples of the last seconds, and the frame that they make.

    Args:
        span_s: how far it looks back.
    """

    def __init__(self, span_s: float = WINDOW_S) -> None:
        self._span_s = span_s
        self._samples: deque[Sample] = deque()

    def add(self, sample: Sample, *, unix_s: float) -> Frame:
        """Adds a sample, the latest; returns the frame that ends with it."""
        samples = self._samples
        if samples and is_another(samples[-1], sample):
            samples.clear()
        samples.append(sample)
        while len(samples) > 2 and sample.at_s - samples[1].at_s >= self._span_s:
            samples.popleft()
        since: dict[int, tuple[float, WorkerCounts]] = {}
        # A worker that came within the window is measured from then on.
        for one in samples:
            for worker in one.workers:
                since.setdefault(worker.id, (one.at_s, worker))
        return between(samples[0], sample, unix_s=unix_s, since=since)


def is_another(before: Sample, after: Sample) -> bool:
    """Whether two samples are of different servers: what only grows has become less."""
    fewer = after.received < before.received or after.at_s < before.at_s
    return fewer or any(
        count < before.outcomes.get(name, 0) for name, count in after.outcomes.items()
    )
