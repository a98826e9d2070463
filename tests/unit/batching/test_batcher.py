"""The batcher's decisions, by hand: every clock reading here is a number in the test."""

from __future__ import annotations

import pytest

from corral.batching.batcher import Batcher
from corral.batching.cost_model import CostModel
from corral.batching.jobs import Batch, Job
from corral.batching.policy import Policy
from corral.errors import DeadlineMissed, QueueFull
from corral.tensors import Datatype

FP32, UINT8 = Datatype.FP32, Datatype.UINT8


def costs(sizes: tuple[int, ...] = (1, 2, 4, 8), item_s: float = 0.01) -> CostModel:
    return CostModel(sizes, {f"{d.name}:{n}": n * item_s for d in Datatype for n in sizes})


def make(
    workers: int = 1,
    sizes: tuple[int, ...] = (1, 2, 4, 8),
    max_queue: int = 1000,
    max_bytes: int = 10**9,
    max_delay_s: float = 0.0,
) -> Batcher[Job]:
    batcher: Batcher[Job] = Batcher(
        Policy(max_queue=max_queue, max_bytes=max_bytes, max_delay_s=max_delay_s)
    )
    for worker in range(workers):
        batcher.add_worker(worker, costs(sizes))
    return batcher


def put(
    batcher: Batcher[Job],
    count: int = 1,
    datatype: Datatype = FP32,
    now_s: float = 0.0,
    deadline_s: float | None = None,
) -> Job:
    job = Job(datatype, count, 100 * count, now_s, deadline_s)
    batcher.admit(job, now_s)
    batcher.enqueue(job)
    return job


def take(batcher: Batcher[Job], worker: int = 0, now_s: float = 0.0) -> Batch[Job]:
    batch = batcher.take(worker, now_s)
    assert batch is not None
    return batch


def parts(batch: Batch[Job]) -> list[tuple[Job, int, int]]:
    return [(span.job, span.start, span.stop) for span in batch.spans]


def test_one_request_runs_at_once_and_alone() -> None:
    batcher = make()
    job = put(batcher)
    batch = take(batcher)
    assert parts(batch) == [(job, 0, 1)]
    assert batcher.queued == 0
    assert batcher.complete(batch, 0.01, 0.01) == [job]
    assert job.done
    assert batcher.held_bytes == 0


def test_an_empty_queue_gives_nothing() -> None:
    assert make().take(0, 0.0) is None


@pytest.mark.parametrize(
    ("workers", "queued", "expected"),
    [(1, 8, 8), (1, 7, 4), (1, 20, 8), (2, 8, 4), (2, 3, 2), (4, 9, 2), (4, 4, 1), (3, 100, 8)],
)
def test_a_free_worker_gets_its_fair_share_in_a_compiled_size(
    workers: int, queued: int, expected: int
) -> None:
    batcher = make(workers)
    for _ in range(queued):
        put(batcher)
    assert take(batcher).count == expected


def test_a_batch_of_one_is_all_that_rti_compiles() -> None:
    batcher = make(1, sizes=(1,))
    first, second = put(batcher), put(batcher)
    assert [take(batcher).spans[0].job for _ in range(2)] == [first, second]


def test_a_batch_has_the_datatype_of_the_head_and_passes_over_others() -> None:
    batcher = make()
    a, b, c = put(batcher, datatype=UINT8), put(batcher), put(batcher, datatype=UINT8)
    assert [span.job for span in take(batcher).spans] == [a, c]
    assert [span.job for span in take(batcher).spans] == [b]


def test_a_large_request_is_split_and_answered_when_all_of_it_is_back() -> None:
    batcher = make(2)
    job = put(batcher, count=12)
    first, second = take(batcher, 0), take(batcher, 1)
    third, fourth = take(batcher, 0), take(batcher, 1)
    sizes = [batch.count for batch in (first, second, third, fourth)]
    assert sizes == [4, 4, 2, 1]
    fifth = take(batcher, 0)
    covered = [part[1:] for b in (first, second, third, fourth, fifth) for part in parts(b)]
    assert covered == [(0, 4), (4, 8), (8, 10), (10, 11), (11, 12)]
    for batch in (fifth, second, first, third):
        assert batcher.complete(batch, 0.1, 0.04) == []
    assert batcher.complete(fourth, 0.1, 0.04) == [job]


def test_a_full_queue_refuses_with_a_hint() -> None:
    batcher = make(max_queue=2)
    put(batcher)
    put(batcher)
    with pytest.raises(QueueFull) as refusal:
        put(batcher)
    assert refusal.value.retry_after_ms >= 1
    take(batcher)
    put(batcher)


