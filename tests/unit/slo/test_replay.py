"""What is simulated to look for a rate has a limit, however much was seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from support.simulated_servers import BOUND_S, Machine, configuration, forecast

from corral.slo.forecast import Forecast
from corral.slo.replay import Replay
from corral.slo.space import Configuration


class Counted(Replay):
    """One that tells how many requests were played in each schedule."""

    def __init__(self, made: Forecast, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(made)
        self.played: list[int] = []
        for name in ("replayed_s", "sojourns_s"):
            self._watch(made, name, monkeypatch)

    def _watch(self, made: Forecast, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        usual = getattr(made, name)

        def watched(
            one: Configuration, rate: float, offsets_s: Sequence[float], *more: Any, **also: Any
        ) -> list[float]:
            self.played.append(len(offsets_s))
            found: list[float] = usual(one, rate, offsets_s, *more, **also)
            return found

        monkeypatch.setattr(made, name, watched)


def seen(machine: Machine, seconds: float) -> Forecast:
    """What a server showed in so many seconds at 120 requests a second."""
    made, one = forecast(arrivals=6000), configuration()
    offsets_s = made.schedule(120.0, seconds, 3)
    made.learn_served(one, machine.measure(one, 120.0, offsets_s).served)
    return made


def test_a_schedule_has_a_most_of_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corral.slo.replay._MOST_REQUESTS", 5000)
    one = configuration()
    replay = Counted(seen(Machine(1.0), 100.0), monkeypatch)
    replay.highest(one, BOUND_S)
    replay.at(one, 100.0)
    # Far more than is carried, and nothing seen.
    replay.at(one, 5000.0)
    Counted.highest(replay, configuration(largest=2), BOUND_S)
    assert len(replay.played) > 10
    assert max(replay.played) <= 5001
    nothing = Counted(forecast(), monkeypatch)
    nothing.at(one, 5000.0)
    assert max(nothing.played) <= 5001


def test_some_seconds_of_all_say_what_all_of_them_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second half is one of a slower machine: both are among the seconds that are played."""

    class Slowing(Machine):
        def end_s(self, begins_s: float, spent_s: float) -> float:
            return begins_s + spent_s * (1.0 if begins_s < 60.0 else 1.15)

    made, one = seen(Slowing(1.0), 120.0), configuration()
    whole = Replay(made).highest(one, BOUND_S)
    monkeypatch.setattr("corral.slo.replay._MOST_REQUESTS", 8000)
    some = Replay(made)
    assert some.highest(one, BOUND_S) == pytest.approx(whole, rel=0.04)
    # Always the same ones.
    assert some.at(one, 120.0) == Replay(made).at(one, 120.0)
