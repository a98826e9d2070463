"""Confirming predictions on servers that are simulated: what is measured next, and what is told."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence

import msgspec
import pytest
from support.simulated_servers import (
    BOUND_S,
    MEMORY,
    NARROW,
    NULL,
    WIDE,
    Machine,
    configuration,
    forecast,
    noisy,
)

from corral.batching.contention import slowdown
from corral.batching.prediction import Prediction, poisson_gaps
from corral.batching.simulation import simulate
from corral.settings import Settings
from corral.slo.confirm import SLOWER, Confirmation
from corral.slo.contenders import distinct
from corral.slo.forecast import Forecast
from corral.slo.interval import Pairs, Ratio, ratio
from corral.slo.running import Round
from corral.slo.service import (
    Batch,
    Calibration,
    Served,
    ServiceTimes,
    calibrate,
    inflated,
    with_served,
)
from corral.slo.space import Configuration


def confirmed(machine: Machine, one: Configuration, rounds: int = 6) -> Confirmation:
    made = forecast()
    predicted = made.highest(one)
    assert predicted is not None
    found = Confirmation(made, machine.measure, BOUND_S)
    trial = found.add(one, predicted)
    for _ in range(rounds):
        if not trial.settled:
            found.turn(trial, 3.0)
    return found


@pytest.mark.parametrize(
    ("slower", "one"),
    [(0.8, configuration(NARROW, 4)), (1.0, configuration()), (1.3, configuration(WIDE))],
)
def test_it_finds_the_rate_whatever_serving_adds(slower: float, one: Configuration) -> None:
    machine = Machine(slower)
    found = confirmed(machine, one).best
    assert found is not None
    assert found.found is not None
    # What it promises holds, and little is left.
    assert found.found.rate == pytest.approx(machine.truth(one), rel=0.08)
    low, high = found.found.rate_interval
    assert low <= high
    assert found.found.p99_interval_ms[1] <= BOUND_S * 1000


def test_a_server_that_is_much_slower_is_measured_at_lower_rates() -> None:
    machine = Machine(2.0)
    found = confirmed(machine, configuration())
    assert machine.rates[1] < 0.8 * machine.rates[0]
    assert found.best is not None


def test_a_server_that_refuses_does_not_hold() -> None:
    class Refusing(Machine):
        def measure(self, one: Configuration, rate: float, offsets_s: Sequence[float]) -> Round:
            found = super().measure(one, rate, offsets_s)
            found.latencies_s[-1] = math.inf
            return found

    assert confirmed(Refusing(1.0), configuration(), 2).best is None


def test_what_is_behind_for_sure_gets_no_other_round() -> None:
    made, machine = forecast(), Machine(1.0)
    found = Confirmation(made, machine.measure, BOUND_S)
    narrow, wide = configuration(), configuration(NARROW, 4)
    for one in (narrow, wide):
        predicted = made.highest(one)
        assert predicted is not None
        found.add(one, predicted)
    slow, fast = found.trials
    assert found.hopeful() == [slow, fast]
    for _ in range(4):
        for trial in found.hopeful():
            found.turn(trial, 4.0)
    assert found.best is fast
    assert slow not in found.hopeful()


def test_what_is_left_is_for_the_likeliest_where_nothing_holds() -> None:
    made, machine = forecast(), Machine(1.0)
    found = Confirmation(made, machine.measure, BOUND_S)
    for one in (configuration(), configuration(NARROW, 4)):
        predicted = made.highest(one)
        assert predicted is not None
        found.add(one, predicted)
    slow, fast = found.trials
    assert found.last() is fast
    slow.rate = 2 * fast.rate
    assert found.last() is slow
    fast.rate = 30.0
    found.turn(fast, 4.0)
    # It held, far below what it may keep.
    assert found.best is fast
    assert found.last() is None


def test_the_last_round_is_at_a_rate_that_is_safe() -> None:
    """A step back of a few percent from what was too much would leave nothing that holds."""
    made, machine, one = forecast(), Machine(1.0), configuration()
    predicted = made.highest(one)
    assert predicted is not None
    found = Confirmation(made, machine.measure, BOUND_S)
    trial = found.add(one, predicted)
    trial.rate = 1.5 * machine.truth(one)
    found.turn(trial, 4.0)
    assert found.best is None
    assert trial.found is not None
    safe_rate, _ = trial.found.rate_interval
    # As after a stall: it may hold, and need not.
    trial.rate = 1.2 * safe_rate
    assert found.last() is trial
    assert 0 < trial.rate < safe_rate
    found.turn(trial, 4.0)
    assert found.best is trial


class Changing(Machine):
    """One that is twice as slow above 100 requests a second."""

    def measure(self, one: Configuration, rate: float, offsets_s: Sequence[float]) -> Round:
        self.slower = 2.0 if rate > 100 else 1.0
        return super().measure(one, rate, offsets_s)


def test_a_rate_that_held_is_not_forgotten_for_a_higher_one_that_does_not() -> None:
    made = forecast()
    predicted = made.highest(configuration())
    assert predicted is not None
    found = Confirmation(made, Changing(1.0).measure, BOUND_S)
    trial = found.add(configuration(), predicted)
    trial.rate = 60.0
    found.turn(trial, 6.0)
    assert trial.found is not None
    assert trial.found.rate == 60.0
    trial.rate = 140.0
    found.turn(trial, 3.0)
    assert trial.found.rate == 60.0
    # The same rate again, and this time it does not: it is refuted.
    refusing = Confirmation(made, Changing(1.0).measure, 0.001)
    trial.rate = 60.0
    refusing.turn(trial, 6.0)
    assert not trial.found.rate


def test_a_rate_that_held_is_kept_when_only_a_little_more_is_too_much() -> None:
    """It is what a second measurement would say, too: what is above it is no news of it."""
    made, machine = forecast(), Machine(1.0)
    predicted = made.highest(configuration())
    assert predicted is not None
    found = Confirmation(made, machine.measure, BOUND_S)
    trial = found.add(configuration(), predicted)
    for rate in (0.99 * predicted.rate, 1.05 * predicted.rate):
        trial.rate = rate
        found.turn(trial, 12.0)
    assert trial.found is not None
    assert trial.found.rate == pytest.approx(0.99 * predicted.rate)
    assert trial.rate > trial.found.rate


class Lucky(Machine):
    """One whose answers come in half the time at 70 requests a second."""

    def measure(self, one: Configuration, rate: float, offsets_s: Sequence[float]) -> Round:
        found = super().measure(one, rate, offsets_s)
        if rate != 70.0:
            return found
        halves = [spent_s / 2 for spent_s in found.latencies_s]
        return msgspec.structs.replace(found, latencies_s=halves, served=Served(rate=rate))


def test_few_requests_are_judged_with_the_nearest_others() -> None:
    """At a low rate a round has few requests; what others say of the prediction counts, too."""
    ends = []
    for before in ((), (50.0, 60.0)):
        made = forecast()
        predicted = made.highest(configuration())
        assert predicted is not None
        found = Confirmation(made, Lucky(1.0).measure, BOUND_S)
        trial = found.add(configuration(), predicted)
        for rate in (*before, 70.0):
            trial.rate = rate
            found.turn(trial, 2.0)
        assert trial.found is not None
        ends.append(trial.found.p99_interval_ms[1])
    assert ends[1] > 1.3 * ends[0]


def test_the_ratio_takes_the_luck_of_the_arrivals_out() -> None:
    """Twenty short measurements of one server differ more than their ratios to a simulation."""
    cell = Machine(1.0).cell(configuration())
    raw, ratios = [], []
    for seed in range(20):
        gaps = poisson_gaps(400, seed)
        total, offsets = 0.0, []
        for gap in gaps:
            total += gap / 160
            offsets.append(total)
        measured = simulate(cell, offsets, seed).sojourns_s
        simulated = simulate(cell, offsets, seed + 1000).sojourns_s
        raw.append(sorted(measured)[395])
        ratios.append(ratio([Pairs(measured, simulated, 0.05)]).middle)
    spread = (max(raw) - min(raw)) / (sum(raw) / 20)
    assert max(ratios) - min(ratios) < 0.4 * spread
    assert sum(ratios) / 20 == pytest.approx(1.0, abs=0.05)


def test_an_interval_holds_the_middle_and_answers_that_never_came() -> None:
    simulated = [0.01 * (i % 7 + 1) for i in range(400)]
    found = ratio([Pairs([2 * one for one in simulated], simulated, 0.07)])
    assert (found.low, found.middle, found.high) == pytest.approx((2.0, 2.0, 2.0), rel=0.2)
    lost = ratio([Pairs([math.inf] * 400, simulated, 0.07)])
    assert math.isinf(lost.middle)


def served(rate: float, spent_s: Sequence[float], **more: float) -> Served:
    batches = [Batch(size=1, spent_s=each_s) for each_s in spent_s]
    return Served(rate=rate, batches=batches, **more)


TRIALS = {1: [0.01], 2: [0.02]}


def test_serving_is_calibrated_without_pauses_and_other_sizes() -> None:
    seen = Served(
        rate=10.0,
        batches=[
            *[Batch(size=1, spent_s=0.011)] * 98,
            Batch(size=1, spent_s=9.0),
            Batch(size=2, spent_s=0.022),
            Batch(size=8, spent_s=1.0),
        ],
        overhead_s=0.002,
    )
    found = calibrate([(TRIALS, 1.0, seen)], 2)
    assert found.overhead_s == pytest.approx(0.002)
    assert found.inflation == pytest.approx(1.1, rel=0.03)
    assert found.taken_s == 0.0
    assert inflated({1: [0.01]}, found) == {1: [pytest.approx(0.01 * found.inflation)]}
    assert calibrate([(TRIALS, 1.0, Served(rate=10.0, overhead_s=1.0))], 2) == Calibration()


def test_of_one_rate_what_is_taken_is_the_cpu_time_that_was_seen() -> None:
    """20 requests a second that take 10 ms of two workers: a tenth of each worker's time."""
    found = calibrate([(TRIALS, 1.0, served(20.0, [0.01 / 0.9] * 50, beside_s=0.01))], 2)
    assert found.taken_s == pytest.approx(0.005)
    assert found.inflation == pytest.approx(1.0)
    assert found.inflation * slowdown(100.0, found.taken_s) == pytest.approx(2.0)
    spare = calibrate([(TRIALS, 1.0, served(20.0, [0.01] * 50, beside_s=0.01))], 2, 1)
    assert spare.taken_s == 0.0


