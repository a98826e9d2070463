"""A survey of engines on a machine that answers by a table."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

from corral.batching.prediction import poisson_gaps
from corral.errors import ModelError
from corral.ipc.messages import ModelBoot
from corral.planning.plan import Plan
from corral.settings import Allocator, BackendName, Mode, Precision, Settings
from corral.slo.budget import Budget
from corral.slo.crew import Crew
from corral.slo.forecast import Forecast
from corral.slo.profiler import Profiler
from corral.slo.service import ServiceTimes
from corral.slo.space import Arithmetic, Memory, Shape, Space, batchings
from corral.slo.survey import Engine, Survey

FAST = Arithmetic(backend=BackendName.OPENVINO, precision=Precision.INT8)
SLOW = Arithmetic(backend=BackendName.TORCH, precision=Precision.FP32)
SYSTEM, OTHER = (
    Memory(allocator=Allocator.SYSTEM, huge_pages=pages, openmp_spin_ms=1)
    for pages in (True, False)
)
MODEL = ModelBoot(name="m", artefact=None, precision="fp32", synthetic=True, weights="none")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table(Profiler):
    """Milliseconds of an item by engine, on two cores; a batch takes what its items take.

    Attributes:
        batch_ms: what each batch takes besides, on any cores.
    """

    item_ms: dict[Arithmetic, float]
    #: of the other memory
    factor: float = 1.0
    broken: tuple[Arithmetic, ...] = ()
    crews: list[Crew] = dataclasses.field(default_factory=list)
    batch_ms: float = 0.0

    def measure(
        self, crews: Sequence[Crew], joins: Callable[[int, int], bool] = lambda *_: True
    ) -> list[ServiceTimes]:
        found = [self._answer(crews[0])]
        for crew in crews[1:]:
            if not joins(len(found), 0):
                break
            found.append(self._answer(crew))
        return found

    def _answer(self, crew: Crew) -> ServiceTimes:
        self.crews.append(crew)
        if crew.arithmetic in self.broken:
            raise ModelError("its worker died")
        one_s = self.item_ms[crew.arithmetic] / 1000 * 2 / crew.workers[0].cores
        busy_s: dict[int, list[float]] = {}
        for size in crew.sizes or self.sizes:
            if one_s <= self.bound_s:
                busy_s[size] = [self.batch_ms / 1000 + size * one_s]
            if size * one_s > self.bound_s:
                break
        return ServiceTimes(busy_s=busy_s, alone_s=[self.batch_ms / 1000 + one_s])

    def compare(self, crews: Sequence[Crew], size: int) -> list[float]:
        return [self.factor if crew.memory == OTHER else 1.0 for crew in crews]


def survey(
    shapes: dict[Shape, Plan],
    item_ms: dict[Arithmetic, float],
    *,
    bound_s: float = 0.1,
    left_s: float = math.inf,
    factor: float = 1.0,
    broken: tuple[Arithmetic, ...] = (),
    crews: list[Crew] | None = None,
    budget: Budget | None = None,
    batch_ms: float = 0.0,
) -> tuple[Survey, Forecast]:
    settings = Settings()
    memories = {one: [SYSTEM, OTHER] if one is FAST else [SYSTEM] for one in item_ms}
    space = Space(
        arithmetics=list(item_ms),
        shapes=list(shapes),
        batchings=batchings(bound_s * 1000, modes=[Mode.THROUGHPUT], largest=[1, 4, 16]),
        memories=memories,
    )
    forecast = Forecast(settings, bound_s, poisson_gaps(800), dict.fromkeys(shapes, 1))
    profiler = Table(
        settings=settings, spec=None, environ={}, bound_s=bound_s, sizes=(1, 2, 4, 8, 16),  # type: ignore[arg-type]
        item_ms=item_ms, factor=factor, broken=broken,
        crews=[] if crews is None else crews, batch_ms=batch_ms,
    )  # fmt: skip
    made = Survey(
        space=space,
        engines=[
            Engine(arithmetic=one, model=lambda: MODEL, per_s=1000 / ms)
            for one, ms in item_ms.items()
        ],
        plans=shapes,
        profiler=profiler,
        forecast=forecast,
        say=lambda _: None,
        left_s=lambda: left_s,
        budget=budget,
    )
    return made, forecast
