"""A cell's workers and the batches that they get, and what becomes of a batch when one dies.

The dispatcher holds every admitted request until it is answered, so that a worker's death is
invisible: what it held goes back to the head of the queue. Everything runs on one event loop.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
import time
from collections import deque
from collections.abc import Callable

from corral.batching.batcher import Batcher
from corral.batching.jobs import Batch, Span
from corral.batching.policy import Policy
from corral.dataplane.hang_timer import HangTimer
from corral.dataplane.recorder import Recorder
from corral.dataplane.worker_link import UNASKED, Request, WorkerLink
from corral.errors import DeadlineMissed, InferenceFailed, InvalidRequest, QueueFull
from corral.ipc.messages import AttachWorker
from corral.ipc.packets import ResultStatus
from corral.tensors import Signature

logger = logging.getLogger(__name__)

#: Triton's clients look for the first two words.
_LATE = "Deadline Exceeded: it passed before the answer was there"
#: Triton's words, and what to do about it
_WAITED = "Request timeout expired: it waited in the queue for as long as it may"
_FAILED = "the request could not be run: two workers failed on it"
_REFUSED = "the model does not take these values: {}"
_UNASKED_FAILED = "the server's own request came to nothing"


class Dispatcher:
    """The workers of one cell, and the queue that they are fed from.

    Args:
        signature: the model's shapes.
        policy: the queue's limits.
        recorder: what is counted.
        hang_floor_s: no worker hangs before it has had a batch for so long.
        on_verified: called with a worker's id when its first batch came back.
        on_gone: called with a worker's id and pid when it is gone.
        on_hung: called instead with those of one that was given up and must be killed.
    """

    def __init__(
        self,
        signature: Signature,
        policy: Policy,
        recorder: Recorder,
        *,
        hang_floor_s: float,
        on_verified: Callable[[int], None],
        on_gone: Callable[[int, int], None],
        on_hung: Callable[[int, int], None],
    ) -> None:
        self._signature = signature
        self._recorder = recorder
        self._on_verified = on_verified
        self._on_gone = on_gone
        self._on_hung = on_hung
        self._loop = asyncio.get_running_loop()
        self._now_s = time.monotonic
        self._policy = policy
        self._batcher: Batcher[Request] = Batcher(policy, signature.datatypes)
        self._links: dict[int, WorkerLink] = {}
        self._free: deque[WorkerLink] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._hangs = HangTimer(
            hang_floor_s, lambda worker: self._lose(self._links[worker], hung=True)
        )

    @property
    def verified(self) -> bool:
        """True when a batch went through one of the living workers and came back."""
        return any(link.verified for link in self._links.values())

    # --- workers ---

    def attach(self, hello: AttachWorker, fds: list[int]) -> None:
        """Takes a worker over, with its data socket and its region, and proves it."""
        if (predecessor := self._links.get(hello.worker)) is not None:
            # It is dead; this process stood still meanwhile, and has not read its end yet.
            self._lose(predecessor)
        link = WorkerLink(hello, fds, self._signature)
        self._links[hello.worker] = link
        self._loop.add_reader(link.fileno(), self._on_readable, link)
        self._probe(link)

    def _probe(self, link: WorkerLink) -> None:
        datatype = link.probe()
        self._hangs.began(link.worker, link.costs.expected_s(datatype, 1), self._now_s())

    def _on_readable(self, link: WorkerLink) -> None:
        try:
            received = link.receive()
        except EOFError:
            self._lose(link)
            return
        if received is None:
            return
        self._hangs.ended(link.worker)
        batch, result = received
        if batch is None or batch.number == UNASKED:
            if batch is not None:
                link.collect(batch)
            self._prove(link)
            self._dispatch()
            if batch is not None:
                self._end_unasked(batch, failed=result.status is not ResultStatus.OK)
            return
        if result.status is not ResultStatus.OK:
            if result.status is ResultStatus.FAILED:
                logger.warning("worker %d failed on a batch of %d", link.worker, batch.count)
            self._run_again(batch, blame=True, refusal=result.reason)
            self._has_nothing(link)
            self._dispatch()
            return
        back_s = self._now_s()
        # The engine cannot have taken longer than the worker had the batch, whatever it says.
        engine_s = min(result.engine_s, back_s - batch.formed_s)
        link.collect(batch)
        if self._recorder.watched:
            self._recorder.ran(batch, link.ran(batch, engine_s, self._now_s()))
        answered = self._batcher.complete(batch, back_s, engine_s)
        for request in self._batcher.begun_again():
            self._recorder.waiting_again(request, request.count)
        copy_s = link.copy_s
        self._has_nothing(link)
        # The worker gets its next batch before anybody is told of this one.
        self._dispatch()
        self._recorder.batch_done(batch, link.slot, copy_s, engine_s, self._now_s() - back_s)
        for request in answered:
            request.answer(None)

    def reconfigure(self, policy: Policy, hang_floor_s: float) -> None:
        """Other limits hold from now on; see the class."""
        self._policy = dataclasses.replace(policy, batch_cap=self._policy.batch_cap)
        self._batcher.set_policy(self._policy)
        self._hangs.set_floor(hang_floor_s)

    def cap_batches(self, most: int | None) -> None:
        """Batches hold at most so many items from now on; None: as many as are compiled."""
        self._policy = dataclasses.replace(self._policy, batch_cap=most)
        self._batcher.set_policy(self._policy)

    def detach(self, worker: int) -> None:
        """Lets a worker go once it has finished its batch; nothing happens if it is gone."""
        link = self._links.get(worker)
        if link is None:
            return
        link.leaving = True
        self._batcher.remove_worker(worker)
        if link in self._free:
            self._free.remove(link)
            self._let_go(link)

    def _has_nothing(self, link: WorkerLink) -> None:
        """A worker has given back what it held: it may have more, or go."""
        if link.leaving:
            self._let_go(link)
        elif self._batcher.keeps_rest(link.worker):
            self._free.appendleft(link)
        else:
            self._free.append(link)

    def _let_go(self, link: WorkerLink) -> None:
        self._forget(link, lost=False)
        self._on_gone(link.worker, link.pid)

    def _forget(self, link: WorkerLink, *, lost: bool) -> None:
        self._loop.remove_reader(link.fileno())
        del self._links[link.worker]
        if link.verified:
            self._recorder.worker(link.slot, attached=False, lost=lost)
        link.close()

    def _prove(self, link: WorkerLink) -> None:
        if not link.verified and not link.leaving:
            link.verified = True
            self._batcher.add_worker(link.worker, link.costs, link.generation)
            self._recorder.worker(link.slot, attached=True)
            self._on_verified(link.worker)
        self._has_nothing(link)

    def _lose(self, link: WorkerLink, *, hung: bool = False) -> None:
        """A worker is gone, or given up; what it held goes to the head of the queue."""
        self._hangs.ended(link.worker)
        if link in self._free:
            self._free.remove(link)
        self._batcher.remove_worker(link.worker)
        batch = link.batch
        self._forget(link, lost=True)
        (self._on_hung if hung else self._on_gone)(link.worker, link.pid)
        if batch is not None and batch.number == UNASKED:
            self._end_unasked(batch, failed=True)
        elif batch is not None:
            logger.warning(
                "worker %d %s; what it held (%d items) runs again",
                link.worker,
                "hangs" if hung else "is gone",
                batch.count,
            )
            self._run_again(batch, blame=link.delivered)
        self._dispatch()

    def _run_again(self, batch: Batch[Request], *, blame: bool, refusal: str = "") -> None:
        """Queues the batch's requests again, each alone; one that was alone is answered.

        ``refusal`` is what the engine says of the values, where it blames them.
        """
        for request in self._batcher.lost(batch, blame=blame):
            error = (
                InvalidRequest(_REFUSED.format(refusal)) if refusal else InferenceFailed(_FAILED)
            )
            request.answer(error)
        for span in batch.spans:
            if not span.job.done:
                self._recorder.waiting_again(span.job, len(span))

    # --- requests ---

    def check_room(self, deadline_s: float | None) -> None:
        """Raises RequestError when no request could be admitted now: QueueFull, DeadlineMissed."""
        self._batcher.check_room(deadline_s, self._now_s())

    def admit(self, request: Request) -> None:
        """Gives a request its place in the queue; it waits there for its tensor.

        Raises:
            RequestError: there is none: QueueFull, DeadlineMissed.
        """
        self._batcher.admit(request, request.arrived_s)

    def enqueue(self, request: Request) -> None:
        """The request's tensor is there: a worker may have it."""
        self._batcher.enqueue(request)
        # While all are busy, there is nothing to decide.
        if self._free:
            self._dispatch()

    def drop(self, request: Request) -> None:
        """Nobody wants the request any more, or it is answered."""
        self._batcher.drop(request)

    def expire(self, request: Request) -> None:
        """The request's deadline has passed: it is dropped, and answered with that."""
        self._batcher.drop(request)
        request.answer(DeadlineMissed(_LATE))

    def give_up_waiting(self, request: Request) -> None:
        """The request has waited for as long as it may: refused, unless a worker has had it."""
        if request.started_s:
            return
        self._batcher.drop(request)
        waited_s = self._now_s() - request.arrived_s
        request.answer(QueueFull(_WAITED, math.ceil(waited_s * 1000)))

    # --- batches ---

    def _dispatch(self) -> None:
        """Gives free workers what there is to do, the one that waits longest first."""
        now_s = self._now_s()
        while self._free:
            link = self._free[0]
            batch = self._batcher.take(link.worker, now_s)
            if batch is None:
                break
            self._free.popleft()
            before_s = self._now_s()
            spoiled = link.send(batch)
            link.copy_s = link.sent_s - before_s
            self._hangs.began(
                link.worker, link.costs.expected_s(batch.datatype, batch.count), before_s
            )
            self._recorder.batch_formed(batch)
            for request, error in spoiled:
                self._batcher.drop(request)
                request.answer(error)
        for request in self._batcher.expired():
            request.answer(DeadlineMissed(_LATE))
        if self._free or self._timer is not None:
            self._look_again(now_s)

    def _look_again(self, now_s: float) -> None:
        """With a queue delay, the head of the queue may become due while nothing happens."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._free and (again_s := self._batcher.look_again_s(now_s)) is not None:
            self._timer = self._loop.call_at(again_s, self._dispatch)

    # --- workers that have nothing to do ---

    @property
    def workers(self) -> int:
        """How many there are."""
        return len(self._links)

    @property
    def idle_worker(self) -> WorkerLink | None:
        """The worker that has been free for longest, where all are; None where one is at work."""
        return self._free[0] if self._free and len(self._free) == len(self._links) else None

    def run_unasked(self, request: Request | None = None) -> bool:
        """Has an idle worker run a batch of one that no client asked for; it is counted nowhere.

        Args:
            request: of one item, with its tensor; it is answered once, and never runs again. None:
                what lies in the worker's region is run, and nobody is answered.

        Returns:
            whether it runs; not where a worker has something to do.
        """
        link = self.idle_worker
        if link is None:
            return False
        self._free.popleft()
        if request is None:
            self._probe(link)
            return True
        now_s, spans = self._now_s(), [Span(request, 0, 1, 0)]
        link.send(Batch(UNASKED, link.worker, request.datatype, 1, spans, now_s))
        self._hangs.began(link.worker, link.costs.expected_s(request.datatype, 1), now_s)
        return True

    def _end_unasked(self, batch: Batch[Request], *, failed: bool) -> None:
        for span in batch.spans:
            span.job.answer(InferenceFailed(_UNASKED_FAILED) if failed else None)

    def close(self) -> None:
        """Ends the workers."""
        self._hangs.close()
        for link in list(self._links.values()):
            self._loop.remove_reader(link.fileno())
            link.close()
        self._links.clear()
        self._free.clear()
