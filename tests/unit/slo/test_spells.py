"""Seconds in which a machine is clearly slower: found by the batches, and left out of promises."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import msgspec
import pytest
from support.simulated_servers import BOUND_S, Machine, configuration, forecast

from corral.batching.prediction import at_rate, percentile, poisson_gaps
from corral.batching.simulation import simulate
from corral.slo.confirm import Confirmation, Trial
from corral.slo.interval import Ratio
from corral.slo.replay import Between
from corral.slo.running import Round
from corral.slo.seen import Seen
from corral.slo.service import Batch, Served
from corral.slo.space import Configuration
from corral.slo.spells import Spent, slow_seconds
from corral.slo.trace import Trace, by_cell, spliced


def batches(
    seconds: float, slow: tuple[float, float] = (0.0, 0.0), factor: float = 2.0
) -> list[Spent]:
    """A worker's batches of 10 ms, one after the other, longer between two moments."""
    found: list[Spent] = []
    now_s = 0.0
    while now_s < seconds:
        spent_s = 0.01 * (factor if slow[0] <= now_s < slow[1] else 1.0)
        found.append((now_s, spent_s, 0.01))
        now_s += spent_s
    return found


def test_seconds_that_are_slower_than_the_others_are_a_spell() -> None:
    quiet, spell = slow_seconds([batches(4.0), batches(6.0, (2.0, 5.0))])
    assert not quiet
    # What is beside them is not counted either: a queue lasts longer than what made it.
    assert {2, 3, 4} <= set(spell) <= {1, 2, 3, 4, 5}


def test_a_stall_is_how_a_machine_is_and_so_is_what_always_is() -> None:
    assert slow_seconds([batches(6.0, (2.0, 2.3), 3.0)]) == [set()]
    # A machine that is slow in all that was seen is not known to be another one.
    assert slow_seconds([batches(6.0, (0.0, 6.0))]) == [set()]
    assert slow_seconds([[], batches(0.05)]) == [set(), set()]


def test_of_another_pace_are_batches_only_beside_what_is_expected_of_them() -> None:
    """Larger batches take longer, and are no spell."""
    large = [
        (begun_s + 3.0, 5 * spent_s, 5 * usual_s) for begun_s, spent_s, usual_s in batches(3.0)
    ]
    assert slow_seconds([[*batches(3.0), *large]]) == [set()]


class Slowed(Machine):
    """One whose batches take four times as long between some moments of some rounds.

    Args:
        spells: from when to when, in seconds, by the number of the round, from 1.
    """

    def __init__(self, spells: dict[int, tuple[float, float]], factor: float = 4.0) -> None:
        super().__init__(1.0)
        self.spells, self.factor = spells, factor

    def end_s(self, begins_s: float, spent_s: float) -> float:
        from_s, until_s = self.spells.get(self.seed, (math.inf, math.inf))
        if begins_s + spent_s <= from_s or begins_s >= until_s:
            return begins_s + spent_s
        usual_s = max(0.0, from_s - begins_s)
        slow_s = (spent_s - usual_s) * self.factor
        start_s = max(begins_s, from_s)
        if start_s + slow_s <= until_s:
            return start_s + slow_s
        left_s = spent_s - usual_s - (until_s - start_s) / self.factor
        return until_s + left_s


def searched(machine: Machine, rounds: int = 4) -> Confirmation:
    """Two calibrations and some rounds of four seconds of one configuration."""
    made, one = forecast(arrivals=6000), configuration()
    predicted = made.highest(one)
    assert predicted is not None
    found = Confirmation(made, machine.measure, BOUND_S)
    found.calibrate(one, 0.6 * predicted.rate, 3.0)
    found.calibrate(one, 0.9 * predicted.rate, 6.0)
    trial = found.add(one, predicted)
    for _ in range(rounds):
        found.turn(trial, 4.0)
    return found


@pytest.mark.parametrize(
    "spells",
    [
        {},
        {3: (0.0, 4.0)},
        {4: (1.0, 4.0), 5: (0.0, 4.0)},
        {1: (0.0, 3.0), 2: (0.0, 2.0)},
        {6: (0.0, 4.0)},
    ],
)
def test_a_search_finds_the_rate_beside_spells(spells: dict[int, tuple[float, float]]) -> None:
    """With none it is near the optimum, and with some not far from it; a promise always holds."""
    machine = Slowed(spells)
    found = searched(machine)
    best = found.best
    assert best is not None
    assert best.found is not None
    truth = machine.truth(configuration())
    assert best.found.rate >= (0.9 if spells else 0.93) * truth
    assert best.found.rate in machine.rates
    assert best.found.p99_interval_ms[1] <= BOUND_S * 1000
    offsets_s = at_rate(poisson_gaps(12_000, 5), best.found.rate)
    spent_s = simulate(machine.cell(configuration()), offsets_s, 5).sojourns_s
    assert percentile(sorted(spent_s), 0.99) + machine.overhead_s <= 1.1 * BOUND_S