@pytest.mark.parametrize("really", [0.0, 0.5, 1.5])
def test_two_rates_say_how_much_of_it_is_taken(really: float) -> None:
    seen = [
        (TRIALS, 1.0, served(rate, [0.01 / (1 - rate * really * 0.004)] * 50, beside_s=0.008))
        for rate in (20.0, 100.0)
    ]
    found = calibrate(seen, 2)
    assert found.inflation * slowdown(120.0, found.taken_s) == pytest.approx(
        1 / (1 - 120 * really * 0.004), rel=0.06
    )


def test_batches_that_had_no_company_say_as_much_as_others() -> None:
    """Alone they take 7 ms, and beside another 10: both times are those of the trials."""
    batches = [
        Batch(size=1, spent_s=spent_s, company=company)
        for spent_s, company in ((0.007, 0.0), (0.01, 1.0))
        for _ in range(30)
    ]
    found = calibrate([(TRIALS, 0.7, Served(rate=50.0, batches=batches))], 2)
    assert found.inflation == pytest.approx(1.0)


class SharedCores:
    """Two workers of a core each, whose cores do the frontend's and the clients' work as well.

    Work that comes while a core is idle is done there; else it stops one of the workers. What
    a batch takes grows with the company that it has. Nothing of the forecast's model is in it.

    Args:
        beside_s: of CPU that a request takes beside its worker.
        lone: of its time beside another batch, what a batch takes alone.
    """

    def __init__(self, beside_s: float, lone: float) -> None:
        self.beside_s, self.lone = beside_s, lone
        self._draw = random.Random(5)

    def measure(self, one: Configuration, rate: float, offsets_s: Sequence[float]) -> Round:
        draw = self._draw
        ends_s, latencies_s = [0.0, 0.0], [0.0] * len(offsets_s)
        waiting: list[int] = []
        batches: list[Batch] = []
        running: dict[int, tuple[int, float, float]] = {}

        def serve(until_s: float) -> None:
            while waiting:
                worker = ends_s.index(min(ends_s))
                begin_s = max(ends_s[worker], offsets_s[waiting[0]])
                if begin_s > until_s:
                    return
                company = ends_s[1 - worker] > begin_s
                spent_s = draw.choice(self.times_s) * (1.0 if company else self.lone)
                ends_s[worker] = begin_s + spent_s
                running[worker] = (waiting.pop(0), begin_s, float(company))

        def settle(until_s: float) -> None:
            for worker, found in list(running.items()):
                if ends_s[worker] <= until_s:
                    number, begin_s, company = found
                    del running[worker]
                    latencies_s[number] = ends_s[worker] - offsets_s[number]
                    spent_s = ends_s[worker] - begin_s
                    batches.append(Batch(size=1, spent_s=spent_s, company=company))

        for number, offset_s in enumerate(offsets_s):
            while waiting and min(ends_s) <= offset_s:
                settle(min(ends_s))
                serve(offset_s)
            settle(offset_s)
            if all(end_s > offset_s for end_s in ends_s):
                ends_s[draw.randrange(2)] += self.beside_s
            waiting.append(number)
            serve(offset_s)
        while waiting:
            settle(min(ends_s))
            serve(math.inf)
        settle(math.inf)
        return Round(
            rate=rate,
            offsets_s=list(offsets_s),
            latencies_s=latencies_s,
            served=Served(rate=rate, batches=batches, beside_s=self.beside_s),
        )

    times_s = noisy(10.0)


