"""The batcher: one queue a cell, from which free workers pull.

Pure: data and a clock reading (monotonic seconds) go in, decisions come out; so every decision can
be tested by hand.

No request is bound to a worker before that worker is free. A free worker gets its fair share of
the queue, ceil(queued / workers), capped by its largest compiled batch (the knee of the measured
cost curve) and by the slack of the tightest deadline in the batch. Real-time inference takes one
item, and more only by the rule of ``backlog``. There is no timer unless a queue delay was asked
for.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections import deque
from collections.abc import Sequence
from typing import Generic

from corral.batching import backlog
from corral.batching.cost_model import CostModel
from corral.batching.jobs import Batch, J, Job, Span, size_in_time
from corral.batching.workers import Workers
from corral.errors import DeadlineMissed, QueueFull
from corral.tensors import Datatype

_FULL = "the queue is full"
#: Triton's clients look for the first two words.
_TOO_SHORT = "Deadline Exceeded: it is too short for this model on this machine"
_TOO_LONG = "the queue is too long for this deadline"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Policy:
    """What a queue may hold.

    Attributes:
        max_queue: items that may wait.
        max_bytes: what all unanswered requests may hold in memory.
        max_delay_s: how long the oldest item waits for company; 0 for not at all.
        real_time: a batch is formed only where that answers the backlog sooner; else every free
            worker takes its fair share.
    """

    max_queue: int
    max_bytes: int
    max_delay_s: float = 0.0
    real_time: bool = False


class Batcher(Generic[J]):
    """The queue of one cell and the rules by which it empties.

    The caller settles every job once: through ``complete``, ``lost``, ``expired`` or ``drop``.
    Jobs are of one of the ``datatypes``, and so is a batch.
    """

    def __init__(
        self, policy: Policy, datatypes: Sequence[Datatype] = (Datatype.FP32, Datatype.UINT8)
    ) -> None:
        self._policy = policy
        self._queues: dict[Datatype, deque[Span[J]]] = {d: deque() for d in datatypes}
        self._live: dict[Datatype, int] = dict.fromkeys(datatypes, 0)
        self._reserved = 0
        self._workers = Workers(datatypes)
        self._order = 0
        self._batch_number = 0
        self._expired: list[J] = []
        #: bytes that unsettled jobs hold
        self.held_bytes = 0

    def set_policy(self, policy: Policy) -> None:
        """Other limits hold from now on; what was admitted stays."""
        self._policy = policy

    # --- workers ---

    def add_worker(self, worker: int, costs: CostModel) -> None:
        """A worker that may ask for batches from now on."""
        self._workers.add(worker, costs)

    def remove_worker(self, worker: int) -> None:
        """The worker is gone. What it held is another matter: see ``lost``."""
        self._workers.remove(worker)

    # --- the door ---

    @property
    def queued(self) -> int:
        """Items that wait for a worker, pictures that are being decoded included."""
        return sum(self._live.values()) + self._reserved

    def spans_held(self, datatype: Datatype) -> int:
        """Spans in the queue of a datatype, those of settled jobs included."""
        return len(self._queues[datatype])

    def check_room(self, deadline_s: float | None, now_s: float) -> None:
        """Raises QueueFull where ``admit`` would for the smallest request there is."""
        full = self.queued >= self._policy.max_queue or self.held_bytes >= self._policy.max_bytes
        if not full and (deadline_s is None or not self.queued):
            return
        waiting_s = min(self._workers.waiting_s(d, self.queued, now_s) for d in self._queues)
        if full:
            raise QueueFull(_FULL, _milliseconds(waiting_s))
        # One that is too short whatever the queue is none of its fault, and ``admit`` says so.
        if deadline_s is not None and self._workers.least_s() < deadline_s - now_s < waiting_s:
            raise QueueFull(_TOO_LONG, _milliseconds(waiting_s - deadline_s + now_s))

    def admit(self, job: J, now_s: float) -> None:
        """Reserves a place in the queue; ``enqueue`` or ``drop`` must follow.

        Raises:
            DeadlineMissed: not even an idle cell could answer in time.
            QueueFull: the queue is full, or so long that the answer would be late.
        """
        waiting_s = self._workers.waiting_s(job.datatype, self.queued, now_s)
        if (
            self.queued + job.count > self._policy.max_queue
            or self.held_bytes + job.size_bytes > self._policy.max_bytes
        ):
            raise QueueFull(_FULL, _milliseconds(waiting_s))
        if job.deadline_s is not None:
            slack_s = job.deadline_s - now_s
            fastest_s = self._workers.fastest_s(job)
            if slack_s <= fastest_s:
                raise DeadlineMissed(_TOO_SHORT)
            late_s = waiting_s + fastest_s - slack_s
            if late_s > 0 and waiting_s > 0:
                raise QueueFull(_TOO_LONG, _milliseconds(late_s))
        job.reserved = job.count
        self._reserved += job.count
        self.held_bytes += job.size_bytes

    def enqueue(self, job: J) -> None:
        """Puts an admitted job at the end of the queue; nothing happens if it is settled."""
        if job.done:
            return
        self._reserved -= job.reserved
        job.reserved = 0
        job.queued = job.count
        self._live[job.datatype] += job.count
        self._order += 1
        self._queues[job.datatype].append(Span(job, 0, job.count, self._order))

    def drop(self, job: J) -> None:
        """Settles a job early (cancelled, not decodable): what is queued of it is never run."""
        if job.done:
            return
        self._live[job.datatype] -= job.queued
        self._reserved -= job.reserved
        job.queued = job.reserved = 0
        self._settle(job)
        self._compact(job.datatype)

    def expired(self) -> list[J]:
        """The jobs settled since the last call because their deadline can no longer be met."""
        expired, self._expired = self._expired, []
        return expired

    # --- batches ---

    def take(self, worker: int, now_s: float) -> Batch[J] | None:
        """The next batch for a free worker; None when nothing is to be run now."""
        costs = self._workers[worker]
        while (datatype := self._ready_datatype(costs, now_s)) is not None:
            spans = self._gather(worker, datatype, now_s)
            if not spans:
                continue
            self._batch_number += 1
            count = sum(map(len, spans))
            self._workers.is_busy_until(worker, now_s + costs.expected_s(datatype, count))
            return Batch(self._batch_number, worker, datatype, count, spans, now_s)
        return None

    def look_again_s(self, now_s: float) -> float | None:
        """When ``take`` may give what it does not give now: only with a queue delay."""
        costs = self._workers.any_costs()
        if not self._policy.max_delay_s or costs is None:
            return None
        heads = self._heads(costs, now_s)
        return min((self._ready_at_s(datatype, costs) for datatype in heads), default=None)

    def complete(self, batch: Batch[J], now_s: float, engine_s: float) -> list[J]:
        """A batch came back; returns the jobs that are fully answered now, settled."""
        if batch.worker in self._workers:
            self._workers[batch.worker].observe(batch.datatype, batch.count, engine_s)
            self._workers.is_busy_until(batch.worker, now_s)
        answered: list[J] = []
        for span in batch.spans:
            job = span.job
            job.unanswered -= len(span)
            if not job.unanswered and not job.done:
                self._settle(job)
                answered.append(job)
        return answered

    def lost(self, batch: Batch[J], *, blame: bool) -> list[J]:
        """A batch's worker died, or its engine failed: queues it again, in front.

        Args:
            batch: what the worker held.
            blame: whether the batch may be the cause; deliberate kills are not its fault.

        Returns:
            the jobs that took a second worker with them, when run again alone, settled: they
            are run no more. That several workers die at once under the parts of one job says
            nothing about the job yet.
        """
        self._workers.is_busy_until(batch.worker, 0.0)
        failed: list[J] = []
        for span in reversed(batch.spans):
            job = span.job
            if job.done:
                continue
            if blame and span.alone:
                self._live[job.datatype] -= job.queued
                job.queued = 0
                self._settle(job)
                failed.append(job)
                continue
            job.queued += len(span)
            self._live[job.datatype] += len(span)
            span.alone = span.alone or blame
            self._queues[job.datatype].appendleft(span)
        return failed

    # --- inside ---

    def _settle(self, job: J) -> None:
        job.done = True
        self.held_bytes -= job.size_bytes

    def _compact(self, datatype: Datatype) -> None:
        """Settled jobs leave their spans behind; keeps them from piling up while nobody pulls."""
        queue = self._queues[datatype]
        if len(queue) > 2 * self._live[datatype] + 64:
            self._queues[datatype] = deque(span for span in queue if not span.job.done)

    def _front(self, datatype: Datatype, costs: CostModel, now_s: float) -> Span[J] | None:
        """The oldest span that is still worth running; those before it are settled."""
        queue = self._queues[datatype]
        while queue:
            span = queue[0]
            if span.job.done:
                queue.popleft()
            elif _hopeless(span.job, costs, now_s):
                self.drop(span.job)
                self._expired.append(span.job)
                queue = self._queues[datatype]
            else:
                return span
        return None

    def _heads(self, costs: CostModel, now_s: float) -> list[Datatype]:
        """The datatypes of which something waits, the oldest first."""
        heads = [
            (span.order, datatype)
            for datatype in self._queues
            if (span := self._front(datatype, costs, now_s)) is not None
        ]
        return [datatype for _, datatype in sorted(heads)]

    def _ready_datatype(self, costs: CostModel, now_s: float) -> Datatype | None:
        """The datatype whose batch is formed now: one that waits for company holds up no other."""
        for datatype in self._heads(costs, now_s):
            if now_s >= self._ready_at_s(datatype, costs):
                return datatype
        return None

    def _ready_at_s(self, datatype: Datatype, costs: CostModel) -> float:
        """When the head's batch may be formed: at once, unless company was asked for."""
        head = self._queues[datatype][0]
        if not self._policy.max_delay_s or self._live[datatype] >= costs.largest or head.alone:
            return 0.0
        ready_s = head.job.arrived_s + self._policy.max_delay_s
        if head.job.deadline_s is not None:
            # A deadline caps the wait, with room for the batch to take twice what it should.
            ready_s = min(
                ready_s, head.job.deadline_s - 2 * costs.expected_s(datatype, costs.largest)
            )
        return ready_s

    def _gather(self, worker: int, datatype: Datatype, now_s: float) -> list[Span[J]]:
        """Takes one batch's spans off the queue, whose front is live."""
        costs = self._workers[worker]
        queue = self._queues[datatype]
        alone = queue[0].alone
        if alone:
            share = len(queue[0])
        elif self._policy.max_delay_s:
            share = self._live[datatype]
        elif self._policy.real_time:
            share = self._real_time_share(worker, datatype, now_s)
        else:
            share = math.ceil(self._live[datatype] / len(self._workers))
        wanted = costs.size_at_most(share)
        spans: list[Span[J]] = []
        while wanted and (front := self._front(datatype, costs, now_s)) is not None:
            if front.alone and not alone:  # pragma: no cover - they are always in front
                break
            queue = self._queues[datatype]
            queue.popleft()
            taken = Span(front.job, front.start, front.start + min(wanted, len(front)), front.order)
            taken.alone = front.alone
            spans.append(taken)
            wanted -= len(taken)
            if len(taken) < len(front):
                front.start = taken.stop
                queue.appendleft(front)
            if alone:
                break
        self._give_back(spans, size_in_time(spans, datatype, costs, now_s))
        for span in spans:
            span.job.queued -= len(span)
            self._live[datatype] -= len(span)
        return spans

    def _real_time_share(self, worker: int, datatype: Datatype, now_s: float) -> int:
        """Items that this free worker takes in real-time inference; see ``backlog``."""
        costs = self._workers[worker]
        return backlog.batch_size(
            sum(self._live.values()),
            self._live[datatype],
            self._workers.others_free_s(worker, now_s),
            costs.sizes,
            functools.partial(costs.expected_s, datatype),
        )

    def _give_back(self, spans: list[Span[J]], size: int) -> None:
        """Puts all but the first ``size`` items back in front of the queue."""
        excess = sum(map(len, spans)) - size
        while excess > 0:
            last = spans[-1]
            cut = min(excess, len(last))
            rest = Span(last.job, last.stop - cut, last.stop, last.order, last.alone)
            self._queues[last.job.datatype].appendleft(rest)
            last.stop -= cut
            if not len(last):
                spans.pop()
            excess -= cut


def _hopeless(job: Job, costs: CostModel, now_s: float) -> bool:
    return job.deadline_s is not None and now_s + costs.fastest_s(job.datatype, 1) > job.deadline_s


def _milliseconds(seconds: float) -> int:
    return max(1, math.ceil(seconds * 1000))
