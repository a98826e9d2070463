"""Which cap keeps a latency bound, and up to which rate."""

from __future__ import annotations

import pytest

from corral.batching.batcher import Batcher
from corral.batching.cost_model import CostModel
from corral.batching.jobs import Job
from corral.batching.latency_bound import Kept, keep_bound, spread
from corral.batching.policy import Policy
from corral.batching.prediction import poisson_gaps
from corral.tensors import Datatype

GAPS = poisson_gaps(1500)
POLICY = Policy(max_queue=1000, max_bytes=10**9)
#: a batch of 8 is 8 times as long as one, or a third of that
LINEAR = {size: [0.01 * size] for size in (1, 2, 4, 8)}
PAYS = {size: [0.01 * (0.75 + 0.25 * size)] for size in (1, 2, 4, 8)}


def kept(services_s: dict[int, list[float]], rate: float, bound_s: float = 0.1) -> Kept:
    return keep_bound(POLICY, 1, services_s, overhead_s=0.0, bound_s=bound_s, rate=rate, gaps=GAPS)


def test_where_batches_gain_nothing_they_are_of_one() -> None:
    """The first of a batch would wait for the last."""
    assert kept(LINEAR, 70.0).batch_cap == 1


def test_where_batches_pay_a_high_rate_gets_larger_ones() -> None:
    low, high = kept(PAYS, 20.0), kept(PAYS, 250.0)
    # One worker makes 100/s one by one, and 291/s in batches of 8.
    assert high.batch_cap == 8
    assert low.keeps_per_s == high.keeps_per_s > 150


def test_an_overload_goes_by_what_carries_most() -> None:
    assert kept(PAYS, 2000.0).batch_cap == 8


def test_a_bound_that_nothing_keeps_is_kept_at_no_rate() -> None:
    assert kept(LINEAR, 10.0, bound_s=0.009).keeps_per_s == 0


def test_what_each_request_takes_of_the_worker_counts_at_higher_rates() -> None:
    """At 40/s a fifth of the worker is taken already; 20 ms are 16 ms, and ever more of them."""
    taken_s, bound_s = 0.005, 0.2
    alone = {1: [0.016]}

    def at(rate: float, services_s: dict[int, list[float]]) -> Kept:
        return keep_bound(
            POLICY, 1, services_s, overhead_s=0.0, bound_s=bound_s, rate=rate, gaps=GAPS,
            taken_s=taken_s,
        )  # fmt: skip

    seen = at(40.0, {1: [0.020]})
    assert seen.keeps_per_s == pytest.approx(at(0.0, alone).keeps_per_s)
    # Nothing is carried beyond 1 / (16 ms + 5 ms).
    assert 0.6 / 0.021 < seen.keeps_per_s < 1 / 0.021
    # At a low rate little of it is seen in the times themselves.
    low = {1: [0.016 / 0.95]}
    assert at(10.0, low).keeps_per_s == pytest.approx(seen.keeps_per_s)
    assert kept(low, 10.0, bound_s).keeps_per_s > 1.15 * seen.keeps_per_s


def test_spread_has_the_least_and_the_mean() -> None:
    found = spread(0.010, 0.012)
    assert min(found) >= 0.010
    assert sum(found) / len(found) == pytest.approx(0.012)
    assert spread(0.010, 0.009) == [0.010] * 10


def test_a_cap_holds_for_workers_that_are_there_and_that_come() -> None:
    batcher: Batcher[Job] = Batcher(POLICY)
    measured = {f"FP32:{size}": 0.01 for size in (1, 2, 4, 8)}
    batcher.add_worker(0, CostModel([1, 2, 4, 8], measured))
    batcher.set_policy(Policy(max_queue=1000, max_bytes=10**9, batch_cap=3))
    batcher.add_worker(1, CostModel([1, 2, 4, 8], measured))
    for _ in range(40):
        job = Job(Datatype.FP32, 1, 1, 0.0)
        batcher.admit(job, 0.0)
        batcher.enqueue(job)
    sizes = []
    for worker in (0, 1):
        batch = batcher.take(worker, 0.0)
        assert batch is not None
        sizes.append(batch.count)
    assert sizes == [2, 2]
    batcher.set_policy(POLICY)
    batch = batcher.take(0, 0.0)
    assert batch is not None
    assert batch.count == 8
