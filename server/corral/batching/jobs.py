"""Requests and batches as the batcher sees them: no payload, no socket, no clock."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec

from corral.batching.cost_model import CostModel
from corral.priority import Priority
from corral.tensors import Datatype

#: where a job waits
Line = tuple[Priority, Datatype]


class Job(msgspec.Struct, eq=False):
    """A request as the batcher sees it: ``count`` items that are answered together.

    Attributes:
        datatype: of its items, as the engine will see them.
        count: items, 1 or more.
        size_bytes: what the request holds in memory.
        arrived_s: when it came.
        deadline_s: when its answer becomes useless; None for never.
        priority: whether somebody waits for it.
        line: where it waits; from the others.
    """

    datatype: Datatype
    count: int
    size_bytes: int
    arrived_s: float
    deadline_s: float | None = None
    priority: Priority = Priority.INTERACTIVE
    line: Line = (Priority.INTERACTIVE, Datatype.FP32)
    #: items admitted that are not in the queue yet (a picture is being decoded)
    reserved: int = 0
    #: items in the queue
    queued: int = 0
    #: items without a result
    unanswered: int = 0
    #: the weights that its parts were answered by; None while it has none
    answered_by: set[str] | None = None
    #: settled, one way or another: nothing more is run for it
    done: bool = False

    def __post_init__(self) -> None:
        self.line = (self.priority, self.datatype)
        self.unanswered = self.count


J = TypeVar("J", bound=Job)


class Span(msgspec.Struct, Generic[J]):
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


class Batch(msgspec.Struct, Generic[J]):
    """What a worker is to run: items of one line, as many as a compiled size."""

    number: int
    worker: int
    datatype: Datatype
    count: int
    spans: list[Span[J]]
    formed_s: float
    #: the weights that its worker answers by
    generation: str = ""


def is_hopeless(job: Job, costs: CostModel, now_s: float) -> bool:
    """Whether even the fastest answer would come after the deadline."""
    return job.deadline_s is not None and now_s + costs.fastest_one_s(job.datatype) > job.deadline_s


def items_in(spans: Sequence[Span[J]]) -> int:
    """How many items that is."""
    items = 0
    for span in spans:
        items += span.stop - span.start
    return items


def size_in_time(
    spans: Sequence[Span[J]], datatype: Datatype, costs: CostModel, now_s: float
) -> int:
    """The largest compiled size within ``spans`` that makes none of them late."""
    size = costs.size_at_most(items_in(spans))
    while size > 1:
        left, tightest_s = size, math.inf
        for span in spans:
            if span.job.deadline_s is not None:
                tightest_s = min(tightest_s, span.job.deadline_s)
            left -= len(span)
            if left <= 0:
                break
        if now_s + costs.expected_s(datatype, size) <= tightest_s:
            break
        size = costs.size_at_most(size - 1)
    return size
