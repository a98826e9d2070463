"""``corral tune --p99-ms``: surveys, predicts, confirms; keeps what is known when interrupted."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from corral.errors import ModelError
from corral.ipc.messages import ModelBoot
from corral.models.spec import ModelSpec
from corral.planning.machine import Machine
from corral.planning.plan import Plan
from corral.settings import Settings
from corral.slo.budget import Budget
from corral.slo.crew import Crew
from corral.slo.disturbance import Watch
from corral.slo.forecast import Forecast
from corral.slo.history import History, Speed, slower, speed
from corral.slo.lone import LoneItems
from corral.slo.order import TuneOrder
from corral.slo.profiler import Profiler
from corral.slo.report import TuneReport
from corral.slo.running import Servers
from corral.slo.space import Shape, Space
from corral.slo.summary import Summary
from corral.slo.survey import Engine, Survey
from corral.slo.under_load import CONFIRMING, UnderLoad
from corral.system.other_load import OtherLoad, watched

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
        self._budget = Budget(math.inf if order.exhaustive else order.budget_s)
        cells = {shape: len(plan.cells) for shape, plan in subject.plans.items()}
        cores = subject.machine.cpu_budget
        self._forecast = Forecast(subject.settings, order.bound_s, order.gaps, cells, cores)
        self._survey: Survey | None = None
        self._under_load: UnderLoad | None = None
        self._load = OtherLoad()
        self._watch = Watch.of(subject.machine.allowed_cpus, self._left_to_repeat_s, say)
        self._notes: list[str] = []
        self._final: TuneReport | None = None
        self._report = TuneReport(
            p99_ms=order.bound_ms,
            model=subject.settings.model.name,
            cpu=subject.machine.model_name,
            arrivals=order.arrivals,
            asked_rate=order.rate,
            space={**subject.space.describe(), "configurations": len(subject.space)},
        )

    def _left_to_survey_s(self) -> float:
        return self._budget.left_s - self._order.budget_s * CONFIRMING

    def _left_to_repeat_s(self) -> float:
        """For what others disturbed."""
        surveying = self._under_load is None
        return self._left_to_survey_s() if surveying else self._budget.left_s

    def run(self, environ: Mapping[str, str]) -> None:
        """Measures everything.

        Raises:
            ConfigError: no rate keeps the bound.
            CorralError: something cannot be had; what was measured before stays in the report.
        """
        self._budget.begin()
        subject, order = self._subject, self._order
        profiler = Profiler(
            settings=subject.settings,
            spec=subject.spec,
            environ=environ,
            bound_s=order.bound_s,
            sizes=sorted({1, *_sizes(subject.space)}),
            watch=self._watch,
            budget=self._budget,
        )
        with watched(subject.machine.allowed_cpus, self._load):
            self._check_bound(profiler)
            self._survey = Survey(
                space=subject.space,
                engines=[self._unprepared(one) for one in subject.engines],
                plans=subject.plans,
                profiler=profiler,
                forecast=self._forecast,
                say=self._say,
                left_s=self._left_to_survey_s,
                everything=order.exhaustive,
                budget=self._budget,
            )
            self._survey.not_tried += subject.left_out
            self._survey.run()
            self._look_back()
            if self._survey.predictions.best() is None:
                self._notes.append(NOTHING_KEEPS)
                return
            with self._make_servers() as servers:
                self._under_load = UnderLoad(
                    order=order,
                    survey=self._survey,
                    forecast=self._forecast,
                    servers=servers,
                    budget=self._budget,
                    watch=self._watch,
                    say=self._say,
                )
                self._under_load.run()
        self._report = msgspec.structs.replace(self._report, complete=True)
        self._final = self.report()
        self._history.add(self._final, self._speeds())

    def _check_bound(self, profiler: Profiler) -> None:
        """Before all else: if the widest workers of the fastest engine do not keep it, none do."""
        subject = self._subject
        one, (shape, plan) = self._unprepared(subject.engines[0]), next(iter(subject.plans.items()))
        crew = Crew(
            arithmetic=one.arithmetic,
            memory=subject.space.memories[one.arithmetic][0],
            model=one.model(),
            workers=plan.cells[0].workers,
        )
        with contextlib.suppress(ModelError):  # the survey tells it, and goes on with others
            lone = LoneItems(subject.settings, subject.machine, self._history, self._say)
            lone.check(profiler, one, shape, crew)

    def _unprepared(self, one: Engine) -> Engine:
        """The same, whose model is made ready without being counted."""

        def model() -> ModelBoot:
            with self._budget.uncounted():
                return one.model()

        return dataclasses.replace(one, model=model)

    def _look_back(self) -> None:
        """Engines that have become slower since the last search, said at once."""
        for sentence in slower(self._history.load(), self._speeds(), _date, self._watch.found.most):
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

    # --- what is known ---

    def note(self, text: str) -> None:
        """Adds what a reader should know."""
        self._notes.append(text)

    def report(self) -> TuneReport:
        """All that is known by now."""
        if self._final is not None:
            return self._final
        if self._survey is None:
            return self._report
        under_load = self._under_load
        notes = [*self._notes, *(under_load.notes if under_load else ())]
        if under_load and (spells := under_load.spells):
            notes.append(spells)
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
            took_s=round(self._budget.passed_s, 1),
        )
        trials = under_load.trials if under_load else []
        return Summary(self._order, self._forecast, self._survey, trials).fill(known)


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
