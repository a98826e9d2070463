"""A search keeps its budget, whatever servers take to start; by a clock that is moved by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
from support.surveyed import FAST, SLOW, survey

from corral.batching.prediction import Prediction, poisson_gaps
from corral.errors import StartError
from corral.planning import topology
from corral.planning.plan import Plan
from corral.settings import Settings
from corral.slo.budget import Budget
from corral.slo.confirm import Confirmation, Trial
from corral.slo.disturbance import unwatched
from corral.slo.forecast import Forecast
from corral.slo.order import TuneOrder
from corral.slo.running import Round, Servers
from corral.slo.service import Batch, Served
from corral.slo.shapes import plans
from corral.slo.space import Configuration, Shape
from corral.slo.survey import Survey, in_order
from corral.slo.under_load import UnderLoad

#: what a round takes beside its load
BESIDE_S = 0.5


class Clock:
    """Seconds that pass when somebody says so."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class TimedServers(Servers):
    """Servers that do what the forecast says; each takes its time to start.

    Args:
        clock: moved by what they take.
        forecast: says what they do.
        start_s: seconds of each, one after the other.
        slower: how many times as long requests take as is forecast.
    """

    def __init__(
        self, clock: Clock, forecast: Forecast, start_s: float, slower: float = 1.0
    ) -> None:
        self._clock, self._forecast = clock, forecast
        self._start_s, self._slower = start_s, slower
        self.up: list[Configuration] = []
        self.loaded: list[Configuration] = []

    def runs(self, one: Configuration) -> bool:
        return one in self.up

    def start(
        self, wanted: Sequence[Configuration], within_s: float = math.inf
    ) -> dict[Configuration, str]:
        failed = {}
        until_s = self._clock.now_s + within_s
        for one in (one for one in wanted if one not in self.up):
            if self._clock.now_s + self._start_s > until_s:
                self._clock.now_s = until_s
                failed[one] = "it was not ready"
            else:
                self._clock.now_s += self._start_s
                self.up.append(one)
        return failed

    def measure(self, one: Configuration, rate: float, offsets_s: Sequence[float]) -> Round:
        self._clock.now_s += offsets_s[-1] + BESIDE_S
        self.loaded.append(one)
        spent_s = self._forecast.trial_s(one)
        assert spent_s is not None
        sojourns_s = self._forecast.sojourns_s(one, rate, offsets_s)
        return Round(
            rate=rate,
            offsets_s=list(offsets_s),
            latencies_s=[each * self._slower for each in sojourns_s],
            served=Served(rate=rate, batches=[Batch(size=1, spent_s=spent_s[1][0])] * 30),
        )


class Broken(TimedServers):
    """None of them starts."""

    def start(
        self, wanted: Sequence[Configuration], within_s: float = math.inf
    ) -> dict[Configuration, str]:
        return dict.fromkeys(wanted, "no memory")


@pytest.fixture(scope="module")
def shapes() -> dict[Shape, Plan]:
    return plans(Settings(), topology.read_machine(), set())


def surveyed(
    shapes: dict[Shape, Plan], budget: Budget, item_ms: float = 10.0
) -> tuple[Survey, Forecast]:
    """A survey that has taken no time; workers took a second to start."""
    found, forecast = survey(shapes, {FAST: item_ms}, budget=budget)
    budget.pace.workers_started(1.0)
    found.run()
    return found, forecast


def order(budget_s: float) -> TuneOrder:
    return TuneOrder(
        bound_ms=100.0, rate=None, gaps=poisson_gaps(800), arrivals="Poisson", budget_s=budget_s,
        exhaustive=False, given={},
    )  # fmt: skip


def under_load(
    found: Survey,
    forecast: Forecast,
    servers: TimedServers,
    budget: Budget,
    say: Callable[[str], None] = lambda _: None,
) -> UnderLoad:
    return UnderLoad(
        order=order(budget.seconds),
        survey=found,
        forecast=forecast,
        servers=servers,
        budget=budget,
        watch=unwatched(),
        say=say,
    )


