"""``corral tune --p99-ms``: surveys, predicts, confirms; keeps what is known when interrupted."""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from corral.batching.prediction import Prediction
from corral.models.spec import ModelSpec
from corral.planning.machine import Machine
from corral.planning.plan import Plan
from corral.settings import Settings
from corral.slo.calibrator import Calibrator
from corral.slo.confirm import ENOUGH, Confirmation, Trial
from corral.slo.disturbance import Watch
from corral.slo.forecast import Forecast
from corral.slo.history import History, Speed, slower, speed
from corral.slo.order import TuneOrder
from corral.slo.profiler import Profiler
from corral.slo.report import TuneReport
from corral.slo.running import Round, Servers
from corral.slo.space import Configuration, Shape, Space
from corral.slo.summary import Summary
from corral.slo.survey import Engine, Survey
from corral.system.limits import memory_left
from corral.tuning.other_load import OtherLoad, watched

#: the share of the time that is kept for confirming
_CONFIRMING = 0.6
#: configurations that are confirmed
_BEST = 3
#: requests of a round that tell the good from the bad, within these times
_FIRST_REQUESTS = 150
_SHORTEST_S = 4.0
_LONGEST_S = 60.0
#: of the time, the last is kept for confirming the likeliest, where nothing holds; in so many
#: rounds, each of which may step back
_LAST = 0.1
_LAST_ROUNDS = 3
#: rounds of a configuration at the most
_MOST_ROUNDS = 12
#: predictions are not wrong by so much: what is further behind is not confirmed
_FAR = 0.75
#: what is predicted to be as near in rate and median behaves alike
_ALIKE = 0.02
#: rounds of each in an exhaustive search
_EXHAUSTIVE_ROUNDS = 3
#: what a server of its own is taken to need
_SERVER_BYTES = 700 * 10**6
NOTHING_KEEPS = (
    "no configuration is predicted to keep the bound at any rate: a higher --p99-ms, "
    "more --budget-s or a quieter machine may help"
)
#: a busier machine is told
_BUSY = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """What is tuned: the server's settings, its model, and what there is to choose from."""

    settings: Settings
    spec: ModelSpec
    machine: Machine
    space: Space
    engines: Sequence[Engine]
    plans: Mapping[Shape, Plan]
    #: engines that may not be chosen, with the reason
    left_out: Sequence[str] = ()