@pytest.mark.parametrize("lone", [1.0, 0.7])
@pytest.mark.parametrize("beside_s", [0.0005, 0.001, 0.002])
def test_a_forecast_knows_what_serving_takes_of_the_workers_at_its_rate(
    beside_s: float, lone: float
) -> None:
    """Below a constant factor, what 60 % of the rate shows says nothing of 95 %."""
    machine = SharedCores(beside_s, lone)
    made = Forecast(Settings(), BOUND_S, poisson_gaps(5000), {NARROW: 1}, 2)
    alone_s = [lone * spent_s for spent_s in machine.times_s]
    made.learn_times(NULL, 1, ServiceTimes(busy_s={1: machine.times_s}, alone_s=alone_s))
    made.learn_memory(NULL, MEMORY, 1.0)
    one = configuration()
    found = Confirmation(made, machine.measure, BOUND_S)
    first = made.highest(one)
    assert first is not None
    found.calibrate(one, 0.6 * first.rate, 8.0)
    sure = made.highest(one, slower=SLOWER)
    assert sure is not None
    found.calibrate(one, sure.rate, 8.0)
    predicted = made.highest(one)
    assert predicted is not None
    trial = found.add(one, predicted)
    found.turn(trial, 10.0)
    assert trial.found is not None
    assert trial.found.error is not None
    assert trial.found.error < 0.15
    # And the rate beyond which it is overloaded is known, too.
    most = made.most_per_s(one)
    assert most is not None
    assert most == pytest.approx(2 / (0.01 + beside_s), rel=0.05)


