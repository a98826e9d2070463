"""Rates, quantiles and use between two looks at the counters."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.status_cases import PLACES, Numbers

from corral.console.frame import WINDOW_S, Window, between, is_another, quantile
from corral.console.sample import Place, Sample, take
from corral.metrics.counters import TIME_BUCKETS_S


def test_what_happened_between_two_looks_is_told_a_second() -> None:
    numbers = Numbers()
    numbers.answer(100, 3)
    numbers.run(10, 4, 1.0)
    before = numbers.sample(10.0)
    # 0.0025 s to 0.005 s; of the other cell 0.05 s to 0.1 s
    numbers.answer(30, 3)
    numbers.answer(10, 7, cell=1)
    numbers.run(5, 4, 0.5)
    numbers.run(20, 1, 1.8, cell=1)
    numbers.add("view/image/received", 6)
    numbers.add("view/image/failure_refused", 6)
    numbers.add("view/tensor/pending_items", 3)
    numbers.add("view/tensor/inflight", 5)
    numbers.add("view/tensor/pending_items", 3, cell=1)
    frame = between(before, numbers.sample(12.0), unix_s=99.0)
    assert (frame.at_s, frame.span_s) == (99.0, 2.0)
    assert frame.received_s == 23.0
    assert frame.outcomes_s["succeeded"] == 20.0
    assert frame.outcomes_s["refused"] == 3.0
    assert frame.outcomes_s["failed"] == 0.0
    assert frame.items_s == 20.0
    assert frame.sizes == {1: 20, 4: 5}
    assert frame.batches_s == 12.5
    assert frame.batch == pytest.approx(40 / 25)
    assert (frame.waiting, frame.inflight, frame.queues) == (6, 5, [3, 3])
    assert frame.latency_ms is not None
    assert frame.latency_ms.p50 == pytest.approx(2.5 + 2.5 * 20 / 30)
    assert 50 < frame.latency_ms.p90 < frame.latency_ms.p99 < 100
    assert frame.queue_ms is None
    first, second = frame.workers
    assert (first.id, first.use, first.items_s, first.batch) == (0, 0.25, 10.0, 4.0)
    assert (second.id, second.use, second.items_s, second.batch) == (1, 0.9, 10.0, 1.0)
    assert frame.use == pytest.approx(0.575)
    assert frame.total["succeeded"] == 140


def test_one_look_alone_has_no_rates() -> None:
    numbers = Numbers()
    numbers.answer(5, 2)
    numbers.run(5, 1, 3.0)
    sample = numbers.sample(1.0)
    frame = between(sample, sample, unix_s=1.0)
    assert frame.span_s == frame.items_s == frame.use == 0
    assert frame.latency_ms is None
    assert not frame.sizes
    assert frame.total["succeeded"] == 5


def test_a_batch_that_began_before_does_not_overfill_a_worker() -> None:
    numbers = Numbers()
    before = numbers.sample(0.0)
    numbers.run(1, 1, 5.0)
    assert between(before, numbers.sample(1.0), unix_s=1.0).workers[0].use == 1.0


def test_a_worker_that_is_new_has_done_nothing_yet() -> None:
    numbers = Numbers()
    numbers.run(7, 1, 5.0)
    counts = numbers.pages.snapshot()
    before = take(counts, [], cells=2, at_s=0.0)
    assert not before.workers
    (first, _) = between(before, numbers.sample(1.0), unix_s=1.0).workers
    assert (first.use, first.items_s, first.batch) == (0, 0, 0)


def test_a_worker_that_came_within_the_window_is_measured_from_then_on() -> None:
    numbers, window = Numbers(), Window()
    window.add(take(numbers.pages.snapshot(), [], cells=2, at_s=0.0), unix_s=0.0)
    window.add(numbers.sample(2.0), unix_s=0.0)
    numbers.run(10, 2, 0.5)
    (first, _) = window.add(numbers.sample(3.0), unix_s=0.0).workers
    assert (first.use, first.items_s, first.batch) == (0.5, 20.0, 2.0)


def test_a_worker_of_a_cell_that_is_not_there_is_left_out() -> None:
    counts = Numbers().pages.snapshot()
    assert not take(counts, [Place(4, 2, 0)], cells=2, at_s=0.0).workers


def test_the_window_looks_back_and_no_further() -> None:
    numbers, window = Numbers(), Window()
    spans = []
    for second in range(9):
        numbers.answer(10 * second, 2)
        frame = window.add(numbers.sample(float(second)), unix_s=0.0)
        spans.append(frame.span_s)
    assert spans == [0, 1, 2, 3, 4, 5, 5, 5, 5]
    assert frame.outcomes_s["succeeded"] == (80 + 70 + 60 + 50 + 40) / WINDOW_S


def test_after_a_pause_the_window_is_the_pause() -> None:
    numbers, window = Numbers(), Window()
    window.add(numbers.sample(0.0), unix_s=0.0)
    window.add(numbers.sample(1.0), unix_s=0.0)
    assert window.add(numbers.sample(61.0), unix_s=0.0).span_s == 60.0


def test_another_server_begins_anew() -> None:
    numbers, window = Numbers(), Window()
    numbers.answer(50, 2)
    window.add(numbers.sample(5.0), unix_s=0.0)
    fresh = Numbers()
    fresh.answer(1, 2)
    frame = window.add(fresh.sample(6.0), unix_s=0.0)
    assert frame.span_s == 0
    assert not any(frame.outcomes_s.values())
    # The machine was started anew: its monotonic clock, too.
    assert is_another(numbers.sample(100.0), numbers.sample(5.0))
    assert not is_another(numbers.sample(5.0), numbers.sample(6.0))


def test_a_sample_survives_the_admin_socket() -> None:
    numbers = Numbers()
    numbers.run(3, 2, 0.1)
    sample = numbers.sample(4.0)
    assert msgspec.json.decode(msgspec.json.encode(sample), type=Sample) == sample
    assert [worker.id for worker in sample.workers] == [place.id for place in PLACES]


BUCKETS = len(TIME_BUCKETS_S) + 1


@given(st.lists(st.integers(0, 50), min_size=BUCKETS, max_size=BUCKETS).filter(any))
def test_quantiles_rise_and_lie_in_their_bucket(counts: list[int]) -> None:
    found = [quantile(counts, q) for q in (0.01, 0.5, 0.9, 0.99, 1.0)]
    assert found == sorted(found)
    bounds = (0.0, *TIME_BUCKETS_S, math.inf)
    filled = [i for i, count in enumerate(counts) if count]
    assert bounds[filled[0]] <= found[0]
    assert found[-1] <= bounds[filled[-1] + 1]


def test_beyond_the_last_bucket_its_lower_bound_is_told() -> None:
    assert quantile([0] * (BUCKETS - 1) + [3], 0.5) == TIME_BUCKETS_S[-1]