class Tuning:
    """One search in the making; ``report`` is what is known so far.

    Args:
        subject: what is tuned.
        order: what to look for.
        make_servers: makes the servers that are put under load.
        history: of searches on this machine.
        say: told what begins, a phrase.
    """

    def __init__(
        self,
        subject: Subject,
        order: TuneOrder,
        make_servers: Callable[[], Servers],
        history: History,
        say: Callable[[str], None],
    ) -> None:
        self._subject = subject
        self._order = order
        self._make_servers = make_servers
        self._history = history
        self._say = say
        self._begun_s = time.monotonic()
        cells = {shape: len(plan.cells) for shape, plan in subject.plans.items()}
        cores = subject.machine.cpu_budget
        self._forecast = Forecast(subject.settings, order.bound_s, order.gaps, cells, cores)
        self._survey: Survey | None = None
        self._confirmation: Confirmation | None = None
        self._load = OtherLoad()
        self._watch = Watch.of(subject.machine.allowed_cpus, self._left_s, say)
        self._notes: list[str] = []
        self._report = TuneReport(
            p99_ms=order.bound_ms,
            model=subject.settings.model.name,
            cpu=subject.machine.model_name,
            arrivals=order.arrivals,
            asked_rate=order.rate,
            space={**subject.space.describe(), "configurations": len(subject.space)},
        )

    @property
    def seconds(self) -> float:
        """Since it began to measure."""
        return time.monotonic() - self._begun_s

    def _left_s(self) -> float:
        return math.inf if self._order.exhaustive else self._order.budget_s - self.seconds

    def run(self, environ: Mapping[str, str]) -> None:
        """Measures everything.

        Raises:
            ConfigError: no rate keeps the bound.
            CorralError: something cannot be had; what was measured before stays in the report.
        """
        self._begun_s = time.monotonic()
        subject, order = self._subject, self._order
        profiler = Profiler(
            settings=subject.settings,
            spec=subject.spec,
            environ=environ,
            bound_s=order.bound_s,
            sizes=sorted({1, *_sizes(subject.space)}),
            watch=self._watch,
        )
        with watched(subject.machine.allowed_cpus, self._load):
            self._survey = Survey(
                space=subject.space,
                engines=subject.engines,
                plans=subject.plans,
                profiler=profiler,
                forecast=self._forecast,
                say=self._say,
                left_s=lambda: self._left_s() - order.budget_s * _CONFIRMING,
                everything=order.exhaustive,
            )
            self._survey.not_tried += subject.left_out
            self._survey.run()
            self._look_back()
            if self._survey.best() is None:
                self._notes.append(NOTHING_KEEPS)
                return
            with self._make_servers() as servers:
                measure = functools.partial(self._undisturbed, servers)
                self._confirmation = Confirmation(self._forecast, measure, order.bound_s)
                if order.exhaustive:
                    self._measure_all(servers)
                else:
                    self._confirm(servers)
        self._report = msgspec.structs.replace(self._report, complete=True)
        self._history.add(self.report(), self._speeds())

    def _look_back(self) -> None:
        """Engines that have become slower since the last search, said at once."""
        for sentence in slower(self._history.load(), self._speeds(), _date):
            self._say(sentence)
            self._notes.append(sentence)

    def _speeds(self) -> list[Speed]:
        found = []
        for one in self._subject.engines:
            for cores in sorted({shape.cores for shape in self._subject.plans}):
                times = self._forecast.times(one.arithmetic, cores)
                if times is not None:
                    found.append(speed(one.arithmetic, cores, times.busy_s))
        return found

    # --- under load ---

    def _undisturbed(
        self, servers: Servers, one: Configuration, rate: float, offsets_s: Sequence[float]
    ) -> Round:
        """What a server does under a schedule; once more where others took much of the CPUs."""
        found, share = self._watch.run(lambda: servers.measure(one, rate, offsets_s))
        return msgspec.structs.replace(found, other_load=share)

    def _confirm(self, servers: Servers) -> None:
        survey, confirmation = self._survey, self._confirmation
        assert survey
        assert confirmation
        self._calibrate(servers)
        self._start(servers, distinct(survey.ranked(), survey.predicted))
        least_s = self._order.budget_s * _LAST
        for number in range(_MOST_ROUNDS):
            hopeful = confirmation.hopeful()
            for position, trial in enumerate(hopeful):
                left_s = (self._left_s() - least_s) / (len(hopeful) - position)
                if left_s > 0:
                    self._turn(trial, self._round_s(trial, left_s), f"round {number + 1}")
            if not hopeful or self._left_s() <= least_s:
                break
        for number in range(_LAST_ROUNDS):
            if (last := confirmation.last()) is not None:
                # A step back each, and with less time than planned they are short, but made.
                part_s = min(least_s, self._left_s()) / (_LAST_ROUNDS - number)
                self._turn(last, max(_SHORTEST_S, part_s), "last round")

    def _turn(self, trial: Trial, seconds: float, what: str) -> None:
        assert self._confirmation
        self._say(f"{what}: {trial.one.name} at {trial.rate:.1f}/s for {seconds:.0f} s")
        self._confirmation.turn(trial, seconds)

    def _round_s(self, trial: Trial, part_s: float) -> float:
        """How long a round lasts: the first tells good from bad, the next make a promise of it."""
        missing = ENOUGH - trial.requests if trial.rounds else 0
        wanted_s = max(_FIRST_REQUESTS, missing + 1) / trial.rate
        return max(_SHORTEST_S, min(wanted_s, part_s, _LONGEST_S))

    def _calibrate(self, servers: Servers) -> None:
        """What serving adds, as servers of the shapes that may win show."""
        assert self._survey
        assert self._confirmation
        late_s = self._order.budget_s * _CONFIRMING / 2
        calibrator = Calibrator(
            self._survey, self._forecast, self._confirmation.calibrate, self._say
        )
        calibrator.run(servers.start, lambda: self._left_s() < late_s)

    def _start(self, servers: Servers, wanted: Sequence[Configuration]) -> None:
        """Starts servers for what is to be confirmed, as many as there is memory for."""
        survey, confirmation = self._survey, self._confirmation
        assert survey
        assert confirmation
        left = memory_left()
        room = len(wanted) if left is None else max(1, left // _SERVER_BYTES)
        for one in wanted[room:]:
            self._notes.append(f"memory was short: {one.name} was not put under load")
        self._say(f"starting servers: {'; '.join(one.name for one in wanted[:room])}")
        failed = servers.start(wanted[:room])
        self._notes += [f"{one.name} did not start: {why}" for one, why in failed.items()]
        for one in wanted[:room]:
            if one not in failed:
                confirmation.add(one, survey.predicted[one])

    def _measure_all(self, servers: Servers) -> None:
        """Every configuration, one after the other, in the order of what they should keep."""
        survey, confirmation = self._survey, self._confirmation
        assert survey
        assert confirmation
        self._calibrate(servers)
        for one in survey.ranked():
            self._start(servers, [one])
            trial = confirmation.trials[-1]
            if trial.one != one:
                continue
            for number in range(_EXHAUSTIVE_ROUNDS):
                self._turn(trial, self._round_s(trial, math.inf), f"round {number + 1}")
                if trial.settled:
                    break
            servers.end(one)

    # --- what is known ---

    def report(self) -> TuneReport:
        """All that is known by now."""
        if self._survey is None:
            return self._report
        notes = list(self._notes)
        if disturbed := self._watch.found.sentence():
            notes.append(disturbed)
        if self._load.share >= _BUSY:
            notes.append(
                f"others took {self._load.share:.0%} of the CPUs meanwhile: rates are too low"
            )
        known = msgspec.structs.replace(
            self._report,
            notes=notes,
            other_load=round(self._load.share, 4),
            disturbed=self._watch.found,
            took_s=round(self.seconds, 1),
        )
        trials = self._confirmation.trials if self._confirmation else []
        return Summary(self._order, self._forecast, self._survey, trials).fill(known)


def distinct(
    ranked: Sequence[Configuration], predicted: Mapping[Configuration, Prediction]
) -> list[Configuration]:
    """The best that may win and would behave in different ways, three at the most.

    What a forecast has wrong it has wrong of all workers of a shape: the best of each shape goes
    before the next ones of the same.

    Args:
        ranked: the best first.
        predicted: of each.
    """
    near = [one for one in ranked if predicted[one].rate >= predicted[ranked[0]].rate * _FAR]
    firsts = {(one.arithmetic, one.shape): one for one in reversed(near)}
    found: list[Configuration] = []
    for one in sorted(near, key=lambda one: one not in firsts.values()):
        if not any(_alike(one, other, predicted) for other in found):
            found.append(one)
        if len(found) == _BEST:
            break
    return found


def _alike(
    one: Configuration, other: Configuration, predicted: Mapping[Configuration, Prediction]
) -> bool:
    """Whether two would behave alike: the same workers, and memory or rules that change little."""
    if (one.arithmetic, one.shape) != (other.arithmetic, other.shape):
        return False
    mine, its = predicted[one], predicted[other]
    rates = math.isclose(mine.rate, its.rate, rel_tol=_ALIKE)
    return one.batching == other.batching or (
        rates and math.isclose(mine.p50_s, its.p50_s, rel_tol=_ALIKE)
    )


def _date(at_s: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(at_s))


def _sizes(space: Space) -> set[int]:
    sizes: set[int] = set()
    for batching in space.batchings:
        size = 1
        while size < batching.max_batch:
            sizes.add(size)
            size *= 2
        sizes.add(batching.max_batch)
    return sizes