def test_a_servers_own_times_count_once_there_are_enough() -> None:
    trials = {1: [0.01], 2: [0.02]}
    assert with_served(trials, {1: [0.5] * 19}) == trials
    assert with_served(trials, {1: [0.5] * 20})[1] == [0.5] * 20


def test_a_lone_worker_has_nobody_beside_it() -> None:
    times = ServiceTimes(busy_s={1: [0.012]}, alone_s=[0.010])
    assert times.interference == pytest.approx(1.2)
    assert times.of(1, [1])[1] == [pytest.approx(0.010)]
    assert times.of(2, [1, 4]) == {1: [0.012]}


def test_cells_share_the_rate() -> None:
    whole = forecast()
    halves = Forecast(Settings(), BOUND_S, poisson_gaps(1500), {NARROW: 2})
    busy_s = {1: noisy(10.0)}
    halves.learn_times(NULL, 1, ServiceTimes(busy_s=busy_s, alone_s=noisy(9.0)))
    halves.learn_memory(NULL, MEMORY, 1.0)
    one, two = whole.highest(configuration()), halves.highest(configuration())
    assert one is not None
    assert two is not None
    # Two queues of one worker keep less than one queue of two.
    assert 0.5 * one.rate < two.rate < one.rate
    spent = halves.sojourns_s(configuration(), 4.0, [0.0, 0.0, 1.0, 1.0])
    assert max(spent) < 0.02


class Burning(Machine):
    """One whose processors consume 2 joules a request; every second round nobody knows."""

    def measure(self, one: Configuration, rate: float, offsets_s: Sequence[float]) -> Round:
        found = super().measure(one, rate, offsets_s)
        known = 2.0 * len(offsets_s) if self.seed % 2 else None
        return msgspec.structs.replace(found, joules=known, other_load=0.03)


