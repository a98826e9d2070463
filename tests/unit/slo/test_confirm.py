"""Confirming predictions on servers that are simulated: what is measured next, and what is told."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import msgspec
import pytest

from corral.batching.policy import Policy
from corral.batching.prediction import highest_rate, poisson_gaps
from corral.batching.simulation import SimulatedCell, simulate
from corral.settings import Allocator, BackendName, Mode, Precision, Settings
from corral.slo.confirm import Confirmation
from corral.slo.forecast import Forecast
from corral.slo.interval import Pairs, ratio
from corral.slo.running import Round
from corral.slo.service import Calibration, ServiceTimes, calibrate, inflated, with_served
from corral.slo.space import Arithmetic, Batching, Configuration, Memory, Shape

NULL = Arithmetic(backend=BackendName.NULL, precision=Precision.FP32)
MEMORY = Memory(allocator=Allocator.SYSTEM, huge_pages=True, openmp_spin_ms=1)
WIDE, NARROW = Shape(workers=1, cores=2), Shape(workers=2, cores=1)
#: milliseconds of a batch: half of it is a batch's own
TIMES = {1: 10.0, 2: 15.0, 4: 25.0}
BOUND_S = 0.1


def configuration(shape: Shape = NARROW, largest: int = 1) -> Configuration:
    batching = Batching(max_batch=largest, mode=Mode.THROUGHPUT)
    return Configuration(arithmetic=NULL, shape=shape, batching=batching, memory=MEMORY)


def noisy(ms: float, seed: int = 0) -> list[float]:
    draw = random.Random(seed)
    return [ms / 1000 * draw.uniform(0.9, 1.1) for _ in range(60)]


def forecast(settings: Settings | None = None) -> Forecast:
    made = Forecast(settings or Settings(), BOUND_S, poisson_gaps(1500), {WIDE: 1, NARROW: 1})
    for cores in (1, 2):
        busy_s = {size: noisy(ms / cores) for size, ms in TIMES.items()}
        made.learn_times(NULL, cores, ServiceTimes(busy_s=busy_s, alone_s=noisy(9.0 / cores)))
    made.learn_memory(NULL, MEMORY, 1.0)
    return made


class Machine:
    """Servers whose batches take ``slower`` times as long as the trials' did."""

    def __init__(self, slower: float, overhead_s: float = 0.001) -> None:
        self.slower, self.overhead_s = slower, overhead_s
        self.seed = 0
        self.rates: list[float] = []

    def cell(self, one: Configuration) -> SimulatedCell:
        factor = self.slower / one.shape.cores
        sizes = [size for size in TIMES if size <= one.batching.max_batch]
        return SimulatedCell(
            policy=Policy(max_queue=128, max_bytes=10**9),
            workers=one.shape.workers,
            services_s={size: noisy(TIMES[size] * factor, 7) for size in sizes},
        )

    def measure(self, one: Configuration, rate: float, offsets_s: Sequence[float]) -> Round:
        self.seed += 1
        self.rates.append(rate)
        cell = self.cell(one)
        found = simulate(cell, offsets_s, self.seed)
        return Round(
            rate=rate,
            offsets_s=list(offsets_s),
            latencies_s=[spent + self.overhead_s for spent in found.sojourns_s],
            served_s={n: [*cell.services_s[n]] * 2 for n, times in found.batches.items() if times},
            overhead_s=self.overhead_s,
        )

    def truth(self, one: Configuration) -> float:
        best = highest_rate(self.cell(one), poisson_gaps(12_000, 99), BOUND_S, self.overhead_s)
        assert best is not None
        return best.rate


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


class Lucky(Machine):
    """One whose answers come in half the time at 70 requests a second."""

    def measure(self, one: Configuration, rate: float, offsets_s: Sequence[float]) -> Round:
        found = super().measure(one, rate, offsets_s)
        if rate != 70.0:
            return found
        halves = [spent_s / 2 for spent_s in found.latencies_s]
        return msgspec.structs.replace(found, latencies_s=halves, served_s={})


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


def test_serving_is_calibrated_on_the_middle_of_what_was_seen() -> None:
    found = calibrate({1: [0.01], 2: [0.02]}, {1: [0.011, 0.011, 9.0], 2: [0.022], 8: [1.0]}, 0.002)
    assert found.overhead_s == 0.002
    assert found.inflation == pytest.approx(1.1)
    assert inflated({1: [0.01]}, found) == {1: [pytest.approx(0.011)]}
    assert calibrate({1: [0.01]}, {}, -1.0) == Calibration()


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
    spent = halves.sojourns_s(configuration(), [0.0, 0.0, 1.0, 1.0])
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