def test_until_one_holds_all_rounds_are_the_likeliests(shapes: dict[Shape, Plan]) -> None:
    clock = Clock()
    budget = Budget(300.0, clock)
    found, forecast = surveyed(shapes, budget)
    said: list[str] = []
    under_load(found, forecast, TimedServers(clock, forecast, 2.0, 2.5), budget, said.append).run()
    first, second, *_ = [n for n, line in enumerate(said) if line.startswith("starting servers")]
    likeliest = said[first].removeprefix("starting servers: ")
    assert ";" not in likeliest
    alone = said[first + 1 : second]
    assert len(alone) > 1
    assert all(f" {likeliest} at " in line for line in alone)
    assert any(likeliest not in line for line in said[second + 1 :])


# A server is guessed to take 4 s before one was seen.
@pytest.mark.parametrize(
    ("budget_s", "start_s", "slower"),
    [(1.0, 2.0, 1.0), (9.0, 9.0, 1.0), (17.0, 2.0, 3.0), (30.0, 9.0, 3.0), (60.0, 2.0, 3.0)],
)
def test_a_budget_is_kept_within_about_a_round(
    shapes: dict[Shape, Plan], budget_s: float, start_s: float, slower: float
) -> None:
    clock = Clock()
    budget = Budget(budget_s, clock)
    found, forecast = surveyed(shapes, budget, item_ms=40.0)
    servers = TimedServers(clock, forecast, start_s, slower)
    under_load(found, forecast, servers, budget).run()
    assert clock.now_s <= budget_s + 4.0 + BESIDE_S
    assert clock.now_s >= 50.0 or budget_s < 60.0


def test_once_something_holds_no_time_is_kept_for_the_likeliest(shapes: dict[Shape, Plan]) -> None:
    clock = Clock()
    budget = Budget(60.0, clock)
    found, forecast = surveyed(shapes, budget, item_ms=40.0)
    tried = under_load(found, forecast, TimedServers(clock, forecast, 2.0, 1.2), budget)
    tried.run()
    assert any(trial.held for trial in tried.trials)
    assert not all(trial.settled for trial in tried.trials)
    assert budget.left_s < 4.0 + BESIDE_S


def test_without_time_nothing_is_started_and_that_is_told(shapes: dict[Shape, Plan]) -> None:
    clock = Clock()
    budget = Budget(3.0, clock)
    found, forecast = surveyed(shapes, budget)
    servers = TimedServers(clock, forecast, 4.0)
    tried = under_load(found, forecast, servers, budget)
    tried.run()
    assert not servers.up
    best = found.predictions.best()
    assert best is not None
    assert f"{best.name}, under load: the time was over" in found.not_tried
    assert any("what serving adds: the time was over" in line for line in found.not_tried)
    (note,) = tried.notes
    assert note.startswith("--budget-s 3 is too short here to put the winner under load")
    assert note.endswith("about 9 would do")


def test_with_little_time_a_server_is_confirmed_rather_than_calibrated(
    shapes: dict[Shape, Plan],
) -> None:
    clock = Clock()
    budget = Budget(9.0, clock)
    found, forecast = surveyed(shapes, budget)
    servers = TimedServers(clock, forecast, 4.0)
    tried = under_load(found, forecast, servers, budget)
    tried.run()
    (trial,) = tried.trials
    assert trial.held is not None
    assert len(servers.loaded) == 1
    assert not tried.notes


def test_a_start_that_takes_all_of_the_time_is_given_up(shapes: dict[Shape, Plan]) -> None:
    clock = Clock()
    for budget_s in (9.0, 30.0):
        budget = Budget(budget_s, clock)
        found, forecast = surveyed(shapes, budget, item_ms=40.0)
        servers = TimedServers(clock, forecast, 1000.0)
        tried = under_load(found, forecast, servers, budget)
        tried.run()
        assert budget.spent_s == budget_s
        best = found.predictions.best()
        assert best is not None
        assert f"{best.name}, under load: the time was over" in found.not_tried
        (note,) = tried.notes
        assert "too short here" in note


