"""Measures what workers take for batches: alone, and while all of them compute.

The workers are the server's own, on the CPUs that the plan would give them, started apart.
"""

from __future__ import annotations

import dataclasses
import math
import select
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence

from corral.backends.registry import engine
from corral.ipc.messages import ModelBoot
from corral.models.evaluation import guard_pictures
from corral.models.spec import ModelSpec
from corral.planning.plan import PlannedWorker
from corral.settings import Settings
from corral.slo.budget import Budget
from corral.slo.disturbance import Watch, unwatched
from corral.slo.service import ServiceTimes
from corral.slo.space import Arithmetic, Memory
from corral.tensors import Datatype
from corral.tuning import trial_worker
from corral.tuning.trial_worker import Trial, TrialOrder

#: of a size, and of a lone item alone; at least so many batches, unless that takes much longer
_SPAN_S = 0.5
_ALONE_S = 0.4
_LEAST = 12
_MOST_S = 2.0
#: lone items that tell whether the bound can be kept at all
_LOOKS = 3
#: of a turn, where several kinds of memory take turns
_TURN_S = 0.3
_TURNS = 4
#: of each kind, in all
COMPARED_S = _TURN_S * _TURNS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Crew:
    """Workers to measure.

    Attributes:
        arithmetic: what they compute with.
        memory: what theirs is like.
        model: as prepared for the arithmetic.
        workers: their CPUs.
        sizes: of batches, ascending from 1; the profiler's if None.
    """

    arithmetic: Arithmetic
    memory: Memory
    model: ModelBoot
    workers: Sequence[PlannedWorker]
    sizes: Sequence[int] | None = None


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

    def measure(self, crew: Crew) -> ServiceTimes:
        """A lone item while the other workers rest, then all sizes while all of them compute.

        Sizes end with the first that takes longer than the bound; there are none where a lone item
        does.

        Raises:
            ModelError: a worker failed.
        """
        with self.budget.timed(self.budget.pace.workers_measured):
            return self._measure(crew)

    def look(self, crew: Crew) -> float:
        """Seconds of a lone item, the least of three, on one worker that takes nothing else.

        Raises:
            ModelError: the worker failed.
        """
        (order, *_) = self._orders(crew, (1,))
        with trial_worker.start(order, self.environ) as trial:
            self._fill([trial], 1)
            return min(trial.run(self._datatype, 1) for _ in range(_LOOKS))

    def _measure(self, crew: Crew) -> ServiceTimes:
        busy_s: dict[int, list[float]] = {}
        sizes = crew.sizes or self.sizes
        with trial_worker.start_all(self._orders(crew, sizes), self.environ) as trials:
            self.budget.pace.workers_started(max(trial.start_s for trial in trials))
            self._fill(trials, max(sizes))
            alone_s = [trials[0].run(self._datatype, 1) for _ in range(_LOOKS)]
            if min(alone_s) > self.bound_s:
                return ServiceTimes(busy_s={}, alone_s=alone_s)
            alone_s = self._steadily(trials[:1], 1, _ALONE_S)
            for size in trials[0].sizes:
                busy_s[size] = self._steadily(trials, size, _SPAN_S)
                if statistics.median(busy_s[size]) > self.bound_s:
                    break
        return ServiceTimes(busy_s=busy_s, alone_s=alone_s)

    def compare(self, crews: Sequence[Crew], size: int) -> list[float]:
        """Median seconds of a batch of each crew, all of its workers busy, measured in turns.

        Raises:
            ModelError: a worker failed.
        """
        orders = [self._orders(crew, (size,) if size == 1 else (1, size)) for crew in crews]
        spent_s: list[list[float]] = [[] for _ in crews]
        flat = [order for crew in orders for order in crew]
        with trial_worker.start_all(flat, self.environ) as trials:
            self._fill(trials, size)
            ends = [sum(map(len, orders[: i + 1])) for i in range(len(orders))]
            groups = [trials[end - len(crew) : end] for end, crew in zip(ends, orders, strict=True)]
            for _ in range(_TURNS):
                for found_s, group in zip(spent_s, groups, strict=True):
                    found_s.extend(self._spent(group, size, _TURN_S, least=3))
        return [statistics.median(found_s) for found_s in spent_s]

    @property
    def _datatype(self) -> Datatype:
        return self.spec.native

    def _orders(self, crew: Crew, sizes: Sequence[int]) -> list[TrialOrder]:
        settings = self.settings.replace(
            backend=crew.arithmetic.backend,
            precision=crew.arithmetic.precision,
            torch_mode=crew.arithmetic.torch_mode,
            allocator=crew.memory.allocator,
            huge_pages=crew.memory.huge_pages,
            openmp_spin_ms=crew.memory.openmp_spin_ms,
        )
        return [
            TrialOrder(
                settings=settings,
                model=crew.model,
                signature=self.spec.signature,
                cpus=worker.cpus,
                memory_node=worker.memory_node,
                sizes=sizes,
                datatype=self._datatype,
                threads=worker.cores,
            )
            for worker in crew.workers
        ]

    def _fill(self, trials: Sequence[Trial], most: int) -> None:
        """What engines compute on zeros takes another time than what they compute on data."""
        computes = engine(self.settings.engine.backend).computes
        if computes and self.spec.takes_pictures:
            inputs = guard_pictures(self.spec, most)
            for trial in trials:
                trial.fill(inputs[: max(trial.sizes)], self._datatype)

    def _steadily(self, trials: Sequence[Trial], size: int, span_s: float) -> list[float]:
        found, _ = self.watch.run(lambda: list(self._spent(trials, size, span_s)))
        return found

    def _spent(
        self, trials: Sequence[Trial], size: int, span_s: float, least: int = _LEAST
    ) -> Iterator[float]:
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
                if spent_s < span_s or (found < least and spent_s < _MOST_S):
                    trial.submit(self._datatype, size)
                else:
                    computing.discard(trial)
