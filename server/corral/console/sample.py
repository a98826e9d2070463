"""The counters that people look at, read at one moment. Two of them make a frame."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from corral.metrics.counters import BATCH_BUCKETS, FAILURES, TIME_BUCKETS_S, Counts
from corral.tensors import View

#: batches of more items than the counters tell apart
_SIZES = range(1, BATCH_BUCKETS[-1] + 1)


class Place(msgspec.Struct, frozen=True):
    """Where a worker's counters lie."""

    #: the worker's number
    id: int
    cell: int
    #: index in the cell's counter page
    slot: int


class _Places(msgspec.Struct, frozen=True):
    """The part of a view that says where counters lie."""

    workers: list[Place]


_decoder = msgspec.json.Decoder(_Places)


def places(view: bytes) -> list[Place]:
    """Where the workers of a ``view.View``, as JSON, have their counters.

    Raises:
        msgspec.DecodeError: it is none.
    """
    return _decoder.decode(view).workers


class WorkerCounts(msgspec.Struct, frozen=True):
    """What one worker has run since the server started."""

    id: int
    batches: int
    items: int
    #: its engine's time
    busy_ns: int


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. Everything but the gauges only grows while one supervisor lives."""

    #: on the monotonic clock
    at_s: float
    received: int
    #: requests answered, by outcome: ``succeeded`` and counters.FAILURES
    outcomes: dict[str, int]
    #: answered with a result
    items: int
    #: run again because their worker died
    retried: int
    #: gauges: requests under way, items that wait for a worker, the latter by cell
    inflight: int
    waiting: int
    queues: list[int]
    #: counts by bucket of TIME_BUCKETS_S, and one beyond
    request_times: list[int]
    queue_times: list[int]
    #: batches by their size, where there was any
    sizes: dict[int, int]
    workers: list[WorkerCounts]


def take(counts: Counts, places: Iterable[Place], *, cells: int, at_s: float) -> Sample:
    """Reads what there is.

    Args:
        counts: a copy of all pages.
        places: the workers to read; one whose cell is not there is left out.
        cells: number of pages.
        at_s: when the copy was made, on the monotonic clock.
    """

    def views(name: str) -> int:
        return sum(counts.read(f"view/{view}/{name}") for view in View)

    def times(name: str) -> list[int]:
        return [counts.read(f"hist/{name}/{i}") for i in range(len(TIME_BUCKETS_S) + 1)]

    outcomes = {"succeeded": views("succeeded")}
    outcomes |= {reason: views(f"failure_{reason}") for reason in FAILURES}
    sizes = {size: counts.read(f"size/{size}/executions") for size in _SIZES}
    return Sample(
        at_s=at_s,
        received=views("received"),
        outcomes=outcomes,
        items=views("inferences"),
        retried=counts.read("cell/retried_items"),
        inflight=views("inflight"),
        waiting=views("pending_items"),
        queues=[counts.queued(cell) for cell in range(cells)],
        request_times=times("request_seconds"),
        queue_times=times("queue_seconds"),
        sizes={size: count for size, count in sizes.items() if count},
        workers=[_worker(counts, place) for place in places if place.cell < cells],
    )


def _worker(counts: Counts, place: Place) -> WorkerCounts:
    def read(name: str) -> int:
        return counts.read(f"slot/{place.slot}/{name}", place.cell)

    return WorkerCounts(place.id, read("batches"), read("items"), read("busy_ns"))