def test_a_round_in_a_spell_confirms_nothing_and_is_no_measure_of_a_forecast() -> None:
    # Both calibrations and the first half of what follows are quiet.
    found = searched(Slowed({3: (0.0, 4.0)}), rounds=1)
    (trial,) = found.trials
    assert trial.held is None or trial.held.offered < trial.rounds[-1].rate
    assert not trial.guessing_done
    found.turn(trial, 4.0)
    assert trial.guessing_done
    assert trial.found is not None
    assert trial.found.error is not None
    assert trial.found.error < 0.3


def test_rounds_never_go_far_down_for_what_little_was_seen() -> None:
    """A stall of a tenth of a second is a tenth of the requests that take longest, at any rate."""
    machine = Slowed({3: (1.0, 1.15), 4: (2.0, 2.15)}, factor=15.0)
    found = searched(machine)
    (trial,) = found.trials
    rates = [each.rate for each in trial.rounds[2:]]
    assert all(after >= 0.84 * before for before, after in itertools.pairwise(rates))


def test_a_trace_plays_what_was_seen() -> None:
    """The very same schedule has the very same percentile; drawn one by one, times have another."""
    made, machine, one = forecast(), Slowed({1: (1.0, 1.4)}), configuration()
    offsets_s = at_rate(poisson_gaps(500, 3), 130.0)
    found = machine.measure(one, 130.0, offsets_s)
    made.learn_served(one, found.served)
    traces = by_cell(found.served.batches, made.expected(one, found.served))
    again_s = made.replayed_s(one, 130.0, offsets_s, found.served.overhead_s, traces)
    p99_s, again_p99_s = (percentile(sorted(s), 0.99) for s in (found.latencies_s, again_s))
    assert again_p99_s == pytest.approx(p99_s, rel=0.05)
    iid_s = percentile(sorted(made.sojourns_s(one, 130.0, offsets_s)), 0.99)
    assert abs(iid_s / p99_s - 1) > 2 * abs(again_p99_s / p99_s - 1)


def usual(_: Batch) -> float:
    return 0.01


def test_a_trace_has_the_pace_of_its_batches_and_begins_again() -> None:
    seen = [
        Batch(size=1, spent_s=0.01, begun_s=0.0),
        Batch(size=1, spent_s=0.04, begun_s=0.02),
        Batch(size=1, spent_s=0.01, begun_s=0.06),
    ]
    trace = Trace.of(seen, usual)
    assert trace.seconds == pytest.approx(0.07)
    assert trace.ends(0, 0.0, 0.01) == pytest.approx(0.01)
    assert trace.ends(0, 0.02, 0.01) == pytest.approx(0.06)
    # Half of it is done slowly.
    assert trace.ends(0, 0.04, 0.01) == pytest.approx(0.065)
    # It rested from 0.01 to 0.02: at its usual pace, which is a half.
    assert trace.ends(0, 0.01, 0.005) == pytest.approx(0.02)
    assert trace.ends(0, 0.07, 0.01) == pytest.approx(0.08)
    assert trace.ends(0, 0.065, 0.01) == pytest.approx(0.075)


def test_traces_are_spliced_without_spells() -> None:
    seen = [Batch(size=1, spent_s=0.01, begun_s=n * 0.01) for n in range(100)]
    slow = [Batch(size=1, spent_s=0.1, begun_s=1.0 + n * 0.1) for n in range(10)]
    (trace,) = by_cell([*seen, *slow], usual)
    whole = spliced([(trace, {1}), (trace, set())])
    assert whole is not None
    assert whole.seconds == pytest.approx(3.0)
    assert whole.ends(0, 0.5, 0.01) == pytest.approx(0.51)
    assert whole.ends(0, 1.5, 0.01) == pytest.approx(1.51)
    assert whole.ends(0, 2.5, 0.01) == pytest.approx(2.6)
    assert spliced([(trace, {0, 1, 2})]) is None
    assert spliced([]) is None


def test_cells_have_traces_of_their_own() -> None:
    seen = [Batch(size=1, spent_s=0.01, begun_s=0.0, cell=cell) for cell in (0, 1)]
    assert len(by_cell([*seen, Batch(size=1, spent_s=0.01)], usual)) == 2


