"""Interactive requests before bulk, by hand and as properties of a simulated cell."""

from __future__ import annotations

import contextlib
import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.batching.batcher import Batcher
from corral.batching.cost_model import CostModel
from corral.batching.jobs import Batch, Job
from corral.batching.policy import Policy
from corral.errors import QueueFull
from corral.priority import Priority
from corral.tensors import Datatype

INTERACTIVE, BULK = Priority.INTERACTIVE, Priority.BULK
FP32, UINT8 = Datatype.FP32, Datatype.UINT8
ITEM_S = 0.01


def make(workers: int, *, share: float = 0.1, sizes: tuple[int, ...] = (1,)) -> Batcher[Job]:
    policy = Policy(max_queue=100, max_bytes=10**9, bulk_share=share, bulk_hold_s=1.0)
    batcher: Batcher[Job] = Batcher(policy)
    for worker in range(workers):
        measured = {f"{d.name}:{n}": n * ITEM_S for d in Datatype for n in sizes}
        batcher.add_worker(worker, CostModel(sizes, measured))
    return batcher


def put(
    batcher: Batcher[Job],
    priority: Priority,
    now_s: float,
    *,
    count: int = 1,
    datatype: Datatype = FP32,
    size_bytes: int = 1,
) -> Job:
    job = Job(datatype, count, size_bytes, now_s, priority=priority)
    batcher.admit(job, now_s)
    batcher.enqueue(job)
    return job


def first(batch: Batch[Job] | None) -> Job:
    assert batch is not None
    return batch.spans[0].job


def test_interactive_comes_first_whatever_came_before() -> None:
    batcher = make(1)
    early = put(batcher, BULK, 0.0, datatype=UINT8)
    late = put(batcher, INTERACTIVE, 0.0)
    assert first(batcher.take(0, 0.0)) is late
    assert first(batcher.take(0, 0.0)) is early


def test_a_batch_holds_one_priority() -> None:
    batcher = make(1, sizes=(1, 2, 4))
    put(batcher, INTERACTIVE, 0.0)
    put(batcher, BULK, 0.0)
    batch = batcher.take(0, 0.0)
    assert batch is not None
    assert [span.job.priority for span in batch.spans] == [INTERACTIVE]


def test_bulk_takes_every_worker_while_nobody_else_comes() -> None:
    batcher = make(2)
    for _ in range(2):
        put(batcher, BULK, 0.0)
    assert batcher.take(0, 0.0)
    assert batcher.take(1, 0.0)


def test_bulk_leaves_a_worker_for_as_long_as_interactive_requests_come() -> None:
    batcher = make(2)
    put(batcher, INTERACTIVE, 5.0)
    answered = batcher.take(0, 5.0)
    assert answered
    batcher.complete(answered, 5.1, ITEM_S)
    for _ in range(3):
        put(batcher, BULK, 5.1)
    # What it is given while there is room leaves it in debt, so no share is due yet.
    assert batcher.take(0, 5.1)
    assert batcher.take(1, 5.1) is None
    assert batcher.look_again_s(5.1) == pytest.approx(6.0)
    assert batcher.take(1, 6.0)


def test_one_worker_runs_bulk_one_at_a_time_while_interactive_requests_come() -> None:
    batcher = make(1, sizes=(1, 2, 4))
    put(batcher, INTERACTIVE, 0.0)
    assert batcher.take(0, 0.0)
    put(batcher, BULK, 0.0, count=4)
    batch = batcher.take(0, 0.5)
    assert batch is not None
    assert batch.count == 1
    batch = batcher.take(0, 1.5)
    assert batch is not None
    assert batch.count == 2


def test_a_full_line_of_one_priority_refuses_nothing_of_the_other() -> None:
    batcher = make(1)
    for _ in range(100):
        put(batcher, INTERACTIVE, 0.0)
    with pytest.raises(QueueFull, match="the queue is full"):
        batcher.check_room(None, 0.0)
    for _ in range(49):
        put(batcher, BULK, 0.0)
    # At the door it is not known yet which it is, and bulk has a place.
    batcher.check_room(None, 0.0)
    put(batcher, BULK, 0.0)
    with pytest.raises(QueueFull, match="bulk"):
        put(batcher, BULK, 0.0)
    with pytest.raises(QueueFull, match="the queue is full"):
        batcher.check_room(None, 0.0)
    with pytest.raises(QueueFull, match="the queue is full"):
        put(batcher, INTERACTIVE, 0.0)


def test_bulk_has_half_of_the_bytes_but_any_request_that_is_alone() -> None:
    batcher = make(1)
    put(batcher, BULK, 0.0, size_bytes=9 * 10**8)
    with pytest.raises(QueueFull, match="bulk"):
        put(batcher, BULK, 0.0)
    put(batcher, INTERACTIVE, 0.0)