def test_joules_and_others_are_told() -> None:
    found = confirmed(Burning(1.0), configuration()).trials[0].found
    assert found is not None
    assert found.joules_an_inference == pytest.approx(2.0)
    assert found.other_load == 0.03
    unknown = confirmed(Machine(1.0), configuration()).trials[0].found
    assert unknown is not None
    assert unknown.joules_an_inference is None


def test_a_promise_rests_on_enough_requests() -> None:
    made, machine = forecast(), Machine(1.0)
    predicted = made.highest(configuration())
    assert predicted is not None
    found = Confirmation(made, machine.measure, BOUND_S)
    trial = found.add(configuration(), predicted)
    trial.rate = 0.9 * machine.truth(configuration())
    while not trial.settled:
        assert len(trial.rounds) < 12
        found.turn(trial, 1.0)
    assert trial.found is not None
    assert trial.found.requests >= 662


def test_the_first_of_a_round_are_none_that_a_promise_rests_on() -> None:
    made, machine, one = forecast(), Machine(1.0), configuration()
    predicted = made.highest(one)
    assert predicted is not None
    found = Confirmation(made, machine.measure, BOUND_S)
    trial = found.add(one, predicted)
    # Too far from the next for its requests to count there.
    trial.rate = 0.7 * machine.truth(one)
    found.turn(trial, 30.0)
    assert trial.found is not None
    trial.rate = 0.98 * trial.found.rate_interval[0]
    # 5 % of them are answered by an empty server.
    found.turn(trial, 680 / trial.rate)
    assert trial.held is not None
    assert trial.held.requests == 680
    assert found.counting(trial, trial.held.rate) == 646
    assert not trial.settled
    trial.rate = trial.held.rate
    found.turn(trial, 20 / trial.rate)
    assert trial.settled


def sure(middle: float) -> Ratio:
    return Ratio(middle=middle, low=middle, high=middle)


def test_a_tail_makes_the_next_forecasts_careful() -> None:
    made, one = forecast(), configuration()
    before = made.highest(one)
    assert before
    made.learn_tail(one.shape, rate=50.0, seen=sure(2.0))
    # What was seen at a lower rate says less of the highest.
    made.learn_tail(one.shape, rate=20.0, seen=sure(3.5))
    assert made.tail(one.shape) == 2.0
    after = made.highest(one)
    assert after
    assert after.rate < before.rate
    assert after.p99_s <= BOUND_S
    # A ratio that was measured since counts in its place; other workers are taken to be alike
    # until they were seen.
    assert made.highest(one, 1.0) == before
    assert made.tail(WIDE) == 2.0
    made.learn_tail(WIDE, rate=20.0, seen=sure(1.2))
    assert made.tail(WIDE) == 1.2
    made.learn_tail(one.shape, rate=60.0, seen=sure(100.0))
    assert made.tail(one.shape) == 4.0
    made.learn_tail(one.shape, rate=70.0, seen=sure(0.5))
    assert made.tail(one.shape) == 1.0


def test_a_calibration_learns_the_tail_unless_it_was_overloaded() -> None:
    made, one = forecast(), configuration()

    class Pausing(Machine):
        def measure(self, one: Configuration, rate: float, offsets_s: Sequence[float]) -> Round:
            found = super().measure(one, rate, offsets_s)
            # One in forty waits for the CPU.
            slow = [s + 0.05 * (n % 40 == 0) for n, s in enumerate(found.latencies_s)]
            return msgspec.structs.replace(found, latencies_s=slow)

    confirmation = Confirmation(made, Pausing(1.0).measure, BOUND_S)
    confirmation.calibrate(one, 40.0, 20.0)
    assert 1.5 < made.tail(one.shape) <= 4.0
    confirmation.calibrate(one, 2000.0, 2.0)
    assert 1.5 < made.tail(one.shape) <= 4.0


def test_a_slow_moment_of_a_round_is_no_tail_of_the_next() -> None:
    made, one = forecast(), configuration()

    class Stalling(Machine):
        def measure(self, one: Configuration, rate: float, offsets_s: Sequence[float]) -> Round:
            found = super().measure(one, rate, offsets_s)
            # Two seconds out of forty: 40 requests in a row, of 800.
            slow = [s + 0.05 * (400 <= n < 440) for n, s in enumerate(found.latencies_s)]
            return msgspec.structs.replace(found, latencies_s=slow)

    confirmation = Confirmation(made, Stalling(1.0).measure, BOUND_S)
    confirmation.calibrate(one, 20.0, 40.0)
    assert made.tail(one.shape) < 1.1
    # A rate that is to be kept at once is a careful one all the same.
    quiet = Confirmation(forecast(), Machine(1.0).measure, BOUND_S)
    quiet.calibrate(one, 20.0, 40.0)
    predicted = made.highest(one)
    assert predicted is not None
    assert confirmation.add(one, predicted).rate < quiet.add(one, predicted).rate


