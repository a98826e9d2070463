"""What is measured, what is left out and why, on a machine that answers by a table."""

from __future__ import annotations

import msgspec
import pytest
from support.surveyed import FAST, OTHER, SLOW, SYSTEM, survey

from corral.batching.contention import slowdown
from corral.errors import ConfigError, ModelError, StartError
from corral.planning import topology
from corral.planning.plan import Plan
from corral.settings import Settings
from corral.slo.calibrator import Calibrator
from corral.slo.confirm import Trial
from corral.slo.crew import Crew
from corral.slo.order import TuneOrder
from corral.slo.page import render as render_page
from corral.slo.reasons import why_lost
from corral.slo.report import Measured, TuneReport
from corral.slo.rough import Rough
from corral.slo.service import Batch, Served
from corral.slo.shapes import plans
from corral.slo.space import Configuration, Memory, Shape
from corral.slo.summary import Summary


@pytest.fixture(scope="module")
def shapes() -> dict[Shape, Plan]:
    return plans(Settings(), topology.read_machine(), set())


def test_an_engine_that_cannot_win_is_not_measured(shapes: dict[Shape, Plan]) -> None:
    found, _ = survey(shapes, {FAST: 10.0, SLOW: 300.0})
    found.run()
    assert not any(name.startswith("torch") for name in found.profiled)
    assert any("torch fp32: a worker makes 3.3/s" in line for line in found.not_tried)
    best = found.predictions.best()
    assert best is not None
    assert best.arithmetic == FAST


def test_one_that_may_win_is_measured(shapes: dict[Shape, Plan]) -> None:
    found, _ = survey(shapes, {FAST: 10.0, SLOW: 10.5})
    found.run()
    assert any(name.startswith("torch") for name in found.profiled)


def test_batches_that_take_longer_than_the_bound_are_not_predicted(
    shapes: dict[Shape, Plan],
) -> None:
    slower, _ = survey(shapes, {FAST: 30.0})
    slower.run()
    assert {one.batching.max_batch for one in slower.predictions.known} <= {1, 4}
    assert any("batches above 4: one of 4 takes 120 ms" in line for line in slower.too_large())


def test_batches_that_cannot_keep_the_bound_are_not_even_compiled(
    shapes: dict[Shape, Plan],
) -> None:
    """An engine of 33 items a second, 43 at the most, needs more than 100 ms for 8."""
    crews: list[Crew] = []
    found, _ = survey(shapes, {FAST: 30.0}, crews=crews)
    found.run()
    assert crews
    assert all(crew.sizes == [1, 2, 4] for crew in crews)


def test_a_bound_below_one_inference_is_an_error_of_the_fastest_engine(
    shapes: dict[Shape, Plan],
) -> None:
    found, _ = survey(shapes, {FAST: 120.0, SLOW: 150.0})
    with pytest.raises(ConfigError, match=r"--p99-ms 100: one inference takes 120\.0 ms"):
        found.run()


def test_an_engine_that_fails_is_told_and_the_next_is_measured(shapes: dict[Shape, Plan]) -> None:
    found, _ = survey(shapes, {FAST: 10.0, SLOW: 11.0}, broken=(FAST,))
    found.run()
    assert "openvino int8: its worker died" in found.not_tried
    best = found.predictions.best()
    assert best is not None
    assert best.arithmetic == SLOW
    broken, _ = survey(shapes, {FAST: 10.0}, broken=(FAST,))
    with pytest.raises(ModelError, match="died"):
        broken.run()