def test_bulk_in_the_queue_makes_no_interactive_deadline_late() -> None:
    batcher = make(1)
    for _ in range(20):
        put(batcher, BULK, 0.0)
    job = Job(FP32, 1, 1, 0.0, 2.5 * ITEM_S)
    batcher.admit(job, 0.0)
    with pytest.raises(QueueFull, match="too long"):
        batcher.admit(Job(FP32, 1, 1, 0.0, 2.5 * ITEM_S, priority=BULK), 0.0)


def test_what_a_worker_died_with_keeps_its_priority() -> None:
    batcher = make(1)
    job = put(batcher, BULK, 0.0)
    batch = batcher.take(0, 0.0)
    assert batch
    batcher.lost(batch, blame=True)
    other = put(batcher, INTERACTIVE, 0.0)
    assert first(batcher.take(0, 0.0)) is other
    assert first(batcher.take(0, 0.0)) is job


@dataclasses.dataclass
class Ran:
    """What a simulated cell did: seconds of workers by priority, and how long each kind waited."""

    seconds: dict[Priority, float]
    waits_s: dict[Priority, list[float]]
    idle_while_bulk_waits_s: float = 0.0


def simulate(batcher: Batcher[Job], workers: int, rate: float, *, end_s: float) -> Ran:
    """Bulk without end, and an interactive request every ``1 / rate`` seconds; 0 for none."""
    ran = Ran(dict.fromkeys(Priority, 0.0), {priority: [] for priority in Priority})
    busy: dict[int, tuple[float, Batch[Job]]] = {}
    next_s = 0.0 if rate else math.inf
    now_s = 0.0
    while now_s < end_s:
        while True:
            try:
                put(batcher, BULK, now_s)
            except QueueFull:
                break
        if next_s <= now_s:
            with contextlib.suppress(QueueFull):
                put(batcher, INTERACTIVE, now_s)
            next_s += 1 / rate
        for worker in range(workers):
            if worker not in busy and (batch := batcher.take(worker, now_s)) is not None:
                cost_s = batch.count * ITEM_S
                busy[worker] = now_s + cost_s, batch
                job = first(batch)
                ran.seconds[job.priority] += cost_s
                ran.waits_s[job.priority].append(now_s - job.arrived_s)
        ends = [end for end, _ in busy.values()]
        look_s = batcher.look_again_s(now_s) if len(busy) < workers else None
        then_s = min([next_s, *ends, math.inf if look_s is None else max(look_s, now_s + 1e-9)])
        if len(busy) < workers:
            ran.idle_while_bulk_waits_s += then_s - now_s
        now_s = then_s
        for worker, (end, batch) in list(busy.items()):
            if end <= now_s:
                del busy[worker]
                batcher.complete(batch, now_s, batch.count * ITEM_S)
    return ran


@settings(max_examples=12, deadline=None, derandomize=True)
@given(workers=st.integers(1, 4), share=st.floats(0.02, 0.5), load=st.floats(1.2, 3.0))
def test_under_an_overload_of_interactive_requests_bulk_gets_its_share(
    workers: int, share: float, load: float
) -> None:
    ran = simulate(make(workers, share=share), workers, load * workers / ITEM_S, end_s=2.0)
    got = ran.seconds[BULK] / sum(ran.seconds.values())
    assert got == pytest.approx(share, abs=0.03)


def test_a_share_of_nothing_is_nothing() -> None:
    ran = simulate(make(2, share=0.0), 2, 2.0 * 2 / ITEM_S, end_s=2.0)
    # Before the first interactive request comes, there is nobody to come first.
    assert ran.seconds[BULK] <= ITEM_S


@settings(max_examples=12, deadline=None, derandomize=True)
@given(workers=st.integers(2, 4), load=st.floats(0.05, 0.5))
def test_light_interactive_load_finds_a_worker_at_once(workers: int, load: float) -> None:
    # One worker is left, and requests come no closer together than it answers them.
    ran = simulate(make(workers), workers, load / ITEM_S, end_s=2.0)
    waited = sorted(ran.waits_s[INTERACTIVE])
    # Before the first has come, bulk has every worker.
    assert waited[-2] < 1e-6
    assert ran.seconds[BULK] > 0.9 * (workers - 1) * 2.0


@settings(max_examples=4, deadline=None, derandomize=True)
@given(workers=st.integers(1, 4))
def test_no_worker_idles_while_bulk_waits_and_nobody_else_comes(workers: int) -> None:
    ran = simulate(make(workers), workers, 0.0, end_s=1.0)
    assert ran.idle_while_bulk_waits_s == 0.0