def test_what_calibrating_has_seen_counts_as_a_round() -> None:
    made, machine, one = forecast(), Machine(1.0), configuration()
    found = Confirmation(made, machine.measure, BOUND_S)
    rate = 0.9 * machine.truth(one)
    found.calibrate(one, rate, 1000 / rate)
    predicted = made.highest(one)
    assert predicted is not None
    trial = found.add(one, predicted)
    assert found.best is trial
    assert trial.found is not None
    assert (trial.found.rate, trial.found.requests) == (rate, 1000)
    # Nothing was predicted for its schedule.
    assert trial.found.error is None
    found.turn(trial, 10.0)
    assert trial.found.error is not None
    assert found.add(configuration(WIDE), predicted).found is None


def test_far_up_it_goes_a_part_of_the_way() -> None:
    """Of a rate near saturation nothing that was seen far below it is certain."""
    made, machine, one = forecast(), Machine(1.0), configuration()
    predicted = made.highest(one)
    assert predicted is not None
    found = Confirmation(made, machine.measure, BOUND_S)
    trial = found.add(one, predicted)
    low = trial.rate = 0.5 * machine.truth(one)
    found.turn(trial, 20.0)
    assert trial.found is not None
    safe, _ = trial.found.rate_interval
    assert 1.08 * low < trial.rate < 0.99 * safe
    found.turn(trial, 20.0)
    assert trial.found.rate == machine.rates[-1] > 1.5 * low


def test_the_best_of_each_shape_is_tried_before_the_next_of_the_same() -> None:
    wide, next_wide = configuration(WIDE, 1), configuration(WIDE, 4)
    last_wide, narrow = configuration(WIDE, 8), configuration(NARROW, 1)
    rates = {wide: 100.0, next_wide: 95.0, last_wide: 90.0, narrow: 85.0}
    predicted = {
        one: Prediction(rate=rate, p50_s=0.01, p99_s=0.1, refused=0.0)
        for one, rate in rates.items()
    }
    assert distinct(list(rates), predicted) == [wide, narrow, next_wide]
    predicted[narrow] = dataclasses.replace(predicted[narrow], rate=50.0)
    assert distinct(list(rates), predicted) == [wide, next_wide, last_wide]


def test_what_never_comes_by_the_forecast_is_a_number_in_json() -> None:
    made, machine, one = forecast(), Machine(1.0), configuration()
    predicted = made.highest(one)
    assert predicted is not None
    found = Confirmation(made, machine.measure, BOUND_S)
    trial = found.add(one, predicted)
    # Far more than the queue takes: most are refused.
    trial.rate = 100 * predicted.rate
    found.turn(trial, 1.0)
    assert trial.found is not None
    assert trial.found.guessed_p99_ms is not None
    assert math.isfinite(trial.found.guessed_p99_ms)
    assert trial.found.error is not None
    assert math.isfinite(trial.found.error)


def test_what_another_one_teaches_reaches_one_that_is_through() -> None:
    """Two of the same workers: the second shows seconds that the first one's promise did not."""
    made, machine = forecast(arrivals=6000), Machine(1.0)
    one, other = configuration(), configuration(largest=2)
    found = Confirmation(made, machine.measure, BOUND_S)
    for each in (one, other):
        predicted = made.highest(each)
        assert predicted is not None
        found.add(each, predicted)
    first, second = found.trials
    while not first.settled:
        assert len(first.rounds) < 12
        found.turn(first, 8.0)
    assert first.found is not None
    promised = first.found.rate
    assert promised
    found.judge_again(settled=True)
    assert (first.settled, first.found.rate) == (True, promised)
    # The machine has become slower, and only the second is measured.
    machine.slower = 1.2
    for _ in range(4):
        second.rate = 0.7 * promised
        found.turn(second, 10.0)
    assert (first.settled, first.found.rate) == (True, promised)
    found.judge_again(settled=True)
    assert not first.settled
    assert first.found.rate < promised
    assert first in found.hopeful()
