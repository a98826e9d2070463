"""Measures what there is to choose from, the most promising first, and leaves out what cannot win.

Bounds leave out what needs no measurement: an engine whose measured speed is below the best rate
that is predicted already, batches that take longer than the bound, memory that changes nothing.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Collection, Mapping, Sequence

from corral.errors import ConfigError, ModelError
from corral.ipc.messages import ModelBoot
from corral.planning.explain import count
from corral.planning.plan import Plan
from corral.slo.budget import Budget
from corral.slo.crew import Crew
from corral.slo.forecast import Forecast
from corral.slo.predictions import Predictions
from corral.slo.profiler import COMPARED_S, Profiler, turns_s
from corral.slo.reasons import too_slow
from corral.slo.service import ServiceTimes
from corral.slo.space import Arithmetic, Configuration, Shape, Space
from corral.system.limits import memory_left

#: what narrower workers and batches may add to an engine's measured speed at the most
_HOPE = 1.3
#: a kind of memory that changes less than this share changes nothing
_SAME = 0.02
#: workers whose memories are compared; more would take long to start
_MOST_COMPARED = 4
#: why something was not tried
TIME_WAS_OVER = "the time was over"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Engine:
    """An arithmetic that passed the guard.

    Attributes:
        arithmetic: what it is.
        model: makes the artefact, or finds it.
        per_s: items a second of one default worker, as a search has measured; None: unknown.
    """

    arithmetic: Arithmetic
    model: Callable[[], ModelBoot]
    per_s: float | None = None


class Survey:
    """What is measured of workers, and what follows for every configuration.

    Args:
        space: what there is to choose from.
        engines: the arithmetics, the fastest first.
        plans: by shape, the widest workers first.
        profiler: measures.
        forecast: learns it.
        say: told what begins, a phrase.
        left_s: seconds that are left for measuring.
        everything: measure what cannot win, too.
        budget: of the whole search; what is measured here leaves time to put a server under load.
    """

    def __init__(
        self,
        *,
        space: Space,
        engines: Sequence[Engine],
        plans: Mapping[Shape, Plan],
        profiler: Profiler,
        forecast: Forecast,
        say: Callable[[str], None],
        left_s: Callable[[], float],
        everything: bool = False,
        budget: Budget | None = None,
    ) -> None:
        self._space = space
        self._engines = engines
        self._plans = plans
        self._profiler = profiler
        self._forecast = forecast
        self._say = say
        self._left_s = left_s
        self._everything = everything
        self._budget = budget or Budget(math.inf)
        #: what follows for every configuration
        self.predictions = Predictions(space, forecast, say, self._budget)
        #: what was left out and why, one sentence each
        self.not_tried: list[str] = []
        #: kinds of workers that were measured
        self.profiled: list[str] = []

    def run(self) -> None:
        """Measures and predicts.

        Raises:
            ConfigError: a lone request takes longer than the bound.
            ModelError: no engine could be measured.
        """
        error: ModelError | None = None
        for number, engine in enumerate(self._engines):
            why = self._why_not(engine) if number and not self._everything else ""
            if why:
                self.not_tried.append(f"{engine.arithmetic.name}: {why}")
                continue
            try:
                self._measure(engine, first=number == 0)
            except ModelError as failure:
                error = error or failure
                self.not_tried.append(f"{engine.arithmetic.name}: {failure}")
                continue
            self.predictions.predict(engine.arithmetic)
        if not self.profiled and error is not None:
            raise error
        best = self.predictions.best()
        if best is not None:
            self._compare_memories(best)

    def _why_not(self, engine: Engine) -> str:
        """Why an engine cannot win, or is not measured; empty where it is."""
        best = max((found.rate for found in self.predictions.known.values()), default=0.0)
        if engine.per_s is not None:
            widest = next(iter(self._plans))
            cores = max(shape.workers * shape.cores for shape in self._plans)
            most = engine.per_s * cores / widest.cores * _HOPE
            if most <= best:
                return (
                    f"a worker makes {engine.per_s:.1f}/s, so that all of them make at most "
                    f"{most:.1f}/s, and the best is predicted to keep {best:.1f}/s"
                )
        takes_s = self._budget.pace.workers_s()
        has_time = self._left_s() > 0 and self._budget.fits(takes_s, self._serving_s())
        return "" if has_time else TIME_WAS_OVER

    def _measure(self, engine: Engine, *, first: bool) -> None:
        model = engine.model()
        memory, sizes = self._space.memories[engine.arithmetic][0], self._sizes(engine)
        wanted: dict[str, Crew] = {}
        for cores in in_order({shape.cores for shape in self._plans}):
            # Of the same width, the plan with the most workers is the first.
            shape, plan = next(pair for pair in self._plans.items() if pair[0].cores == cores)
            wanted[f"{engine.arithmetic.name}, {shape.name}"] = Crew(
                arithmetic=engine.arithmetic,
                memory=memory,
                model=model,
                workers=plan.cells[0].workers,
                sizes=sizes,
            )
        done = 0
        while (left := list(wanted)[done:]) and (not done or self._has_time_for(done, sizes)):
            self._say(f"measuring {'; '.join(left)}")
            crews = [wanted[name] for name in left]
            found = self._profiler.measure(crews, functools.partial(self._joins, done, sizes))
            for name, crew, times in zip(left, crews, found, strict=False):
                self._learn(name, crew, times, fatal=first and not self.profiled)
            done += len(found)
        self.not_tried += [f"{name}: {TIME_WAS_OVER}" for name in left]
        self._forecast.learn_memory(engine.arithmetic, memory, 1.0)

    def _learn(self, name: str, crew: Crew, times: ServiceTimes, *, fatal: bool) -> None:
        if not times.busy_s:
            self._too_slow(name, times, fatal=fatal)
            return
        self.profiled.append(name)
        self._forecast.learn_times(crew.arithmetic, crew.workers[0].cores, times)

    def _joins(self, done: int, sizes: Sequence[int], count: int, wanted_bytes: int) -> bool:
        """Whether one more width is measured beside others; else it comes after them."""
        left = memory_left()
        has_room = left is None or wanted_bytes <= left
        return has_room and self._has_time_for(done + count, sizes, beside=count)

    def _has_time_for(self, number: int, sizes: Sequence[int], beside: int = 0) -> bool:
        """For the workers of one more width: the widest always, the narrowest if any."""
        budget = self._budget
        kept_s = self._serving_s() if number > 1 else 0.0
        one_s = max(budget.pace.turns_s, turns_s(sizes))
        return budget.fits(budget.pace.comparing_s(beside + 1, one_s), kept_s)

    def _serving_s(self) -> float:
        """What is kept: to calibrate a server, and to confirm one."""
        return self._budget.pace.calibrating_s() + self._budget.pace.confirming_s()

    def _sizes(self, engine: Engine) -> list[int]:
        """Batches that may keep the bound: others would be compiled and warmed up for nothing."""
        sizes, bound_s = self._profiler.sizes, self._profiler.bound_s
        if engine.per_s is None or self._everything:
            return list(sizes)
        most_per_s = engine.per_s * _HOPE
        return [size for size in sizes if size == 1 or size / most_per_s <= bound_s]

    def _too_slow(self, name: str, times: ServiceTimes, *, fatal: bool) -> None:
        least_s = min(times.alone_s)
        if fatal:
            raise ConfigError(too_slow(self._profiler.bound_s, least_s, name))
        self.not_tried.append(f"{name}: one inference takes {least_s * 1000:.1f} ms")

    def too_large(self) -> list[str]:
        """Batches that take longer than the bound, in words."""
        found = []
        for engine in self._engines:
            for cores in sorted({shape.cores for shape in self._plans}):
                times = self._forecast.times(engine.arithmetic, cores)
                largest = max(b.max_batch for b in self._space.batchings)
                if times is None or max(times.busy_s) >= largest:
                    continue
                size = max(times.busy_s)
                found.append(
                    f"batches above {size}: one of {size} takes {times.median_s(size) * 1000:.0f} "
                    f"ms ({engine.arithmetic.name} on {count(cores, 'core')})"
                )
        return found

    def _compare_memories(self, best: Configuration) -> None:
        """Whether another allocator, other pages or spinning are faster with the best engine."""
        usual, *others = self._space.memories[best.arithmetic]
        left_out = [a.name for a in self._space.arithmetics if a != best.arithmetic]
        if not others:
            return
        if left_out and len(self._space.memories) > 1:
            self.not_tried.append(f"other memory than {usual.name} for {', '.join(left_out)}")
        takes_s = self._budget.pace.comparing_s(len(others) + 1, COMPARED_S)
        if self._left_s() <= 0 or not self._budget.fits(takes_s, self._serving_s()):
            self.not_tried.append(f"other memory than {usual.name}: {TIME_WAS_OVER}")
            return
        self._say(f"comparing {len(others) + 1} kinds of memory")
        engine = next(e for e in self._engines if e.arithmetic == best.arithmetic)
        model, plan = engine.model(), self._plans[best.shape]
        crews = [
            Crew(
                arithmetic=best.arithmetic,
                memory=memory,
                model=model,
                workers=plan.cells[0].workers[:_MOST_COMPARED],
            )
            for memory in (usual, *others)
        ]
        try:
            _, *factors = self._profiler.compare(crews, 1)
        except ModelError as error:
            self.not_tried.append(f"other memory than {usual.name}: {error}")
            return
        for memory, factor in zip(others, factors, strict=True):
            counts = abs(factor - 1) >= _SAME
            self._forecast.learn_memory(best.arithmetic, memory, factor if counts else 1.0)
        self.predictions.predict(best.arithmetic)


def in_order(widths: Collection[int]) -> list[int]:
    """Cores a worker as they are measured: the widest, the narrowest, then the rest downwards.

    If the widest do not keep the bound, none do; the narrowest make the most where they keep it.
    """
    downwards = sorted(widths, reverse=True)
    return downwards[:1] + downwards[1:][-1:] + downwards[1:-1]
