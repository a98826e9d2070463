"""The simulated cell beside the real batcher, event by event, and beside closed forms."""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.batching import prediction
from corral.batching.batcher import Batcher
from corral.batching.cost_model import CostModel
from corral.batching.jobs import Batch, Job
from corral.batching.policy import Policy
from corral.batching.prediction import (
    Prediction,
    at_rate,
    highest_rate,
    percentile,
    poisson_gaps,
    predict,
)
from corral.batching.simulation import SimulatedCell, simulate
from corral.errors import QueueFull
from corral.tensors import Datatype

SIZES = (1, 2, 4, 8)
#: a batch is cheaper than its items
PAYS = {1: 0.010, 2: 0.015, 4: 0.025, 8: 0.045}
LINEAR = {size: 0.01 * size for size in SIZES}

policies = st.builds(
    Policy,
    max_queue=st.sampled_from([3, 20, 1000]),
    max_bytes=st.just(10**9),
    max_delay_s=st.sampled_from([0.0, 0.0, 0.004, 0.03]),
    real_time=st.booleans(),
    batch_cap=st.sampled_from([None, None, 1, 3, 4]),
)


def by_the_batcher(
    policy: Policy, workers: int, costs_s: dict[int, float], arrivals_s: list[float]
) -> list[float]:
    """Sojourns with the real batcher, driven by arrivals, completions and its own timer."""
    batcher: Batcher[Job] = Batcher(policy)
    measured = {f"{d.name}:{size}": cost for d in Datatype for size, cost in costs_s.items()}
    for worker in range(workers):
        batcher.add_worker(worker, CostModel(tuple(costs_s), measured))
    order = itertools.count()
    jobs = [Job(Datatype.FP32, 1, 1, arrival) for arrival in arrivals_s]
    events: list[tuple[float, int, object]] = [(j.arrived_s, next(order), j) for j in jobs]
    heapq.heapify(events)
    free = list(range(workers))
    ends = dict.fromkeys(map(id, jobs), math.inf)
    while events:
        now_s, _, event = heapq.heappop(events)
        if isinstance(event, Job):
            try:
                batcher.admit(event, now_s)
            except QueueFull:
                continue
            batcher.enqueue(event)
        elif event is not None:
            assert isinstance(event, Batch)
            for job in batcher.complete(event, now_s, costs_s[event.count]):
                ends[id(job)] = now_s
            free.append(event.worker)
        while free and (taken := batcher.take(free[0], now_s)) is not None:
            end_s = now_s + costs_s[taken.count]
            heapq.heappush(events, (end_s, next(order), taken))
            free.pop(0)
        if free and (again_s := batcher.look_again_s(now_s)) is not None:
            heapq.heappush(events, (max(again_s, now_s), next(order), None))
    return [ends[id(job)] - job.arrived_s for job in jobs]


@given(
    policy=policies,
    workers=st.integers(1, 4),
    costs_s=st.sampled_from([PAYS, LINEAR, {1: 0.01}, {1: 0.01, 2: 0.012}]),
    load=st.floats(0.2, 1.6),
    seed=st.integers(0, 1000),
)
@settings(max_examples=150, deadline=None)
def test_every_decision_is_the_batchers(
    policy: Policy, workers: int, costs_s: dict[int, float], load: float, seed: int
) -> None:
    arrivals_s = at_rate(poisson_gaps(120, seed), load * workers / 0.01)
    cell = SimulatedCell(
        policy=policy, workers=workers, services_s={n: [cost] for n, cost in costs_s.items()}
    )
    found = simulate(cell, arrivals_s)
    expected = by_the_batcher(policy, workers, costs_s, arrivals_s)
    assert found.sojourns_s == pytest.approx(expected)
    assert found.refused == sum(map(math.isinf, expected))
    assert sum(size * times for size, times in found.batches.items()) == 120 - found.refused


def cell(workers: int = 1, max_queue: int = 10_000) -> SimulatedCell:
    policy = Policy(max_queue=max_queue, max_bytes=10**9)
    return SimulatedCell(policy=policy, workers=workers, services_s={1: [1.0]})


def test_one_worker_waits_as_pollaczek_and_khinchine_say() -> None:
    found = simulate(cell(), at_rate(poisson_gaps(60_000), 0.7)).sojourns_s
    assert sum(found) / len(found) - 1 == pytest.approx(0.7 / (2 * 0.3), rel=0.06)