def test_widths_that_memory_is_short_for_are_measured_one_after_another(
    shapes: dict[Shape, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    together, _ = survey(shapes, {FAST: 10.0})
    together.run()
    monkeypatch.setattr("corral.slo.survey.memory_left", lambda: -1)
    apart, _ = survey(shapes, {FAST: 10.0})
    apart.run()
    assert len(together.profiled) == len({shape.cores for shape in shapes})
    assert apart.profiled == together.profiled
    assert not apart.not_tried


@pytest.mark.parametrize(("factor", "expected"), [(0.9, OTHER), (0.995, SYSTEM), (1.1, SYSTEM)])
def test_other_memory_wins_only_where_it_is_faster(
    shapes: dict[Shape, Plan], factor: float, expected: Memory
) -> None:
    found, _ = survey(shapes, {FAST: 10.0}, factor=factor)
    found.run()
    best = found.predictions.best()
    assert best is not None
    assert best.memory == expected


def test_of_equals_the_plainest_is_preferred(shapes: dict[Shape, Plan]) -> None:
    """Where batches gain nothing, batches of one win, in the memory that was asked for."""
    found, _ = survey(shapes, {FAST: 10.0})
    found.run()
    best = found.predictions.best()
    assert best is not None
    assert best.batching.max_batch == 1
    assert best.memory == SYSTEM


def test_of_equals_what_carries_more_than_the_bound_asks_for_is_preferred(
    shapes: dict[Shape, Plan],
) -> None:
    """Where the bound leaves no time for batches, they work off what a stall leaves."""
    found, forecast = survey(shapes, {FAST: 1.5}, bound_s=0.012, batch_ms=3.0)
    found.run()
    best = found.predictions.best()
    assert best is not None
    at_most = max(one.rate for one in found.predictions.known.values())
    assert found.predictions.known[best].rate >= 0.97 * at_most
    most = {one: forecast.most_per_s(one) or 0.0 for one in found.predictions.known}
    alike = [one for one, told in found.predictions.known.items() if told.rate >= 0.97 * at_most]
    assert min(most[one] for one in alike) < 0.95 * most[best]
    assert most[best] >= 0.95 * max(most[one] for one in alike)


def test_of_equals_what_was_seen_under_load_goes_first(shapes: dict[Shape, Plan]) -> None:
    found, _ = survey(shapes, {FAST: 10.0})
    found.run()
    plainest, *rest = found.predictions.ranked()
    least = 0.97 * found.predictions.known[plainest].rate
    equals = [one for one in rest if found.predictions.known[one].rate > least]
    assert equals
    for seen in equals:
        assert found.predictions.ranked([seen])[:2] == [seen, plainest]


def test_when_the_time_is_over_it_says_what_was_not_tried(shapes: dict[Shape, Plan]) -> None:
    found, _ = survey(shapes, {FAST: 10.0, SLOW: 10.5}, left_s=0.0)
    found.run()
    assert "torch fp32: the time was over" in found.not_tried
    assert any("other memory" in line and "the time was over" in line for line in found.not_tried)


def test_the_report_of_predictions_alone(shapes: dict[Shape, Plan]) -> None:
    found, forecast = survey(shapes, {FAST: 10.0})
    found.run()
    order = TuneOrder(
        bound_ms=100.0, rate=10.0, gaps=[1.0], arrivals="Poisson", budget_s=1.0,
        exhaustive=False, given={"model": "<m>"},
    )  # fmt: skip
    empty = TuneReport(p99_ms=100.0, model="<m>", cpu="a CPU", arrivals="Poisson", asked_rate=10.0)
    report = Summary(order, forecast, found, []).fill(empty)
    winner = report.winner
    assert winner is not None
    assert not winner.confirmed
    assert (winner.p99_ms, winner.p99_interval_ms, winner.p50_ms) == (None, None, None)
    assert winner.settings["p99-ms"] == 100.0
    assert winner.settings["model"] == "<m>"
    assert report.headroom == pytest.approx(winner.rate / 10 - 1)
    assert report.measured_configurations == 0
    rates = [point.rate for point in report.pareto]
    assert rates == sorted(rates)
    heights = [point.p99_ms for point in report.pareto]
    assert heights == sorted(heights)
    others = [row for row in report.candidates if row.name != winner.name]
    assert all("it is predicted to keep" in row.lost for row in others)
    page = render_page(report)
    assert "&lt;m&gt;" in page
    assert "<m>" not in page
    assert "is predicted to keep" in page
    assert "predicted, not measured" in page
    one = found.predictions.ranked()[0]
    assert not why_lost(one, report.candidates[0], winner, forecast, 100.0)
    # Nothing was measured that could decide between equals.
    told = others[0].predicted
    assert told is not None
    for ratio in (1.0, 1.02):
        equal = msgspec.structs.replace(told, rate=winner.rate * ratio)
        row = msgspec.structs.replace(others[0], predicted=equal)
        lost = why_lost(one, row, winner, forecast, 100.0)
        assert "as good as the winner's rate; that carries more at any latency" in lost


def test_an_unconfirmed_winner_has_no_figures_of_another_rate(shapes: dict[Shape, Plan]) -> None:
    found, forecast = survey(shapes, {FAST: 10.0})
    found.run()
    first, *rest = found.predictions.ranked()
    seen = Measured(
        rate=0.0, rate_interval=[5.2, 5.2], offered=68.9, p50_ms=200.0, p99_ms=463.9,
        p99_interval_ms=[463.9, 463.9], raw_p99_ms=463.9, first_p99_ms=463.9,
        guessed_p99_ms=90.0, refused=0.0, requests=300,
    )  # fmt: skip
    trial = Trial(one=first, predicted=found.predictions.known[first], rate=5.2, found=seen)
    order = TuneOrder(
        bound_ms=100.0, rate=None, gaps=[1.0], arrivals="Poisson", budget_s=1.0,
        exhaustive=False, given={},
    )  # fmt: skip
    empty = TuneReport(p99_ms=100.0, model="m", cpu="a CPU", arrivals="Poisson")
    report = Summary(order, forecast, found, [trial]).fill(empty)
    winner = report.winner
    assert winner is not None
    assert (winner.rate, winner.p99_ms, winner.p99_interval_ms) == (5.2, None, None)
    assert winner.p50_ms is None
    assert found.predictions.known[rest[0]].rate > 5.2
    assert "what was measured decides" in report.candidates[1].lost
    trial.found = msgspec.structs.replace(seen, offered=5.2)
    winner = Summary(order, forecast, found, [trial]).fill(empty).winner
    assert winner is not None
    assert winner.p99_ms == 463.9


def test_after_serving_was_seen_all_that_may_be_first_is_predicted_again(
    shapes: dict[Shape, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Serving takes half of the workers: nothing may win by not having been predicted again."""
    monkeypatch.setattr("corral.slo.predictions._AGAIN", 2)
    found, forecast = survey(shapes, {FAST: 10.0, SLOW: 10.5}, factor=0.9)
    found.run()
    best = found.predictions.best()
    assert best is not None
    before = found.predictions.known[best].rate
    for shape in shapes:
        one = next(one for one in found.predictions.known if one.shape == shape)
        spent_s = forecast.trial_s(one)
        assert spent_s is not None
        batches = [Batch(size=1, spent_s=2 * spent_s[1][0])] * 30
        forecast.learn_served(one, Served(rate=50.0, batches=batches))
    found.predictions.predict_again()
    again = found.predictions.ranked()[:2]
    assert again
    assert all(found.predictions.known[one].rate < 0.6 * before for one in again)


def test_the_best_of_each_kind_of_workers_is_predicted_again_too(
    shapes: dict[Shape, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be put under load for what was thought of it before serving was seen."""
    monkeypatch.setattr("corral.slo.predictions._AGAIN", 1)
    found, forecast = survey(shapes, {FAST: 10.0})
    found.run()
    best = found.predictions.best()
    assert best is not None
    spent_s = forecast.trial_s(best)
    assert spent_s is not None
    batches = [Batch(size=size, spent_s=each[0]) for size, each in spent_s.items()] * 30
    forecast.learn_served(best, Served(rate=50.0, batches=batches, beside_s=0.004))

    def of_kinds() -> dict[Shape, float]:
        return {
            one.shape: found.predictions.known[one].rate
            for one in reversed(found.predictions.ranked())
        }

    found.predictions.predict_again()
    again = of_kinds()
    monkeypatch.setattr("corral.slo.predictions._AGAIN", 1000)
    found.predictions.predict_again()
    assert again == pytest.approx(of_kinds(), rel=0.02)


def test_servers_are_calibrated_until_the_best_is_of_a_shape_that_was(
    shapes: dict[Shape, Plan],
) -> None:
    """What requests take beside workers stops all of a wide one, and half of two narrow ones."""
    found, forecast = survey(shapes, {FAST: 10.0})
    found.run()
    rates: dict[Shape, list[float]] = {}
    before = found.predictions.best()
    assert before is not None

    def calibrate(one: Configuration, rate: float, _: float) -> None:
        rates.setdefault(one.shape, []).append(rate)
        spent_s = forecast.trial_s(one)
        assert spent_s is not None
        factor = slowdown(rate, 0.008 / one.shape.workers)
        batches = [Batch(size=1, spent_s=factor * spent_s[1][0])] * 30
        forecast.learn_served(one, Served(rate=rate, batches=batches, beside_s=0.008))

    made = Calibrator(found, forecast, calibrate, lambda _: None)
    made.run(lambda _: {}, lambda: False)
    best = found.predictions.best()
    assert best is not None
    assert before.shape.workers < best.shape.workers
    # The first were overloaded at first: their second round is at a lower rate.
    assert list(rates) == [before.shape, best.shape]
    low, lower = rates[before.shape]
    assert lower < low
    late, new = survey(shapes, {FAST: 10.0})
    late.run()
    with pytest.raises(StartError, match="no memory"):
        Calibrator(late, new, calibrate, lambda _: None).run(
            lambda wanted: dict.fromkeys(wanted, "no memory"), lambda: True
        )


def test_a_calibration_that_was_overloaded_is_repeated_at_half_the_rate(
    shapes: dict[Shape, Plan],
) -> None:
    """By what it saw nothing keeps the bound; what was predicted before is still to be tried."""
    found, forecast = survey(shapes, {FAST: 10.0})
    found.run()
    rates: list[float] = []

    def calibrate(one: Configuration, rate: float, _: float) -> None:
        rates.append(rate)
        batches = [Batch(size=1, spent_s=0.01)] * 30
        forecast.learn_served(one, Served(rate=rate, batches=batches, overhead_s=1.0))

    Calibrator(found, forecast, calibrate, lambda _: None).run(lambda _: {}, lambda: False)
    assert rates[1] == pytest.approx(rates[0] / 2)
    assert found.predictions.best() is not None


@pytest.mark.parametrize("factor", [0.93, 1.08])
def test_the_fastest_memory_is_simulated_and_a_slower_one_never_wins(
    shapes: dict[Shape, Plan], factor: float
) -> None:
    found, forecast = survey(shapes, {FAST: 10.0}, factor=factor)
    found.run()
    rough = Rough(forecast, {FAST: [SYSTEM, OTHER]})
    others = [one for one in found.predictions.known if one.memory == OTHER]
    assert others
    for one in others:
        told, simulated = rough.highest(one), forecast.highest(one, roughly=True)
        usual = rough.highest(msgspec.structs.replace(one, memory=SYSTEM))
        assert told is not None
        assert simulated is not None
        assert usual is not None
        if factor < 1:
            # Both end within 2 % below the highest; where depends on where they begin.
            assert told.rate == pytest.approx(simulated.rate, rel=0.02)
        else:
            assert max(told.rate, simulated.rate) < usual.rate, one.name
