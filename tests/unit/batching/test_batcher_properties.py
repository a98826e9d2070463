"""Whatever happens in whatever order: every job is settled exactly once, by one generation.

Nothing runs twice, but what two generations of weights had answered in parts.
"""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from corral.batching.batcher import Batcher
from corral.batching.cost_model import CostModel
from corral.batching.jobs import Batch, Job
from corral.batching.policy import Policy
from corral.errors import DeadlineMissed, QueueFull
from corral.priority import Priority
from corral.tensors import Datatype

SIZES = (1, 2, 4)
DATATYPES = (Datatype.FP32, Datatype.UINT8)
MEASURED_S = {f"{d.name}:{n}": 0.01 * n for d in DATATYPES for n in SIZES}
MAX_QUEUE = 20


class BatcherMachine(RuleBasedStateMachine):
    """Clients, workers and a clock, doing whatever hypothesis thinks of."""

    jobs: Bundle[Job] = Bundle("jobs")
    batches: Bundle[Batch[Job]] = Bundle("batches")

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 100.0
        self.batcher: Batcher[Job] = Batcher(Policy(max_queue=MAX_QUEUE, max_bytes=3000))
        self.workers: dict[int, Batch[Job] | None] = {}
        self.admitted: list[Job] = []
        self.settled: Counter[int] = Counter()
        self.completed: Counter[tuple[int, int]] = Counter()
        #: the generation of weights by item, of each job
        self.answered_by: dict[int, dict[int, str]] = {}
        self.next_worker = 0

    @rule(seconds=st.floats(0.0, 0.1))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds

    @rule(generation=st.sampled_from("ab"))
    def worker_comes(self, generation: str) -> None:
        if len(self.workers) < 4:
            self.workers[self.next_worker] = None
            costs = CostModel(SIZES, MEASURED_S)
            self.batcher.add_worker(self.next_worker, costs, generation)
            self.next_worker += 1

    @rule(
        target=jobs,
        datatype=st.sampled_from(DATATYPES),
        count=st.integers(1, 9),
        slack_s=st.none() | st.floats(-0.01, 0.3),
        decoded_later=st.booleans(),
        priority=st.sampled_from(Priority),
    )
    def request_comes(
        self,
        datatype: Datatype,
        count: int,
        slack_s: float | None,
        decoded_later: bool,
        priority: Priority,
    ) -> Job:
        deadline_s = None if slack_s is None else self.now_s + slack_s
        job = Job(datatype, count, 100, self.now_s, deadline_s, priority=priority)
        try:
            self.batcher.admit(job, self.now_s)
        except (QueueFull, DeadlineMissed):
            job.done = True
            return job
        self.admitted.append(job)
        if not decoded_later:
            self.batcher.enqueue(job)
        return job

    @rule(job=jobs)
    def picture_is_decoded(self, job: Job) -> None:
        if job.reserved:
            self.batcher.enqueue(job)

    @rule(job=consumes(jobs))
    def client_cancels(self, job: Job) -> None:
        if not job.done:
            self.settled[id(job)] += 1
        self.batcher.drop(job)

    @rule()
    def free_workers_pull(self) -> None:
        for worker, held in list(self.workers.items()):
            if held is None:
                batch = self.batcher.take(worker, self.now_s)
                self._count_expired()
                if batch is None:
                    continue
                self.workers[worker] = batch
                assert batch.count in SIZES
                assert batch.count == sum(map(len, batch.spans))
                assert {span.job.datatype for span in batch.spans} == {batch.datatype}
                assert len({span.job.priority for span in batch.spans}) == 1
                assert not any(span.job.done for span in batch.spans)
                alone = [span for span in batch.spans if span.alone]
                assert not alone or len(batch.spans) == 1

    @rule(data=st.data(), good=st.booleans())
    def worker_answers(self, data: st.DataObject, good: bool) -> None:
        busy = sorted(w for w, batch in self.workers.items() if batch)
        if not busy:
            return
        worker = data.draw(st.sampled_from(busy))
        batch, self.workers[worker] = self.workers[worker], None
        assert batch
        if not good:
            self._count_settled(self.batcher.lost(batch, blame=True))
            return
        self._complete(batch)

    def _complete(self, batch: Batch[Job]) -> None:
        for span in batch.spans:
            for item in range(span.start, span.stop):
                self.completed[id(span.job), item] += 1
                self.answered_by.setdefault(id(span.job), {})[item] = batch.generation
        answered = self.batcher.complete(batch, self.now_s, 0.01)
        self._count_settled(answered)
        for job in answered:
            assert len(set(self.answered_by[id(job)].values())) == 1, "by one generation"
            assert len(self.answered_by[id(job)]) == job.count
        for job in self.batcher.begun_again():
            assert not job.done
            assert len(set(self.answered_by.pop(id(job)).values())) > 1, "not for nothing"
            for item in range(job.count):
                del self.completed[id(job), item]

    @rule(data=st.data(), blame=st.booleans())
    def worker_dies(self, data: st.DataObject, blame: bool) -> None:
        if not self.workers:
            return
        worker = data.draw(st.sampled_from(sorted(self.workers)))
        batch = self.workers.pop(worker)
        self.batcher.remove_worker(worker)
        if batch:
            self._count_settled(self.batcher.lost(batch, blame=blame))

    def _count_expired(self) -> None:
        self._count_settled(self.batcher.expired())

    def _count_settled(self, jobs: list[Job]) -> None:
        for job in jobs:
            assert job.done
            self.settled[id(job)] += 1

    @invariant()
    def nothing_is_settled_or_run_twice(self) -> None:
        assert all(count == 1 for count in self.settled.values())
        assert all(count == 1 for count in self.completed.values())

    @invariant()
    def the_books_balance(self) -> None:
        alive = [job for job in self.admitted if not job.done]
        assert self.batcher.held_bytes == sum(job.size_bytes for job in alive)
        assert self.batcher.queued == sum(job.queued + job.reserved for job in alive)
        running = Counter[int]()
        for batch in self.workers.values():
            for span in batch.spans if batch else ():
                running[id(span.job)] += len(span)
        for job in alive:
            assert job.unanswered == job.queued + job.reserved + running[id(job)]

    def teardown(self) -> None:
        """With one worker and time, everything that is left is settled."""
        for worker in list(self.workers):
            batch = self.workers.pop(worker)
            self.batcher.remove_worker(worker)
            if batch:
                self._count_settled(self.batcher.lost(batch, blame=False))
        for job in self.admitted:
            if job.reserved:
                self.batcher.enqueue(job)
        self.batcher.add_worker(-1, CostModel(SIZES, MEASURED_S))
        while (batch := self.batcher.take(-1, self.now_s)) is not None:
            self._complete(batch)
        self._count_expired()
        assert all(self.settled[id(job)] == 1 for job in self.admitted)
        assert self.batcher.queued == 0
        assert self.batcher.held_bytes == 0


TestBatcherMachine = BatcherMachine.TestCase
TestBatcherMachine.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, derandomize=True
)
