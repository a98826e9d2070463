"""Confirms predictions under load: interleaved rounds, backing off until the interval holds.

Whoever measures is handed in: here is what is measured next, and what follows from it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Sequence

import msgspec

from corral.batching.prediction import Prediction, percentile
from corral.slo.counting import NEVER_S, Counting
from corral.slo.forecast import Forecast
from corral.slo.interval import Pairs, Ratio, counted, ratio
from corral.slo.replay import Between, Replay
from corral.slo.report import Measured
from corral.slo.running import Round
from corral.slo.space import Arithmetic, Configuration, Shape

#: rounds at rates that differ by no more than this share say something of one another
_NEAR = 0.08
#: a rate is as good as confirmed where a round was this near to it
_CLOSE = 0.02
#: requests that a promise rests on: LoadGen's early stopping asks for as many for a 99th percentile
ENOUGH = 662
#: a candidate whose best hope is below the winner's rate by this share has lost
_BEHIND = 0.01

#: a first round's rate is one that is kept with times so many times as long as predicted
SLOWER = 1.1
#: while nothing holds, what is measured next is so much of what should hold
_SURER = 0.97
#: and so much of it last of all, when a little more is worth less than that it holds
_SUREST = 0.92
#: and no less than this share of the latest rate, as long as more may hold: what is wrong is then
#: how little was seen, and not the rate
_LEAST_STEP = 0.85
#: of a rate that is far above what holds, what is measured first
_UPWARDS = 0.93
#: of one that is near to what holds: on the edge itself every second round is lost
_ON_THE_EDGE = 0.99
#: rates that were offered, whose promise is looked at
_LOOKED_AT = 3
#: a simulated 99th percentile above so many bounds is that of a queue that only grows
_OVERLOADED = 3.0

#: of what nothing is known
_NOTHING = Ratio(middle=1.0, low=1.0, high=1.0)

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
        judged_by: how many rounds of all workers of its shape it was judged by.
    """

    one: Configuration
    predicted: Prediction
    rate: float
    rounds: list[Round] = dataclasses.field(default_factory=list)
    calibrating: int = 0
    #: whether a round was forecast that met no spell
    guessing_done: bool = False
    #: the 99th percentile of the first round after them that was no spell, and as it was predicted
    #: before, for its schedule
    first_s: float | None = None
    guessed_s: float | None = None
    settled: bool = False
    judged_by: int = 0
    #: what is known: of the highest rate that held, else of the latest
    found: Measured | None = None
    held: Measured | None = None