def test_times_that_vary_make_requests_wait_longer() -> None:
    even = SimulatedCell(policy=cell().policy, workers=1, services_s={1: [1.0]})
    uneven = SimulatedCell(policy=cell().policy, workers=1, services_s={1: [0.5, 0.5, 2.0]})
    gaps = poisson_gaps(20_000)
    assert predict(uneven, gaps, 0.7).p99_s > 1.3 * predict(even, gaps, 0.7).p99_s


def test_the_highest_rate_keeps_the_bound_and_a_higher_one_does_not() -> None:
    gaps = poisson_gaps(20_000)
    best = highest_rate(cell(2), gaps, 4.2)
    assert best is not None
    # Two workers at 70 % of their load have a p99 of 4.2 services (docs/latency-under-load.md).
    assert best.rate == pytest.approx(1.4, rel=0.06)
    assert best.p99_s <= 4.2 < predict(cell(2), gaps, best.rate * 1.03).p99_s


@given(
    guess=st.floats(0.001, 10.0),
    bound_s=st.floats(1.5, 30.0),
    near=st.floats(0.005, 0.05),
)
def test_a_guess_changes_the_highest_rate_by_no_more_than_how_near_it_is(
    guess: float, bound_s: float, near: float
) -> None:
    gaps = poisson_gaps(500)
    without = highest_rate(cell(2), gaps, bound_s)
    found = highest_rate(cell(2), gaps, bound_s, near=near, guess=guess)
    assert without is not None
    assert found is not None
    assert found.p99_s <= bound_s
    # A schedule's percentile need not grow with its rate everywhere.
    assert found.rate == pytest.approx(without.rate, rel=near + 0.03)


def test_a_good_guess_spares_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[float] = []

    def noting(*args: Any, **options: Any) -> Prediction:
        tried.append(args[2])
        return predict(*args, **options)

    monkeypatch.setattr(prediction, "predict", noting)
    gaps = poisson_gaps(2000)
    best = highest_rate(cell(2), gaps, 4.2)
    assert best is not None
    without = len(tried)
    highest_rate(cell(2), gaps, 4.2, guess=best.rate * 1.03)
    assert len(tried) - without <= 0.7 * without


def test_overhead_takes_from_the_bound() -> None:
    gaps = poisson_gaps(5_000)
    free, paid = highest_rate(cell(), gaps, 4.0), highest_rate(cell(), gaps, 4.0, overhead_s=1.0)
    assert free is not None
    assert paid is not None
    assert paid.rate < free.rate
    assert paid.p99_s <= 4.0


def test_what_requests_take_of_the_workers_makes_batches_longer() -> None:
    """Two workers that make 2/s: where a request takes half a second of each, they make 1/s."""
    taken = dataclasses.replace(cell(2), taken_s=0.5)
    assert taken.most_per_s == pytest.approx(1.0)
    assert taken.at(0.8).mean_s(1) == pytest.approx(1 / (1 - 0.4))
    assert taken.at(taken.most_per_s).most_per_s == pytest.approx(taken.most_per_s)
    gaps = poisson_gaps(5_000)
    much, little = highest_rate(taken, gaps, 6.0), highest_rate(cell(2), gaps, 6.0)
    assert much is not None
    assert little is not None
    assert 0.4 * little.rate < much.rate < min(0.6 * little.rate, taken.most_per_s)


def test_a_batch_is_shorter_while_other_workers_rest() -> None:
    alone = dataclasses.replace(cell(3), lone=0.6)
    # The first begins alone, the second beside one of two, the third beside both.
    assert simulate(alone, [0.0, 0.1, 0.2]).sojourns_s == pytest.approx([0.6, 0.8, 1.0])
    # What is taken stops those that compute, and nobody while one rests.
    taken = dataclasses.replace(cell(2), taken_s=0.5).at(0.4)
    assert simulate(taken, [0.0, 10.0, 10.1]).sojourns_s == pytest.approx([1.0, 1.0, 1.25])


def test_a_bound_below_one_service_is_kept_at_no_rate() -> None:
    assert highest_rate(cell(), poisson_gaps(1000), 0.99) is None


def test_a_full_queue_refuses_and_that_is_no_rate_kept() -> None:
    found = predict(cell(max_queue=2), poisson_gaps(5000), 2.0)
    assert found.refused > 0.3
    assert math.isinf(found.p99_s)
    assert not found.keeps(math.inf)


def test_a_trace_is_played_at_any_rate() -> None:
    assert at_rate([1.0, 3.0], 10.0) == pytest.approx([0.05, 0.2])


@pytest.mark.parametrize(("share", "expected"), [(0.5, 2), (0.99, 4), (0.25, 1)])
def test_percentiles_are_of_the_values(share: float, expected: int) -> None:
    assert percentile([1, 2, 3, 4], share) == expected