def test_room_is_denied_at_the_door_when_the_queue_is_full() -> None:
    batcher = make(max_queue=2)
    put(batcher)
    batcher.check_room(None, 0.0)
    put(batcher)
    with pytest.raises(QueueFull) as refusal:
        batcher.check_room(None, 0.0)
    assert refusal.value.retry_after_ms >= 1
    take(batcher)
    batcher.check_room(None, 0.0)


def test_room_is_denied_at_the_door_when_no_byte_more_may_be_held() -> None:
    batcher = make(max_bytes=100)
    put(batcher)
    with pytest.raises(QueueFull):
        batcher.check_room(None, 0.0)


def test_room_is_denied_at_the_door_to_who_cannot_wait_so_long() -> None:
    batcher = make(sizes=(1,))
    for _ in range(10):
        put(batcher)
    batcher.check_room(0.11, 0.0)
    with pytest.raises(QueueFull) as refusal:
        batcher.check_room(0.05, 0.0)
    assert 49 <= refusal.value.retry_after_ms <= 51
    # Late whatever the queue: that is not the queue's fault, and ``admit`` says so.
    batcher.check_room(-0.01, 0.0)
    batcher.check_room(0.009, 0.0)


def test_the_memory_limit_counts_what_is_being_run() -> None:
    batcher = make(max_bytes=150)
    put(batcher)
    batch = take(batcher)
    with pytest.raises(QueueFull):
        put(batcher)
    batcher.complete(batch, 0.01, 0.01)
    put(batcher)


def test_what_an_idle_worker_could_not_finish_is_refused_for_good() -> None:
    with pytest.raises(DeadlineMissed):
        put(make(), deadline_s=0.009)
    put(make(), deadline_s=0.011)


def test_a_spoiled_estimate_does_not_refuse_for_good() -> None:
    batcher = make()
    put(batcher)
    batcher.complete(take(batcher), 10.0, 10.0)
    put(batcher, now_s=10.0, deadline_s=10.02)


def test_what_only_the_queue_makes_late_may_come_again() -> None:
    batcher = make()
    for _ in range(10):
        put(batcher)
    with pytest.raises(QueueFull) as refusal:
        put(batcher, deadline_s=0.05)
    assert 30 <= refusal.value.retry_after_ms <= 100


def test_an_expired_request_is_never_run() -> None:
    batcher = make(sizes=(1,))
    put(batcher)
    late = put(batcher, deadline_s=0.1)
    last = put(batcher)
    take(batcher)
    assert take(batcher, now_s=0.2).spans[0].job is last
    assert batcher.expired() == [late]
    assert batcher.expired() == []
    assert late.done


def test_a_cancelled_request_is_never_run() -> None:
    batcher = make()
    gone, stays = put(batcher, count=3), put(batcher)
    batcher.drop(gone)
    batcher.drop(gone)
    assert batcher.queued == 1
    assert [span.job for span in take(batcher).spans] == [stays]


def test_cancelled_requests_do_not_pile_up_while_nobody_pulls() -> None:
    batcher = make()
    for _ in range(10_000):
        batcher.drop(put(batcher))
    assert batcher.spans_held(FP32) < 200


def test_a_tight_deadline_makes_the_batch_smaller() -> None:
    batcher = make()
    put(batcher, deadline_s=0.03)
    for _ in range(7):
        put(batcher)
    assert take(batcher).count == 2
    assert batcher.queued == 6


def test_a_late_comer_in_the_batch_counts_too() -> None:
    batcher = make()
    for _ in range(4):
        put(batcher)
    batcher.enqueue(job := Job(FP32, 1, 0, 0.0, 0.06))
    for _ in range(3):
        put(batcher)
    # Eight at once would make the fifth late; the four before it are none of its business.
    assert take(batcher).count == 4
    assert job in [span.job for span in take(batcher).spans]


def test_what_a_dead_worker_held_runs_first_and_each_request_alone() -> None:
    batcher = make()
    a, b, c = put(batcher), put(batcher), put(batcher)
    held = take(batcher)
    assert [span.job for span in held.spans] == [a, b]
    batcher.remove_worker(0)
    assert batcher.lost(held, blame=True) == []
    batcher.add_worker(1, costs())
    runs = [[span.job for span in take(batcher, 1).spans] for _ in range(3)]
    assert runs == [[a], [b], [c]]


def test_a_request_that_takes_a_second_worker_with_it_is_given_up() -> None:
    batcher = make(2)
    deadly = put(batcher)
    assert batcher.lost(take(batcher, 0), blame=True) == []
    assert batcher.lost(take(batcher, 1), blame=True) == [deadly]
    assert deadly.done
    assert batcher.take(0, 0.0) is None
    assert batcher.held_bytes == 0