def test_what_was_calibrated_is_confirmed_where_nothing_else_can_be_started(
    shapes: dict[Shape, Plan],
) -> None:
    clock = Clock()
    budget = Budget(25.0, clock)
    found, forecast = surveyed(shapes, budget)
    # Four times as long as was guessed.
    servers = TimedServers(clock, forecast, 16.0)
    tried = under_load(found, forecast, servers, budget)
    tried.run()
    assert len(servers.up) == 1
    (trial,) = tried.trials
    assert trial.one == servers.up[0]
    assert trial.held is not None
    assert clock.now_s <= 25.0 + 4.0


def test_with_plenty_of_time_all_is_calibrated_and_confirmed(shapes: dict[Shape, Plan]) -> None:
    clock = Clock()
    budget = Budget(60.0, clock)
    found, forecast = surveyed(shapes, budget)
    before = list(found.not_tried)
    servers = TimedServers(clock, forecast, 3.0)
    tried = under_load(found, forecast, servers, budget)
    tried.run()
    assert len(tried.trials) == 3
    assert all(trial.rounds for trial in tried.trials)
    assert found.not_tried == before
    assert not tried.notes


def test_servers_that_do_not_start_are_no_matter_of_time(shapes: dict[Shape, Plan]) -> None:
    clock = Clock()
    budget = Budget(9.0, clock)
    found, forecast = surveyed(shapes, budget)
    tried = under_load(found, forecast, Broken(clock, forecast, 4.0), budget)
    tried.run()
    assert tried.notes == [f"{found.predictions.ranked()[0].name} did not start: no memory"]
    plenty = Budget(60.0, clock)
    found, forecast = surveyed(shapes, plenty)
    with pytest.raises(StartError, match="no memory"):
        under_load(found, forecast, Broken(clock, forecast, 4.0), plenty).run()


def test_the_widest_and_the_narrowest_are_measured_first() -> None:
    assert in_order({1}) == [1]
    assert in_order({1, 2}) == [2, 1]
    assert in_order({1, 2, 3, 4, 8}) == [8, 1, 4, 3, 2]


def test_workers_that_there_is_no_time_for_are_told(shapes: dict[Shape, Plan]) -> None:
    clock = Clock()
    budget = Budget(8.0, clock)
    found, _ = survey(shapes, {FAST: 10.0, SLOW: 10.5}, budget=budget)
    # One more takes so long that the budget would be exceeded by more than without it.
    budget.pace.workers_measured(30.0)
    found.run()
    assert len(found.profiled) == 1
    widths = {shape.cores for shape in shapes}
    told = [line for line in found.not_tried if line.endswith("the time was over")]
    # The other widths, the other memory, and the other engine.
    assert len(told) == len(widths) - 1 + 2


def test_time_that_judging_took_is_none_for_other_rounds(
    shapes: dict[Shape, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    budget = Budget(60.0, clock)
    found, forecast = surveyed(shapes, budget)
    usual = Confirmation.add

    def slow(self: Confirmation, one: Configuration, predicted: Prediction) -> Trial:
        clock.now_s += max(0.0, 70.0 - clock.now_s)
        return usual(self, one, predicted)

    monkeypatch.setattr(Confirmation, "add", slow)
    tried = under_load(found, forecast, TimedServers(clock, forecast, 3.0), budget)
    tried.run()
    assert len(tried.trials) == 1
    assert sum(line.endswith("under load: the time was over") for line in found.not_tried) == 2


def test_what_is_through_is_judged_by_all_that_was_seen_in_the_end(
    shapes: dict[Shape, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[bool, int]] = []
    clock = Clock()
    budget = Budget(60.0, clock)
    found, forecast = surveyed(shapes, budget)
    servers = TimedServers(clock, forecast, 3.0)
    usual = Confirmation.judge_again

    def noted(self: Confirmation, *, settled: bool) -> None:
        asked.append((settled, len(servers.loaded)))
        usual(self, settled=settled)

    monkeypatch.setattr(Confirmation, "judge_again", noted)
    tried = under_load(found, forecast, servers, budget)
    tried.run()
    assert any(settled for settled, _ in asked)
    assert any(trial.held for trial in tried.trials)
    assert asked[-1] == (False, len(servers.loaded))
