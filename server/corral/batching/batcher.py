"""The batcher: one queue a cell, from which free workers pull.

Pure: data and a clock reading (monotonic seconds) go in, decisions come out.

No request is bound to a worker before that worker is free. A free worker gets its fair share of
the queue, ceil(queued / workers), capped by its largest compiled batch (the knee of the measured
cost curve) and by the slack of the tightest deadline in the batch. Real-time inference takes one
item, and more by the rule of ``backlog``. Bulk requests fill what interactive ones leave, by those
of ``precedence``. A timer runs where a queue delay was asked for, or bulk waits for its turn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Generic

from corral.batching.cost_model import CostModel
from corral.batching.generations import Generations
from corral.batching.jobs import Batch, J, Line, Span, is_hopeless, items_in, size_in_time
from corral.batching.lines import Lines
from corral.batching.policy import Policy
from corral.batching.precedence import Precedence
from corral.batching.room import Room
from corral.batching.share import fair_share
from corral.batching.workers import Workers
from corral.errors import DeadlineMissed, QueueFull
from corral.priority import Priority
from corral.tensors import Datatype

_FULL = "the queue is full"
_BULK_FULL = "the queue has no room for bulk requests"
_LONG_S = 10.0  #: a deadline that is so far away is looked at once the request is there
#: how long a bulk request is a sign that there will be others
_BULK_IS_USED_S = 10.0
#: Triton's clients look for the first two words.
_TOO_SHORT = "Deadline Exceeded: it is too short for this model on this machine"
_TOO_LONG = "the queue is too long for this deadline"


class Batcher(Generic[J]):
    """The queue of one cell and the rules by which it empties.

    The caller settles every job once: through ``complete``, ``lost``, ``expired`` or ``drop``.
    Jobs are of one of the ``datatypes``, and so is a batch.
    """

    def __init__(
        self, policy: Policy, datatypes: Sequence[Datatype] = (Datatype.FP32, Datatype.UINT8)
    ) -> None:
        self._policy = policy
        self._datatypes = tuple(datatypes)
        self._lines: Lines[J] = Lines(datatypes)
        self._precedence = Precedence()
        self._workers = Workers(datatypes, policy.batch_cap)
        self._generations = Generations(self._lines)
        self._batch_number = 0
        self._expired: list[J] = []
        self._room: Room[J] = Room(self._lines)

    def set_policy(self, policy: Policy) -> None:
        """Other limits hold from now on; what was admitted stays."""
        self._policy = policy
        self._workers.cap(policy.batch_cap)

    # --- workers ---

    def add_worker(self, worker: int, costs: CostModel, generation: str = "") -> None:
        """A worker that may ask for batches from now on, and the weights that it answers by."""
        self._workers.add(worker, costs)
        self._generations.add(worker, generation)

    def remove_worker(self, worker: int) -> None:
        """The worker is gone. What it held is another matter: see ``lost``."""
        self._workers.remove(worker)
        self._generations.remove(worker)
        self._precedence.ended(worker)

    def keeps_rest(self, worker: int) -> bool:
        """Whether the worker goes on with a request that it began before it takes another."""
        return self._generations.rest(worker) is not None

    # --- the door ---

    @property
    def queued(self) -> int:
        """Items that wait for a worker, pictures that are being decoded included."""
        return sum(self._lines.waiting.values())

    @property
    def held_bytes(self) -> int:
        """Bytes that unsettled jobs hold."""
        return self._room.held_bytes

    def spans_held(self, datatype: Datatype) -> int:
        """Spans in the queue of a datatype, those of settled jobs included."""
        return self._lines.spans_held(datatype)

    def check_room(self, deadline_s: float | None, now_s: float) -> None:
        """Raises QueueFull where ``admit`` would for the smallest request there is."""
        ahead = self._lines.waiting[Priority.INTERACTIVE]
        full = ahead >= self._policy.max_queue or self._room.held_bytes >= self._policy.max_bytes
        # Where bulk comes, it is not turned away for a line that it does not stand in.
        if full and self._precedence.bulk_came_since(now_s - _BULK_IS_USED_S):
            full = not self._room.takes(self._policy, Priority.BULK, 1, 1)
        if not full and (deadline_s is None or not ahead or deadline_s - now_s > _LONG_S):
            return
        waiting_s = min(self._workers.waiting_s(d, ahead, now_s) for d in self._datatypes)
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
        bulk = job.priority is Priority.BULK
        ahead = self.queued if bulk else self._lines.waiting[Priority.INTERACTIVE]
        if bulk:
            self._precedence.bulk_came(now_s)
        if not self._room.takes(self._policy, job.priority, job.count, job.size_bytes):
            waiting_s = self._workers.waiting_s(job.datatype, ahead, now_s)
            raise QueueFull(_BULK_FULL if bulk else _FULL, _milliseconds(waiting_s))
        if job.deadline_s is not None and not self._workers.is_in_time(job, ahead, now_s):
            waiting_s = self._workers.waiting_s(job.datatype, ahead, now_s)
            slack_s = job.deadline_s - now_s
            fastest_s = self._workers.fastest_s(job)
            if slack_s <= fastest_s:
                raise DeadlineMissed(_TOO_SHORT)
            late_s = waiting_s + fastest_s - slack_s
            if late_s > 0 and waiting_s > 0:
                raise QueueFull(_TOO_LONG, _milliseconds(late_s))
        if not bulk:
            self._precedence.interactive_came(now_s)
        self._lines.reserve(job)
        self._room.hold(job)

    def enqueue(self, job: J) -> None:
        """Puts an admitted job at the end of the queue; nothing happens if it is settled."""
        if not job.done:
            self._lines.enqueue(job)

    def drop(self, job: J) -> None:
        """Settles a job early (cancelled, not decodable): what is queued of it is never run."""
        if job.done:
            return
        self._lines.leave(job)
        self._settle(job)
        self._lines.compact(job.line)

    def expired(self) -> list[J]:
        """The jobs settled since the last call because their deadline can no longer be met."""
        expired, self._expired = self._expired, []
        return expired

    def begun_again(self) -> list[J]:
        """The jobs that run again since the last call: two generations had answered parts."""
        return self._generations.begun_again()

    # --- batches ---

    def take(self, worker: int, now_s: float) -> Batch[J] | None:
        """The next batch for a free worker; None when nothing is to be run now."""
        costs = self._workers.costs[worker]
        if self._generations.rests and (spans := self._gather_rest(worker, costs, now_s)):
            return self._form(worker, spans, now_s)
        while (line := self._ready_line(costs, now_s)) is not None:
            if spans := self._gather(worker, line, now_s):
                return self._form(worker, spans, now_s)
        return None

    def _form(self, worker: int, spans: list[Span[J]], now_s: float) -> Batch[J]:
        self._batch_number += 1
        priority, datatype = spans[0].job.line
        count = items_in(spans)
        cost_s = self._workers.costs[worker].expected_s(datatype, count)
        self._workers.is_busy_until(worker, now_s + cost_s)
        share, bulk_waits = self._policy.bulk_share, self._lines.lives[Priority.BULK] > 0
        self._precedence.began(worker, priority, cost_s, share=share, bulk_waits=bulk_waits)
        generation = self._generations[worker]
        return Batch(self._batch_number, worker, datatype, count, spans, now_s, generation)

    def look_again_s(self, now_s: float) -> float | None:
        """When ``take`` may give what it does not give now: after a queue delay, or bulk's hold."""
        if not self._policy.max_delay_s and not self._lines.lives[Priority.BULK]:
            return None
        if (costs := self._workers.any_costs()) is None:
            return None
        times_s = (self._ready_at_s(line, costs) for line in self._heads(costs, now_s))
        return min(times_s, default=None)

    def complete(self, batch: Batch[J], now_s: float, engine_s: float) -> list[J]:
        """A batch came back; returns the jobs that are fully answered now, settled."""
        if (costs := self._workers.costs.get(batch.worker)) is not None:
            costs.observe(batch.datatype, batch.count, engine_s)
            self._workers.is_busy_until(batch.worker, now_s)
        self._precedence.ended(batch.worker)
        answered: list[J] = []
        for span in batch.spans:
            job, items = span.job, span.stop - span.start
            job.unanswered -= items
            if items < job.count:
                self._generations.answered(span, batch.generation)
            if job.unanswered or job.done:
                continue
            if job.answered_by is None or not self._generations.run_again(span):
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
        self._precedence.ended(batch.worker)
        failed: list[J] = []
        for span in reversed(batch.spans):
            job = span.job
            if job.done:
                continue
            if blame and span.alone:
                self._lines.leave(job)
                self._settle(job)
                failed.append(job)
                continue
            span.alone = span.alone or blame
            self._lines.join_again(span)
        return failed

    def _settle(self, job: J) -> None:
        job.done = True
        self._room.release(job)

    def _front(self, line: Line, costs: CostModel, now_s: float) -> Span[J] | None:
        """The oldest span that is still worth running; those before it are settled."""
        while (span := self._lines.front(line)) is not None:
            job = span.job
            if job.deadline_s is None or not is_hopeless(job, costs, now_s):
                return span
            self.drop(job)
            self._expired.append(job)
        return None

    def _heads(self, costs: CostModel, now_s: float) -> list[Line]:
        """The lines in which something waits: by priority, and the oldest first."""
        heads = self._heads_of(Priority.INTERACTIVE, costs, now_s)
        if not self._lines.lives[Priority.BULK]:
            return heads
        bulk = self._heads_of(Priority.BULK, costs, now_s)
        if heads and bulk and self._is_due(bulk[0], costs):
            return bulk + heads
        return heads + bulk

    def _heads_of(self, priority: Priority, costs: CostModel, now_s: float) -> list[Line]:
        if not self._lines.lives[priority]:
            return []
        lines = self._lines.of[priority]
        live = self._lines.live
        heads = [one for one in lines if live(one) and self._front(one, costs, now_s) is not None]
        if len(heads) > 1:
            heads.sort(key=lambda line: self._lines.head(line).order)
        return heads

    def _is_due(self, line: Line, costs: CostModel) -> bool:
        """Whether bulk's share of the time is due to the head of its line."""
        cost_s = costs.expected_s(line[1], 1)
        due = self._precedence.bulk_is_due(cost_s, self._policy.bulk_share)
        return line[0] is Priority.BULK and due

    def _ready_line(self, costs: CostModel, now_s: float) -> Line | None:
        """The line whose batch is formed now: one that waits for company holds up no other."""
        for line in self._heads(costs, now_s):
            if now_s >= self._ready_at_s(line, costs):
                return line
        return None

    def _ready_at_s(self, line: Line, costs: CostModel) -> float:
        """When the head's batch may be formed: at once, unless company or a hold was asked for."""
        ready_s = 0.0
        priority, datatype = line
        if priority is Priority.BULK and not self._is_due(line, costs):
            ready_s = self._precedence.leaves_room_at_s(
                len(self._workers), self._policy.bulk_hold_s
            )
        head = self._lines.head(line)
        if not self._policy.max_delay_s or self._lines.live(line) >= costs.largest or head.alone:
            return ready_s
        joined_s = head.job.arrived_s + self._policy.max_delay_s
        if head.job.deadline_s is not None:
            # A deadline caps the wait, with room for the batch to take twice what it should.
            joined_s = min(
                joined_s, head.job.deadline_s - 2 * costs.expected_s(datatype, costs.largest)
            )
        return max(ready_s, joined_s)

    def _gather(self, worker: int, line: Line, now_s: float) -> list[Span[J]]:
        """Takes one batch's spans off a line, whose front is live."""
        costs = self._workers.costs[worker]
        alone = self._lines.head(line).alone
        share = fair_share(
            worker, line, now_s, policy=self._policy, workers=self._workers, lines=self._lines,
            precedence=self._precedence,
        )  # fmt: skip
        wanted = costs.size_at_most(share)
        spans: list[Span[J]] = []
        while wanted and (front := self._front(line, costs, now_s)) is not None:
            if front.alone and not alone:  # pragma: no cover - they are always in front
                break
            taken = self._lines.cut(line, wanted)
            spans.append(taken)
            wanted -= taken.stop - taken.start
            if alone:
                break
        self._lines.put_back(spans, size_in_time(spans, line[1], costs, now_s))
        self._lines.given(spans)
        self._generations.keep_rest(worker, spans)
        return spans

    def _gather_rest(self, worker: int, costs: CostModel, now_s: float) -> list[Span[J]]:
        """What a worker takes of the request that it has begun; empty where it has none."""
        rest = self._generations.rest(worker)
        if rest is None:
            return []
        job = rest.job
        if job.priority is Priority.BULK and self._heads_of(Priority.INTERACTIVE, costs, now_s):
            return []
        if is_hopeless(job, costs, now_s):
            self.drop(job)
            self._expired.append(job)
            return []
        size = size_in_time([rest], job.datatype, costs, now_s)
        return [self._generations.cut_rest(worker, size)]


def _milliseconds(seconds: float) -> int:
    return max(1, math.ceil(seconds * 1000))
