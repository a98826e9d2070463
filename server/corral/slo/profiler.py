"""Measures what workers take for batches: alone, and while all of them compute.

The workers are the server's own, on the CPUs that the plan would give them, started apart. Those
that are compared are up at the same time, and take turns.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import select
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from corral.backends.registry import engine
from corral.models.evaluation import guard_pictures
from corral.models.spec import ModelSpec
from corral.settings import Settings
from corral.slo.budget import Budget
from corral.slo.crew import Crew
from corral.slo.disturbance import Watch, unwatched
from corral.slo.service import ServiceTimes
from corral.tensors import Datatype
from corral.tuning import trial_worker
from corral.tuning.trial_worker import Trial, TrialOrder

#: of a turn: of a size, and of a lone item alone; at least so many batches, unless that takes much
#: longer
_SPAN_S = 0.08
_ALONE_S = 0.06
_LEAST = 2
_MOST_S = 0.25
_TURNS = 5
#: lone items that tell whether the bound can be kept at all
_LOOKS = 3
#: of a turn, where several kinds of memory take turns
_COMPARING_S = 0.1
_COMPARING_TURNS = 8
#: of each kind, in all
COMPARED_S = _COMPARING_S * _COMPARING_TURNS


def turns_s(sizes: Sequence[int]) -> float:
    """Seconds that a crew's turns take at the least, with so many sizes."""
    return _TURNS * (_ALONE_S + _SPAN_S * len(sizes))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Profiler:
    """Starts workers and measures them.

    Attributes:
        settings: of the server; a crew's go before them.
        spec: of the model.
        environ: this process's environment.
        bound_s: of the latency: larger batches than keep it need no figures.
        sizes: of batches, ascending from 1.
        watch: has what others disturb measured again.
        budget: told what starts and measurements took.
    """

    settings: Settings
    spec: ModelSpec
    environ: Mapping[str, str]
    bound_s: float
    sizes: Sequence[int]
    watch: Watch = dataclasses.field(default_factory=unwatched)
    budget: Budget = dataclasses.field(default_factory=lambda: Budget(math.inf))

    def measure(
        self, crews: Sequence[Crew], joins: Callable[[int, int], bool] = lambda *_: True
    ) -> list[ServiceTimes]:
        """A lone item while the other workers rest, and all sizes while all of a crew compute.

        All crews and sizes take turns: a machine changes its pace from second to second, and what
        is measured apart says more of that than of what is compared. Sizes end with the first that
        takes longer than the bound; there are none where a lone item does.

        Args:
            crews: to measure: the first, and as many of the others as may join it.
            joins: whether one more may; told how many there are without it, and the bytes that
                all that join would need.

        Returns:
            of the crews that were measured, in their order.

        Raises:
            ModelError: a worker failed.
        """
        with contextlib.ExitStack() as stack:
            groups = self._started(stack, crews[:1])
            first = groups[0].trials
            self.budget.pace.workers_started(max(trial.start_s for trial in first))
            worker_bytes = max(trial.report.memory_bytes for trial in first)
            joining: list[Crew] = []
            for crew in crews[1:]:
                workers = sum(len(one.workers) for one in (*joining, crew))
                if not joins(1 + len(joining), workers * worker_bytes):
                    break
                joining.append(crew)
            groups += self._started(stack, joining)
            with self.budget.timed(lambda s: self.budget.pace.workers_measured(s / len(groups))):
                return self._measured(groups)

    def _measured(self, groups: Sequence[_Group]) -> list[ServiceTimes]:
        keeping = []
        for group in groups:
            group.alone_s = [group.trials[0].run(self._datatype, 1) for _ in range(_LOOKS)]
            if min(group.alone_s) <= self.bound_s:
                group.alone_s = []
                keeping.append(group)
        for _ in range(_TURNS):
            turn, _ = self.watch.run(lambda: [self._turn(group) for group in keeping])
            for group, found in zip(keeping, turn, strict=True):
                group.learn(found)
        return [ServiceTimes(busy_s=each.busy_s, alone_s=each.alone_s) for each in groups]

    def _turn(self, group: _Group) -> ServiceTimes:
        """What one turn of a crew says."""
        alone_s = list(self._spent(group.trials[:1], 1, _ALONE_S))
        busy_s: dict[int, list[float]] = {}
        for size in group.busy_s or group.trials[0].sizes:
            busy_s[size] = list(self._spent(group.trials, size, _SPAN_S))
            if not group.busy_s and statistics.median(busy_s[size]) > self.bound_s:
                break
        self._let_rest(group)
        return ServiceTimes(busy_s=busy_s, alone_s=alone_s)

    def compare(self, crews: Sequence[Crew], size: int) -> list[float]:
        """How many times as long as the first crew's each crew's batches are, all workers busy.

        They take turns; it is the median of what each turn says.

        Raises:
            ModelError: a worker failed.
        """
        sizes = (size,) if size == 1 else (1, size)
        ratios: list[list[float]] = [[] for _ in crews]
        with contextlib.ExitStack() as stack:
            crews = [dataclasses.replace(crew, sizes=sizes) for crew in crews]
            groups = self._started(stack, crews)
            for _ in range(_COMPARING_TURNS):
                found_s = [self._compared_s(group, size) for group in groups]
                for of_crew, spent_s in zip(ratios, found_s, strict=True):
                    of_crew.append(spent_s / found_s[0])
        return [statistics.median(of_crew) for of_crew in ratios]

    def _compared_s(self, group: _Group, size: int) -> float:
        spent_s = statistics.median(self._spent(group.trials, size, _COMPARING_S))
        self._let_rest(group)
        return spent_s

    def look(self, crew: Crew) -> float:
        """Seconds of a lone item, the least of three, on one worker that takes nothing else.

        Raises:
            ModelError: the worker failed.
        """
        (order, *_) = self._orders(dataclasses.replace(crew, sizes=(1,)))
        with trial_worker.start(order, self.environ) as trial:
            self._fill([trial], 1)
            return min(trial.run(self._datatype, 1) for _ in range(_LOOKS))

    @property
    def _datatype(self) -> Datatype:
        return self.spec.native

    def _started(self, stack: contextlib.ExitStack, crews: Sequence[Crew]) -> list[_Group]:
        """Their workers, all started at the same time, with data to compute on."""
        flat = [order for crew in crews for order in self._orders(crew)]
        trials = stack.enter_context(trial_worker.start_all(flat, self.environ))
        if trials:
            self._fill(trials, max(order.sizes[-1] for order in flat))
        left = iter(trials)
        return [_Group(crew=crew, trials=[next(left) for _ in crew.workers]) for crew in crews]

    def _orders(self, crew: Crew) -> list[TrialOrder]:
        sizes = crew.sizes or self.sizes
        return crew.orders(self.settings, self.spec.signature, self._datatype, sizes)

    def _fill(self, trials: Sequence[Trial], most: int) -> None:
        """What engines compute on zeros takes another time than what they compute on data."""
        computes = engine(self.settings.engine.backend).computes
        if computes and self.spec.takes_pictures:
            inputs = guard_pictures(self.spec, most)
            for trial in trials:
                trial.fill(inputs[: max(trial.sizes)], self._datatype)

    def _let_rest(self, group: _Group) -> None:
        """Threads that still spin would take the CPUs of whoever is next."""
        if engine(group.crew.arithmetic.backend).obeys_openmp:
            time.sleep(group.crew.memory.openmp_spin_ms / 1000)

    def _spent(self, trials: Sequence[Trial], size: int, span_s: float) -> Iterator[float]:
        """Seconds of each batch while all these workers compute, one batch after another."""
        begun_s = time.monotonic()
        found = 0
        for trial in trials:
            trial.submit(self._datatype, size)
        computing = set(trials)
        while computing:
            ready, _, _ = select.select(list(computing), [], [], 1.0)
            for trial in ready:
                yield trial.collect()
                found += 1
                spent_s = time.monotonic() - begun_s
                if spent_s < span_s or (found < _LEAST and spent_s < _MOST_S):
                    trial.submit(self._datatype, size)
                else:
                    computing.discard(trial)


@dataclasses.dataclass(kw_only=True)
class _Group:
    """A crew's workers that are up, and what their turns have said so far."""

    crew: Crew
    trials: Sequence[Trial]
    busy_s: dict[int, list[float]] = dataclasses.field(default_factory=dict)
    alone_s: list[float] = dataclasses.field(default_factory=list)

    def learn(self, turn: ServiceTimes) -> None:
        """One more turn was made."""
        self.alone_s.extend(turn.alone_s)
        for size, spent_s in turn.busy_s.items():
            self.busy_s.setdefault(size, []).extend(spent_s)