def test_doubts_of_two_kinds_are_less_than_both_together() -> None:
    long = Between(middle_s=0.1, low_s=0.08, high_s=0.12, replayed_s=0.1)
    said = long.times(Ratio(middle=1.5, low=1.5, high=1.5))
    assert (said.low_s, said.middle_s, said.high_s) == pytest.approx((0.12, 0.15, 0.18))
    both = long.times(Ratio(middle=1.0, low=0.8, high=1.2))
    assert 0.12 < both.high_s < 0.144
    assert math.isinf(long.times(Ratio(middle=math.inf, low=1.0, high=math.inf)).high_s)


def one_round(machine: Machine, rate: float, seconds: float) -> tuple[Confirmation, Trial]:
    """A configuration after a single round."""
    made, one = forecast(arrivals=6000), configuration()
    predicted = made.highest(one)
    assert predicted is not None
    found = Confirmation(made, machine.measure, BOUND_S)
    trial = found.add(one, predicted)
    trial.rate = rate
    found.turn(trial, seconds)
    return found, trial


def test_requests_in_a_spell_are_none_that_a_promise_rests_on() -> None:
    quiet, trial = one_round(Slowed({}), 100.0, 10.0)
    # All but the first twentieth, which an empty server answers.
    assert quiet.counting(trial, 100.0) == 950
    assert quiet.counting(trial, 150.0) == 0
    partly, trial = one_round(Slowed({1: (7.0, 10.0)}), 100.0, 10.0)
    assert 500 <= partly.counting(trial, 100.0) <= 650
    mostly, trial = one_round(Slowed({1: (3.0, 10.0)}), 100.0, 10.0)
    assert mostly.counting(trial, 100.0) == 0


class Touched(Slowed):
    """One of whose answers some are changed, by their number in the round.

    Args:
        spells: see Slowed.
        touch: a latency, by the number of its request and as it was, both of the first round.
    """

    def __init__(
        self,
        spells: dict[int, tuple[float, float]],
        touch: Callable[[int, float], float],
        factor: float = 4.0,
    ) -> None:
        super().__init__(spells, factor)
        self.touch = touch

    def measure(self, one: Configuration, rate: float, offsets_s: Sequence[float]) -> Round:
        found = super().measure(one, rate, offsets_s)
        if self.seed > 1:
            return found
        touched = [self.touch(number, s) for number, s in enumerate(found.latencies_s)]
        return msgspec.structs.replace(found, latencies_s=touched)


def test_some_late_requests_do_not_lengthen_a_spell() -> None:
    """Near the bound each second has some: what is left without them would be too good."""
    spells = {1: (2.0, 4.0)}
    some, trial = one_round(
        Touched(spells, lambda number, s: 2 * BOUND_S if number % 20 == 0 else s), 100.0, 20.0
    )
    assert some.counting(trial, 100.0) >= 1400
    # A queue that is still long is one in which most are late.
    most, trial = one_round(
        Touched(spells, lambda number, s: 2 * BOUND_S if 400 <= number < 800 else s), 100.0, 20.0
    )
    assert 1100 <= most.counting(trial, 100.0) <= 1300


@pytest.mark.parametrize(
    ("number", "spells", "holds"),
    [
        (999, {}, False),
        # Of the first twentieth.
        (5, {}, False),
        # In a round that was mostly a spell, but not in it.
        (50, {1: (3.0, 10.0)}, False),
        # In a spell.
        (850, {1: (8.0, 10.0)}, True),
    ],
)
def test_what_was_refused_forbids_a_promise_unless_in_a_spell(
    number: int, spells: dict[int, tuple[float, float]], holds: bool
) -> None:
    machine = Touched(spells, lambda each, s: math.inf if each == number else s, factor=1.8)
    found, trial = one_round(machine, 100.0, 10.0)
    trial.rate = 100.0
    found.turn(trial, 10.0)
    assert trial.found is not None
    assert (trial.found.rate == 100.0) == holds


def test_a_spell_is_not_longer_than_its_round() -> None:
    seen = Seen()
    made = [
        Batch(size=1, spent_s=0.01 * (2 if begun_s >= 4.0 else 1), begun_s=begun_s)
        for begun_s in (n * 0.02 for n in range(300))
    ]
    served = Served(rate=50.0, batches=made)

    def spent(_: Configuration, each: Served) -> list[Spent]:
        return [(b.begun_s, b.spent_s, 0.01) for b in each.batches if b.begun_s is not None]

    seen.add(configuration(), served, spent)
    assert {4, 5} <= set(seen.slow_seconds(served))
    slow_s, all_s = seen.spells()
    assert (slow_s, all_s) == (len({n for n in seen.slow_seconds(served) if n < 6}), 6)
