"""Requests and batches as the batcher sees them: no payload, no socket, no clock."""

from __future__ import annotations

import dataclasses
from typing import Generic, TypeVar

from corral.tensors import Datatype


class Job:
    """A request as the batcher sees it: ``count`` items that are answered together.

    Args:
        datatype: of its items, as the engine will see them.
        count: items, 1 or more.
        size_bytes: what the request holds in memory.
        arrived_s: when it came.
        deadline_s: when its answer becomes useless; None for never.
    """

    __slots__ = (
        "arrived_s",
        "count",
        "datatype",
        "deadline_s",
        "done",
        "queued",
        "reserved",
        "size_bytes",
        "unanswered",
    )

    def __init__(
        self,
        datatype: Datatype,
        count: int,
        size_bytes: int,
        arrived_s: float,
        deadline_s: float | None = None,
    ) -> None:
        self.datatype = datatype
        self.count = count
        self.size_bytes = size_bytes
        self.arrived_s = arrived_s
        self.deadline_s = deadline_s
        #: items admitted that are not in the queue yet (a picture is being decoded)
        self.reserved = 0
        #: items in the queue
        self.queued = 0
        #: items without a result
        self.unanswered = count
        #: settled, one way or another: nothing more is run for it
        self.done = False


J = TypeVar("J", bound=Job)


@dataclasses.dataclass(slots=True)
class Span(Generic[J]):
    """Consecutive items ``start`` to ``stop`` of a job, as they lie in the queue or a batch.

    ``alone``: a worker died with it; it shares no batch with another job, and ends its job when
    a worker dies with it again.
    """

    job: J
    start: int
    stop: int
    order: int
    alone: bool = False

    def __len__(self) -> int:
        return self.stop - self.start


@dataclasses.dataclass(slots=True)
class Batch(Generic[J]):
    """What a worker is to run: items of one datatype, as many as a compiled size."""

    number: int
    worker: int
    datatype: Datatype
    count: int
    spans: list[Span[J]]
    formed_s: float