def test_a_deliberate_kill_is_nobodys_fault() -> None:
    batcher = make()
    a, b = put(batcher), put(batcher)
    for _ in range(5):
        assert batcher.lost(take(batcher), blame=False) == []
    assert [span.job for span in take(batcher).spans] == [a, b]


def test_a_failed_part_gives_up_the_rest_of_its_request() -> None:
    batcher = make(sizes=(1,))
    put(batcher, count=3)
    batcher.lost(take(batcher), blame=True)
    assert len(batcher.lost(take(batcher), blame=True)) == 1
    assert batcher.queued == 0
    assert batcher.take(0, 0.0) is None


def test_a_picture_that_is_being_decoded_keeps_its_place_but_is_no_work_yet() -> None:
    batcher = make(max_queue=1)
    picture = Job(UINT8, 1, 10, 0.0)
    batcher.admit(picture, 0.0)
    assert batcher.queued == 1
    with pytest.raises(QueueFull):
        put(batcher)
    assert batcher.take(0, 0.0) is None
    batcher.enqueue(picture)
    assert take(batcher).spans[0].job is picture


def test_a_request_cancelled_while_it_is_decoded_is_not_queued() -> None:
    batcher = make()
    picture = Job(UINT8, 1, 10, 0.0)
    batcher.admit(picture, 0.0)
    batcher.drop(picture)
    batcher.enqueue(picture)
    assert batcher.queued == 0
    assert batcher.take(0, 0.0) is None


def test_a_queue_delay_waits_for_company_but_not_longer() -> None:
    batcher = make(sizes=(1, 2, 4), max_delay_s=0.05)
    put(batcher)
    assert batcher.take(0, 0.0) is None
    assert batcher.look_again_s(0.0) == pytest.approx(0.05)
    put(batcher, now_s=0.02)
    assert batcher.take(0, 0.049) is None
    assert take(batcher, now_s=0.051).count == 2


def test_a_full_batch_does_not_wait() -> None:
    batcher = make(2, sizes=(1, 2, 4), max_delay_s=0.05)
    for _ in range(4):
        put(batcher)
    assert take(batcher).count == 4


def test_a_deadline_ends_the_wait_for_company() -> None:
    batcher = make(sizes=(1, 2), max_delay_s=1.0)
    put(batcher, deadline_s=0.1)
    assert batcher.look_again_s(0.0) == pytest.approx(0.06)
    assert take(batcher, now_s=0.061).count == 1


def test_no_queue_is_blamed_for_a_deadline_that_no_worker_could_meet() -> None:
    """Where a batch costs next to nothing, the way to another process and back does not."""
    batcher: Batcher[Job] = Batcher(Policy(max_queue=100, max_bytes=10**9))
    batcher.add_worker(0, costs((1,), item_s=1e-7))
    for _ in range(20):
        put(batcher)
    with pytest.raises(DeadlineMissed):
        put(batcher, deadline_s=1e-6)


def test_one_datatype_that_waits_for_company_holds_up_no_other() -> None:
    batcher = make(sizes=(1, 2, 4, 8), max_delay_s=2.0)
    put(batcher, datatype=FP32)
    full = [put(batcher, datatype=UINT8, now_s=0.001) for _ in range(8)]
    batch = take(batcher, now_s=0.001)
    assert [span.job for span in batch.spans] == full
    assert batcher.take(0, 0.002) is None
    assert batcher.look_again_s(0.002) == pytest.approx(2.0)


def test_the_next_look_is_for_whatever_is_ready_first() -> None:
    batcher = make(sizes=(1, 2, 4), max_delay_s=0.5)
    put(batcher, datatype=FP32)
    put(batcher, datatype=UINT8, now_s=0.01, deadline_s=0.2)
    assert batcher.look_again_s(0.01) == pytest.approx(0.2 - 2 * 0.04)
    batch = take(batcher, now_s=0.2 - 2 * 0.04)
    assert batch.datatype is UINT8


def test_without_a_delay_there_is_no_timer() -> None:
    batcher = make()
    put(batcher)
    assert batcher.look_again_s(0.0) is None


def test_requests_wait_while_there_are_no_workers() -> None:
    batcher = make(0)
    job = put(batcher, deadline_s=5.0)
    batcher.add_worker(3, costs())
    assert take(batcher, 3).spans[0].job is job


def test_parts_of_one_request_that_lose_their_workers_at_once_run_again() -> None:
    batcher = make(2, sizes=(1, 2))
    job = put(batcher, count=3)
    held = [take(batcher, worker) for worker in (0, 1)]
    assert [batch.count for batch in held] == [2, 1]
    assert [batcher.lost(batch, blame=True) for batch in held] == [[], []]
    assert not job.done
    assert batcher.lost(take(batcher, 0), blame=True) == [job]