class Confirmation:
    """Measures some configurations in turns.

    Args:
        forecast: predicts, and learns from what is seen.
        measure: puts a server under a schedule.
        bound_s: of the latency.
    """

    def __init__(self, forecast: Forecast, measure: Measure, bound_s: float) -> None:
        self._forecast = forecast
        self._replay = Replay(forecast)
        self._counting = Counting(forecast.seen, bound_s)
        self._measure = measure
        self._bound_s = bound_s
        self._seed = 0
        #: everything that was measured
        self._all: list[tuple[Configuration, Round]] = []
        self._known: dict[tuple[Arithmetic, Shape], tuple[int, Ratio]] = {}
        self._calibrating: dict[Configuration, list[Round]] = {}
        self.trials: list[Trial] = []

    def add(self, one: Configuration, predicted: Prediction) -> Trial:
        """A configuration to confirm, from a rate on that is below the predicted one.

        Near what it can carry at the most, its latency is anything: times that are 3 % longer make
        it several times as long. No forecast is right there, and a round beyond it is lost. What
        was seen of it while it was calibrated says as much as a round.
        """
        sure = self._forecast.highest(one, slower=SLOWER)
        trial = Trial(one=one, predicted=predicted, rate=sure.rate if sure else predicted.rate)
        self.trials.append(trial)
        if self._forecast.seen.alike(one):
            said = self._replay.at(one, trial.rate).times(self._usual(one))
            safe = self._rate_of(one, said, said.high_s, trial.rate)
            hopeful = self._rate_of(one, said, said.low_s, safe)
            careful = _LEAST_STEP * min(trial.rate, hopeful)
            trial.rate = max(safe * _SURER, careful) or trial.rate
        if seen := self._calibrating.get(one, []):
            trial.rounds += seen
            trial.calibrating = len(seen)
            self._judge(trial)
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
        measured_s = self._counting.percentile([found], 0.99)
        seen_s = max(measured_s, self._simulated_s(one, rate, offsets_s))
        if max(seen_s, long.p99_s) <= _OVERLOADED * self._bound_s:
            said = self._replay.at(one, rate).times(self._beside([(one, found)]))
            ends = said.middle_s, said.low_s, said.high_s
            middle, low, high = (end_s / long.p99_s for end_s in ends)
            self._forecast.learn_tail(one.shape, rate, Ratio(middle=middle, low=low, high=high))

    def _simulated_s(self, one: Configuration, rate: float, offsets_s: Sequence[float]) -> float:
        """The 99th percentile of a schedule, by what is known."""
        return percentile(sorted(counted(self._forecast.sojourns_s(one, rate, offsets_s))), 0.99)

    def turn(self, trial: Trial, seconds: float) -> None:
        """Measures a configuration for so long, and settles at which rate it is measured next."""
        forecast, one, rate = self._forecast, trial.one, trial.rate
        self._seed += 1
        offsets_s = forecast.schedule(rate, seconds, self._seed)
        guessed_s = self._guessed_s(one, rate, offsets_s) if not trial.guessing_done else 0.0
        found = self._measure(one, rate, offsets_s)
        trial.rounds.append(found)
        self._learn(one, found)
        if not trial.guessing_done:
            trial.guessed_s, trial.first_s = guessed_s, self._counting.percentile([found], 0.99)
            trial.guessing_done = self._counting.is_quiet(found)
        self._judge(trial)

    def _guessed_s(self, one: Configuration, rate: float, offsets_s: Sequence[float]) -> float:
        """The 99th percentile that a schedule should have, by all that was seen."""
        known = self._forecast.is_calibrated(one.shape)
        beside = max(1.0, self._usual(one).middle if known else self._forecast.tail(one.shape))
        return min(self._replay.expected_s(one, rate, offsets_s) * beside, NEVER_S)

    def _learn(self, one: Configuration, found: Round) -> None:
        self._all.append((one, found))
        if found.served.batches:
            self._forecast.learn_served(one, found.served)

    def _judge(self, trial: Trial) -> None:
        """What all rounds say of the rates that were offered, and where to go then."""
        trial.judged_by = self._rounds_of(trial.one.shape)
        here = trial.rounds[-1].rate
        said = self._said(trial, here)
        safe_rate = self._rate_of(trial.one, said, said.high_s, here)
        hopeful = self._rate_of(trial.one, said, said.low_s, safe_rate)
        offered = (self._seen(trial, rate) for rate in self._offered(trial, safe_rate))
        trial.held = next((seen for seen in offered if seen.rate), None)
        latest = trial.held or self._seen(trial, here)
        trial.found = msgspec.structs.replace(
            latest,
            rate_interval=[safe_rate, max(safe_rate, hopeful)],
            first_p99_ms=_in_ms(trial.first_s),
            guessed_p99_ms=_in_ms(trial.guessed_s),
        )
        self._go_on(trial, here, safe_rate, hopeful)

    def judge_again(self, *, settled: bool) -> None:
        """Those that hold, by what rounds of others have told of their workers since.

        What holds no longer is taken back, and may be measured again.

        Args:
            settled: only those that get no other turn else.
        """
        for trial in self.trials:
            is_old = trial.judged_by != self._rounds_of(trial.one.shape)
            if trial.held and is_old and (trial.settled or not settled):
                self._judge(trial)

    def _rounds_of(self, shape: Shape) -> int:
        """How many say something of workers of a shape."""
        return sum(one.shape == shape for one, _ in self._all)

    def _go_on(self, trial: Trial, here: float, safe_rate: float, hopeful: float) -> None:
        """Where it is measured next, unless there is nothing above what it holds."""
        held = trial.held
        if held is None:
            # One that holds for sure is worth more than one that may.
            trial.rate = max(safe_rate * _SURER, min(here * _LEAST_STEP, hopeful * _SURER))
            trial.rate = trial.rate or here * _LEAST_STEP
            trial.settled = False
            return
        step = held.rate * (1 + _NEAR)
        is_far = safe_rate > step
        surely = safe_rate * _ON_THE_EDGE
        trial.rate = max(step, safe_rate * _UPWARDS) if is_far else max(surely, held.rate)
        there = safe_rate <= held.rate * (1 + _CLOSE)
        trial.settled = there and self.counting(trial, held.rate) >= ENOUGH

    def _offered(self, trial: Trial, safe_rate: float) -> list[float]:
        """Rates that may hold, of those that were offered; the highest first."""
        rates = {r.rate for r in trial.rounds if r.rate <= safe_rate * (1 + _CLOSE)}
        return sorted(rates, reverse=True)[:_LOOKED_AT]

    def _said(self, trial: Trial, rate: float) -> Between:
        """The 99th percentile at a rate, by all that was seen."""
        long = self._replay.at(trial.one, rate)
        return long.times(self._usual(trial.one))

    def _rate_of(self, one: Configuration, said: Between, p99_s: float, guess: float) -> float:
        """The highest rate that keeps the bound where the percentile is thought to be this one."""
        # Where more comes than is carried, the replay says so, and by how much less comes then.
        factor = p99_s / said.replayed_s if math.isfinite(said.replayed_s) else 1.0
        allowed_s = self._bound_s / factor
        return self._replay.highest(one, allowed_s, guess) if factor < math.inf else 0.0

    def _seen(self, trial: Trial, rate: float) -> Measured:
        """What the rounds at a rate, and what all others say of it, come to."""
        near = _near(trial.rounds, rate)
        answered = all(map(self._counting.is_answered, near))
        quiet = [found for found in near if self._counting.is_quiet(found)]
        near = quiet or near
        said = self._said(trial, rate)
        holds = said.high_s <= self._bound_s and answered
        return Measured(
            rate=rate if holds and quiet else 0.0,
            rate_interval=[0.0, 0.0],
            offered=rate,
            p50_ms=self._counting.percentile(near, 0.5) * 1000,
            p99_ms=min(said.middle_s, NEVER_S) * 1000,
            p99_interval_ms=[min(end_s, NEVER_S) * 1000 for end_s in (said.low_s, said.high_s)],
            raw_p99_ms=self._counting.percentile(near, 0.99) * 1000,
            refused=max(r.refused for r in near),
            requests=sum(len(r.offsets_s) for r in near),
            other_load=max(r.other_load for r in near),
            joules_an_inference=_joules(near),
        )

    def _beside(self, rounds: Sequence[tuple[Configuration, Round]]) -> Ratio:
        """What percentiles were of replayed ones, each as a share of that of its rate.

        Of rates far beyond what is carried nothing is learned: how much is too much is chance.
        """
        pairs = []
        for one, found in rounds:
            unit_s = self._replay.middle_s(one, found.rate)
            seen_s = self._counting.of(found, found.latencies_s)
            if seen_s and unit_s <= _OVERLOADED * self._bound_s:
                should_s = self._replay.sojourns_s(one, found.rate, found.offsets_s, found.served)
                pairs.append(Pairs(seen_s, self._counting.of(found, should_s), unit_s))
        return ratio(pairs) if pairs else _NOTHING

    def _usual(self, one: Configuration) -> Ratio:
        """The same over the rounds of all servers with its engine and workers; kept for a while."""
        kind = one.arithmetic, one.shape
        alike = [pair for pair in self._all if (pair[0].arithmetic, pair[0].shape) == kind]
        count, known = self._known.get(kind, (-1, _NOTHING))
        if count != len(alike):
            known = self._beside(alike)
            self._known[kind] = len(alike), known
        return known

    def counting(self, trial: Trial, rate: float) -> int:
        """How many requests near a rate a promise may rest on."""
        return self._counting.count(_near(trial.rounds, rate))

    @property
    def best(self) -> Trial | None:
        """The one with the highest rate that holds; None where none does yet."""
        return best_of(self.trials)

    def last(self) -> Trial | None:
        """Which one the last of the time is for where nothing holds, at a rate that is safe."""
        if self.best is not None or not self.trials:
            return None
        found = max(self.trials, key=lambda t: (_safe_rate(t), t.rate))
        found.rate = _safe_rate(found) * _SUREST or found.rate
        return found

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


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The one with the highest rate that holds; None where none does."""
    held = [t for t in trials if t.found and t.found.rate]
    return max(held, key=lambda t: t.found.rate if t.found else 0.0, default=None)


def _safe_rate(trial: Trial) -> float:
    """The rate that holds if its percentile is at its interval's upper end; 0 for none yet."""
    return trial.found.rate_interval[0] if trial.found else 0.0


def _in_ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


def _joules(rounds: Sequence[Round]) -> float | None:
    """Joules of an answered request, over the rounds that know."""
    known = [(r.joules, r.answered) for r in rounds if r.joules is not None]
    answered = sum(count for _, count in known)
    return math.fsum(joules for joules, _ in known) / answered if answered else None
