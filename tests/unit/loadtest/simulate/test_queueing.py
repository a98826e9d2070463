"""The simulated queue against closed forms, and against figures made independently."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral_loadtest.simulate import queueing as queues
from corral_loadtest.simulate.queueing import Policy

COUNT = 60_000


@pytest.mark.parametrize("load", [0.5, 0.7, 0.8])
def test_m_d_1_waits_as_pollaczek_and_khinchine_say(load: float) -> None:
    found = queues.under_poisson(load, workers=1, count=COUNT)
    assert found.mean - 1 == pytest.approx(queues.mean_wait_m_d_1(load), rel=0.06)


@pytest.mark.parametrize(("workers", "load"), [(1, 0.5), (2, 0.7), (4, 0.8)])
def test_m_m_c_waits_as_erlang_says(workers: int, load: float) -> None:
    arrivals = queues.poisson_arrivals(load * workers, COUNT)
    services = queues.exponential_services(1.0, COUNT)
    found = queues.sojourns(arrivals, workers=workers, service=services)
    wait = float((found - services).mean())
    assert wait == pytest.approx(queues.mean_wait_m_m_c(workers, load), rel=0.08)
    assert float((found - services > 1e-9).mean()) == pytest.approx(
        queues.erlang_c(workers, load), rel=0.05
    )


def test_erlang_c_of_one_worker_is_its_load() -> None:
    assert queues.erlang_c(1, 0.6) == pytest.approx(0.6)
    assert queues.erlang_c(2, 0.7) == pytest.approx(0.5765, rel=0.001)


@pytest.mark.parametrize(
    ("workers", "load", "policy", "p99"),
    [
        (2, 0.7, Policy.SHARED, 4.2),
        (4, 0.7, Policy.SHARED, 2.5),
        (4, 0.7, Policy.RANDOM, 7.5),
        (4, 0.9, Policy.RANDOM, 21.7),
    ],
)
def test_p99_of_one_by_one_agrees_with_another_simulation(
    workers: int, load: float, policy: Policy, p99: float
) -> None:
    found = queues.under_poisson(load, workers=workers, policy=policy, count=COUNT)
    assert found.p99 == pytest.approx(p99, rel=0.12)


def _m_d_1_wait_at_most(time: float, load: float) -> float:
    """Erlang's exact distribution of the wait, in services."""
    terms = (
        (-load * (time - k)) ** k / math.factorial(k) * math.exp(load * (time - k))
        for k in range(math.floor(time) + 1)
    )
    return (1 - load) * sum(terms)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_a_random_split_is_as_many_m_d_1_queues(workers: int) -> None:
    """Its p99 does not depend on the number of workers; Erlang's formula says what it is."""
    exact = next(t for t in np.arange(0, 12, 0.01) if _m_d_1_wait_at_most(float(t), 0.7) >= 0.99)
    found = queues.under_poisson(0.7, workers=workers, policy=Policy.RANDOM, count=COUNT)
    assert found.p99 - 1 == pytest.approx(float(exact), rel=0.08)


def test_the_tail_of_m_d_4_falls_as_its_decay_rate_says() -> None:
    # P(wait > t) falls as exp(-rate t) where arrivals (z - 1) = workers ln z and
    # rate = arrivals (z - 1); at load 0.9 of 4 workers z is 1.2225.
    arrivals = 3.6
    z = 1.2225
    assert arrivals * (z - 1) == pytest.approx(4 * math.log(z), rel=0.005)
    offsets = queues.poisson_arrivals(arrivals, 200_000)
    waits = queues.sojourns(offsets, workers=4, service=1.0)[10_000:] - 1
    far, near = float((waits > 4).mean()), float((waits > 2).mean())
    assert math.log(near / far) / 2 == pytest.approx(arrivals * (z - 1), rel=0.1)


def test_one_shared_queue_beats_a_split_at_random() -> None:
    for load in (0.5, 0.7, 0.9):
        together = queues.under_poisson(load, workers=4, count=20_000)
        apart = queues.under_poisson(load, workers=4, policy=Policy.RANDOM, count=20_000)
        assert together.p99 < apart.p99


def test_batches_of_one_are_the_shared_queue() -> None:
    arrivals = queues.poisson_arrivals(1.4, 5000)
    plain = queues.sojourns(arrivals, workers=2, service=1.0)
    for policy in (Policy.FAIR, Policy.GREEDY):
        found = queues.sojourns(arrivals, workers=2, service=1.0, policy=policy, max_batch=1)
        assert np.allclose(found, plain)


def test_fair_share_leaves_work_for_the_other_worker() -> None:
    arrivals = np.array([0.0, 0.1, 0.2, 0.3, 0.4])
    cost = {1: 1.0, 2: 2.0, 3: 3.0, 4: 4.0}
    greedy = queues.batched(arrivals, cost.__getitem__, 2, Policy.GREEDY, 4)
    fair = queues.batched(arrivals, cost.__getitem__, 2, Policy.FAIR, 4)
    # At 1.0 three wait: the greedy worker takes all three and answers at 4.0.
    assert (greedy + arrivals).tolist() == pytest.approx([1.0, 1.1, 4.0, 4.0, 4.0])
    assert (fair + arrivals).tolist() == pytest.approx([1.0, 1.1, 3.0, 3.0, 2.1])


def test_where_batching_pays_fair_share_is_best() -> None:
    def cost(n: int) -> float:
        return 0.6 + 0.4 * n

    by_policy = {
        policy: queues.under_poisson(0.9, workers=4, policy=policy, cost=cost, count=30_000).p99
        for policy in (Policy.SHARED, Policy.FAIR, Policy.GREEDY)
    }
    assert min(by_policy, key=by_policy.__getitem__) is Policy.FAIR


@settings(max_examples=30, deadline=None)
@given(
    workers=st.integers(1, 5), load=st.floats(0.1, 0.95), seed=st.integers(0, 50),
    policy=st.sampled_from(Policy),
)  # fmt: skip
def test_nothing_is_answered_before_it_was_served(
    workers: int, load: float, seed: int, policy: Policy
) -> None:
    arrivals = queues.poisson_arrivals(load * workers, 200, seed)
    found = queues.sojourns(arrivals, workers=workers, service=1.0, policy=policy, seed=seed)
    assert found.shape == arrivals.shape
    assert (found >= 1 - 1e-9).all()
    again = queues.sojourns(arrivals, workers=workers, service=1.0, policy=policy, seed=seed)
    assert np.array_equal(found, again)


def test_a_queue_without_workers_is_refused() -> None:
    with pytest.raises(ValueError, match="worker"):
        queues.sojourns(np.array([0.0]), workers=0, service=1.0)
