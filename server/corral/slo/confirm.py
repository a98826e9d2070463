"""Confirms predictions under load: interleaved rounds, backing off until the interval holds.

Whoever measures is handed in: here is what is measured next, and what follows from it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Sequence

import msgspec

from corral.batching.prediction import Prediction, percentile
from corral.slo.forecast import Forecast
from corral.slo.interval import Pairs, Ratio, ratio
from corral.slo.report import Measured
from corral.slo.running import Round
from corral.slo.space import Configuration

#: rounds at rates that differ by no more than this share say something of one another
_NEAR = 0.08
#: a rate is as good as confirmed where a round was this near to it
_CLOSE = 0.02
#: requests that a promise rests on: LoadGen's early stopping asks for as many for a 99th percentile
ENOUGH = 662
#: of the first requests, which an empty server answers
_DISCARD = 0.05
#: a candidate whose best hope is below the winner's rate by this share has lost
_BEHIND = 0.01

#: a first round's rate is one that is kept with times so many times as long as predicted
SLOWER = 1.1
#: the same, of a later round that goes up
_UPWARDS = 1.05
#: a simulated 99th percentile above so many bounds is that of a queue that only grows
_OVERLOADED = 3.0
#: what is written where an answer never came: JSON has no infinity
_NEVER_S = 1e6

Measure = Callable[[Configuration, float, Sequence[float]], Round]


@dataclasses.dataclass
class Trial:
    """One configuration under load.

    Attributes:
        one: the configuration.
        predicted: before it was measured: the highest rate that keeps the bound.
        rate: that is measured next.
        rounds: measured so far, those of its calibration first.
        calibrating: how many of them were that.
        settled: nothing more is to be measured.
    """

    one: Configuration
    predicted: Prediction
    rate: float
    rounds: list[Round] = dataclasses.field(default_factory=list)
    calibrating: int = 0
    #: the 99th percentile of the first round after them, as predicted before, for its schedule
    guessed_s: float | None = None
    settled: bool = False
    #: what is known: of the highest rate that held, else of the latest
    found: Measured | None = None
    held: Measured | None = None

    @property
    def requests(self) -> int:
        """How many say something of the rate that is measured next."""
        return sum(len(r.offsets_s) for r in _near(self.rounds, self.rate))

    @property
    def first_s(self) -> float | None:
        """The 99th percentile of the first round that was not to calibrate; None before it."""
        return _percentile(first, 0.99) if (first := self.rounds[self.calibrating :][:1]) else None


class Confirmation:
    """Measures some configurations in turns.

    Args:
        forecast: predicts, and learns from what is seen.
        measure: puts a server under a schedule.
        bound_s: of the latency.
    """

    def __init__(self, forecast: Forecast, measure: Measure, bound_s: float) -> None:
        self._forecast = forecast
        self._measure = measure
        self._bound_s = bound_s
        self._seed = 0
        self._calibrating: dict[Configuration, list[Round]] = {}
        self.trials: list[Trial] = []

    def add(self, one: Configuration, predicted: Prediction) -> Trial:
        """A configuration to confirm, from a rate on that is below the predicted one.

        Near what it can carry at the most, its latency is anything: times that are 3 % longer make
        it several times as long. No forecast is right there, and a round beyond it is lost. What
        was seen of it while it was calibrated says as much as a round.
        """
        sure = self._forecast.highest(one, slower=SLOWER)
        first_rate = sure.rate if sure else predicted.rate
        trial = Trial(one=one, predicted=predicted, rate=first_rate)
        self.trials.append(trial)
        if seen := self._calibrating.get(one, []):
            trial.rounds += seen
            trial.calibrating = len(seen)
            self._judge(trial)
            trial.rate = min(trial.rate, first_rate)
        return trial

    @property
    def calibrated(self) -> Collection[Configuration]:
        """What was under load to be calibrated."""
        return self._calibrating.keys()

    def calibrate(self, one: Configuration, rate: float, seconds: float) -> None:
        """Learns from a server that is up what serving adds, at a rate that it carries easily."""
        self._seed += 1
        offsets_s = self._forecast.schedule(rate, seconds, self._seed)
        found = self._measure(one, rate, offsets_s)
        self._learn(one, found)
        self._calibrating.setdefault(one, []).append(found)
        long = self._forecast.at(one, rate)
        assert long is not None, "what is calibrated was predicted"
        seen_s = max(_percentile([found], 0.99), self._simulated_s(one, rate, offsets_s))
        if max(seen_s, long.p99_s) <= _OVERLOADED * self._bound_s:
            self._forecast.learn_tail(one.shape, rate, self._ratio(one, [found]))

    def _simulated_s(self, one: Configuration, rate: float, offsets_s: Sequence[float]) -> float:
        """The 99th percentile of a schedule, by what is known."""
        return percentile(sorted(_counted(self._forecast.sojourns_s(one, rate, offsets_s))), 0.99)

    def turn(self, trial: Trial, seconds: float) -> None:
        """Measures a configuration for so long, and settles at which rate it is measured next."""
        forecast, one, rate = self._forecast, trial.one, trial.rate
        self._seed += 1
        offsets_s = forecast.schedule(rate, seconds, self._seed)
        if trial.guessed_s is None:
            trial.guessed_s = self._simulated_s(one, rate, offsets_s) * forecast.tail(one.shape)
        found = self._measure(one, rate, offsets_s)
        trial.rounds.append(found)
        self._learn(one, found)
        self._judge(trial)

    def _learn(self, one: Configuration, found: Round) -> None:
        if found.served.batches:
            self._forecast.learn_served(one, found.served)

    def _judge(self, trial: Trial) -> None:
        """What the rounds at the latest rate, or else the nearest, say, and where to go then."""
        here = trial.rounds[-1].rate
        near = _near(trial.rounds, here)
        long = self._forecast.at(trial.one, here)
        assert long is not None
        if long.p99_s > _OVERLOADED * self._bound_s:
            self._step_back(trial, near)
            return
        said = self._ratio(trial.one, _enough(trial.rounds, here))
        middle_s, low_s, high_s = said.of(long.p99_s)
        safe = self._forecast.highest(trial.one, max(said.high, 1e-6))
        hopeful = self._forecast.highest(trial.one, max(said.low, 1e-6))
        safe_rate = safe.rate if safe else 0.0
        holds = high_s <= self._bound_s and all(r.refused == 0 for r in near)
        seen = Measured(
            rate=here if holds else 0.0,
            rate_interval=[safe_rate, hopeful.rate if hopeful else safe_rate],
            offered=here,
            p50_ms=_percentile(near, 0.5) * 1000,
            p99_ms=min(middle_s, _NEVER_S) * 1000,
            p99_interval_ms=[min(low_s, _NEVER_S) * 1000, min(high_s, _NEVER_S) * 1000],
            raw_p99_ms=_percentile(near, 0.99) * 1000,
            refused=max(r.refused for r in near),
            requests=sum(len(r.offsets_s) for r in near),
            other_load=max(r.other_load for r in near),
            joules_an_inference=_joules(near),
        )
        enough = seen.requests >= ENOUGH
        trial.settled = holds and enough and safe_rate <= here * (1 + _CLOSE)
        trial.rate = self._next_rate(trial.one, here, safe_rate, said)
        self._keep(trial, seen)

    def _next_rate(self, one: Configuration, here: float, safe_rate: float, said: Ratio) -> float:
        """Where it is measured next: at the safe rate, and part of the way if that is far above.

        What a round says of much higher rates is a forecast, as wrong near saturation as any other.
        """
        step = here * (1 + _NEAR)
        if safe_rate <= step:
            return max(safe_rate, here * 0.5)
        careful = self._forecast.highest(one, max(said.high, 1e-6), slower=_UPWARDS)
        return max(careful.rate if careful else 0.0, step)

    def _keep(self, trial: Trial, seen: Measured) -> None:
        """What was seen last, beside the highest rate that has held and was not refuted since.

        A round at it or a little below refutes it. One a little above does if by all of them the
        rate that is safe is lower: that a higher rate does not hold says nothing by itself.
        """
        held = trial.held
        if held is not None and abs(held.offered / seen.offered - 1) <= _NEAR:
            safe = min(seen.offered, seen.rate_interval[0])
            held = held if safe > held.offered else None
        if seen.rate and (held is None or seen.rate > held.rate):
            held = seen
        trial.held = held
        trial.found = msgspec.structs.replace(
            held or seen,
            first_p99_ms=_in_ms(trial.first_s),
            guessed_p99_ms=_in_ms(trial.guessed_s),
        )

    def _step_back(self, trial: Trial, rounds: Sequence[Round]) -> None:
        """More came than the server carries, as its own times say: nothing is told by how much."""
        found = self._forecast.highest(trial.one)
        rate, here = found.rate if found else 0.0, trial.rounds[-1].rate
        raw_ms = _percentile(rounds, 0.99) * 1000
        seen = Measured(
            rate=0.0,
            rate_interval=[rate, rate],
            offered=here,
            p50_ms=_percentile(rounds, 0.5) * 1000,
            p99_ms=raw_ms,
            p99_interval_ms=[raw_ms, raw_ms],
            raw_p99_ms=raw_ms,
            refused=max(r.refused for r in rounds),
            requests=sum(len(r.offsets_s) for r in rounds),
            other_load=max(r.other_load for r in rounds),
            joules_an_inference=_joules(rounds),
        )
        trial.rate = rate or here * 0.5
        self._keep(trial, seen)

    def _ratio(self, one: Configuration, rounds: Sequence[Round]) -> Ratio:
        pairs = []
        for found in rounds:
            long = self._forecast.at(one, found.rate)
            assert long is not None
            if long.p99_s > _OVERLOADED * self._bound_s:
                # It is only beside the others: how much too much came says nothing of them.
                continue
            simulated_s = self._forecast.sojourns_s(one, found.rate, found.offsets_s)
            pairs.append(Pairs(_counted(found.latencies_s), _counted(simulated_s), long.p99_s))
        return ratio(pairs)

    @property
    def best(self) -> Trial | None:
        """The one with the highest rate that holds; None where none does yet."""
        return best_of(self.trials)

    def last(self) -> Trial | None:
        """Which one the last of the time is for, where nothing holds yet: the likeliest to."""
        if self.best is not None or not self.trials:
            return None
        return max(self.trials, key=lambda t: t.rate)

    def hopeful(self) -> list[Trial]:
        """Those that are worth another round: not settled, and not behind for sure."""
        best = self.best
        least = best.found.rate * (1 + _BEHIND) if best and best.found else 0.0

        def may_win(trial: Trial) -> bool:
            return trial is best or not trial.found or trial.found.rate_interval[1] > least

        return [trial for trial in self.trials if not trial.settled and may_win(trial)]


def _near(rounds: Sequence[Round], rate: float) -> list[Round]:
    """The rounds at such a rate."""
    return [r for r in rounds if abs(r.rate / rate - 1) <= _NEAR]


def _enough(rounds: Sequence[Round], rate: float) -> list[Round]:
    """The same, and while they are too few requests, the nearest beside them."""
    found: list[Round] = []
    for each in sorted(rounds, key=lambda r: abs(math.log(r.rate / rate))):
        short = sum(len(r.offsets_s) for r in found) < ENOUGH
        if short or abs(each.rate / rate - 1) <= _NEAR:
            found.append(each)
    return found


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The one with the highest rate that holds; None where none does."""
    held = [t for t in trials if t.found and t.found.rate]
    return max(held, key=lambda t: t.found.rate if t.found else 0.0, default=None)


def _percentile(rounds: Sequence[Round], share: float) -> float:
    """Of what was measured as it is, without the first of each round."""
    kept = [spent_s for found in rounds for spent_s in _counted(found.latencies_s)]
    found = percentile(sorted(kept), share)
    return found if math.isfinite(found) else _NEVER_S


def _in_ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


def _joules(rounds: Sequence[Round]) -> float | None:
    """Joules of an answered request, over the rounds that know."""
    known = [(r.joules, r.answered) for r in rounds if r.joules is not None]
    answered = sum(count for _, count in known)
    return math.fsum(joules for joules, _ in known) / answered if answered else None


def _counted(values: Sequence[float]) -> Sequence[float]:
    return values[int(_DISCARD * len(values)) :]
