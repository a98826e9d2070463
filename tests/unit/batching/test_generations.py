"""While a reload replaces workers, each request is answered by one generation of weights."""

from __future__ import annotations

from corral.batching.batcher import Batcher
from corral.batching.cost_model import CostModel
from corral.batching.jobs import Batch, Job
from corral.batching.policy import Policy
from corral.priority import Priority
from corral.tensors import Datatype

_FP32 = Datatype.FP32


def _batcher(*generations: str) -> Batcher[Job]:
    """Workers of batches of one, numbered from 0."""
    batcher: Batcher[Job] = Batcher(Policy(max_queue=99, max_bytes=10**9))
    for worker, generation in enumerate(generations):
        _add(batcher, worker, generation)
    return batcher


def _add(batcher: Batcher[Job], worker: int, generation: str) -> None:
    batcher.add_worker(worker, CostModel((1,), {"FP32:1": 0.01}), generation)


def _put(batcher: Batcher[Job], count: int, priority: Priority = Priority.INTERACTIVE) -> Job:
    job = Job(_FP32, count, 100, 0.0, priority=priority)
    batcher.admit(job, 0.0)
    batcher.enqueue(job)
    return job


def _take(batcher: Batcher[Job], worker: int) -> Batch[Job]:
    batch = batcher.take(worker, 0.0)
    assert batch is not None
    return batch


def _items(batch: Batch[Job]) -> tuple[Job, int]:
    (span,) = batch.spans
    assert len(span) == 1
    return span.job, span.start


def test_workers_of_one_generation_share_a_request() -> None:
    batcher = _batcher("old", "old")
    job = _put(batcher, 2)
    batches = [_take(batcher, worker) for worker in (0, 1)]
    assert [_items(batch) for batch in batches] == [(job, 0), (job, 1)]
    assert batcher.complete(batches[0], 0.0, 0.01) == []
    assert not batcher.keeps_rest(0)
    assert batcher.complete(batches[1], 0.0, 0.01) == [job]
    assert batcher.begun_again() == []


def test_while_workers_differ_a_request_stays_with_the_one_that_began_it() -> None:
    batcher = _batcher("old", "new")
    first, second = _put(batcher, 3), _put(batcher, 1)
    running = _take(batcher, 0)
    assert _items(running) == (first, 0)
    other = _take(batcher, 1)
    assert _items(other) == (second, 0), "nobody waits behind the first"
    assert batcher.take(1, 0.0) is None
    assert batcher.queued == 2
    for item in (1, 2):
        assert batcher.complete(running, 0.0, 0.01) == []
        assert batcher.keeps_rest(0)
        running = _take(batcher, 0)
        assert _items(running) == (first, item)
    assert batcher.complete(running, 0.0, 0.01) == [first]
    assert batcher.complete(other, 0.0, 0.01) == [second]
    assert (batcher.queued, batcher.held_bytes, batcher.begun_again()) == (0, 0, [])
    assert not batcher.keeps_rest(0)


def test_a_request_that_two_generations_have_answered_runs_again_whole() -> None:
    batcher = _batcher("old")
    job = _put(batcher, 2)
    running = _take(batcher, 0)
    # All was one generation when it began.
    _add(batcher, 1, "new")
    later = _put(batcher, 1)
    other = _take(batcher, 1)
    assert _items(other) == (job, 1)
    batcher.remove_worker(0)
    assert batcher.complete(running, 0.0, 0.01) == []
    assert batcher.complete(other, 0.0, 0.01) == []
    assert (batcher.begun_again(), job.done, batcher.begun_again()) == ([job], False, [])
    for item in (0, 1):
        running = _take(batcher, 1)
        assert _items(running) == (job, item), "before what came later"
        answered = batcher.complete(running, 0.0, 0.01)
    assert answered == [job]
    assert _items(_take(batcher, 1)) == (later, 0)


def test_the_rest_of_a_worker_that_goes_is_another_s() -> None:
    batcher = _batcher("old", "new")
    job = _put(batcher, 2)
    running = _take(batcher, 0)
    assert batcher.take(1, 0.0) is None
    batcher.remove_worker(0)
    other = _take(batcher, 1)
    assert _items(other) == (job, 1)
    for batch in (running, other):
        assert batcher.complete(batch, 0.0, 0.01) == []
    assert batcher.begun_again() == [job]
    for _ in range(2):
        answered = batcher.complete(_take(batcher, 1), 0.0, 0.01)
    assert answered == [job]


def test_interactive_requests_come_before_the_rest_of_a_bulk_one() -> None:
    batcher = _batcher("old", "new")
    bulk = _put(batcher, 3, Priority.BULK)
    running = _take(batcher, 0)
    assert _items(running) == (bulk, 0)
    job = _put(batcher, 2)
    batcher.complete(running, 0.0, 0.01)
    for item in (0, 1):
        running = _take(batcher, 0)
        assert _items(running) == (job, item)
        answered = batcher.complete(running, 0.0, 0.01)
    assert answered == [job]
    for item in (1, 2):
        running = _take(batcher, 0)
        assert _items(running) == (bulk, item)
        answered = batcher.complete(running, 0.0, 0.01)
    assert answered == [bulk]
    assert (batcher.queued, batcher.keeps_rest(0), batcher.begun_again()) == (0, False, [])


def test_a_rest_that_nobody_wants_any_more_is_left() -> None:
    batcher = _batcher("old", "new")
    job = _put(batcher, 3)
    running = _take(batcher, 0)
    batcher.drop(job)
    assert (batcher.queued, batcher.keeps_rest(0)) == (0, False)
    assert batcher.complete(running, 0.0, 0.01) == []
    assert batcher.take(0, 0.0) is None
    late = Job(_FP32, 2, 100, 0.0, 0.03)
    batcher.admit(late, 0.0)
    batcher.enqueue(late)
    running = _take(batcher, 0)
    batcher.complete(running, 0.025, 0.025)
    assert batcher.take(0, 0.025) is None
    assert batcher.expired() == [late]
    assert batcher.queued == 0
