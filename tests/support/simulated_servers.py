"""Servers that are simulated, for searches to measure."""

from __future__ import annotations

import random
from collections.abc import Sequence

from corral.batching.policy import Policy
from corral.batching.prediction import highest_rate, poisson_gaps
from corral.batching.simulation import SimulatedCell, simulate
from corral.settings import Allocator, BackendName, Mode, Precision, Settings
from corral.slo.forecast import Forecast
from corral.slo.running import Round
from corral.slo.service import Batch, Served, ServiceTimes
from corral.slo.space import Arithmetic, Batching, Configuration, Memory, Shape

NULL = Arithmetic(backend=BackendName.NULL, precision=Precision.FP32)
MEMORY = Memory(allocator=Allocator.SYSTEM, huge_pages=True, openmp_spin_ms=1)
WIDE, NARROW = Shape(workers=1, cores=2), Shape(workers=2, cores=1)
#: milliseconds of a batch: half of it is a batch's own
TIMES = {1: 10.0, 2: 15.0, 4: 25.0}
#: of its time beside another, what a batch takes alone
LONE = 0.9
BOUND_S = 0.1


def configuration(shape: Shape = NARROW, largest: int = 1) -> Configuration:
    batching = Batching(max_batch=largest, mode=Mode.THROUGHPUT)
    return Configuration(arithmetic=NULL, shape=shape, batching=batching, memory=MEMORY)


def noisy(ms: float, seed: int = 0) -> list[float]:
    draw = random.Random(seed)
    return [ms / 1000 * draw.uniform(0.9, 1.1) for _ in range(60)]


def forecast(settings: Settings | None = None, arrivals: int = 1500) -> Forecast:
    made = Forecast(settings or Settings(), BOUND_S, poisson_gaps(arrivals), {WIDE: 1, NARROW: 1})
    for cores in (1, 2):
        busy_s = {size: noisy(ms / cores) for size, ms in TIMES.items()}
        made.learn_times(
            NULL, cores, ServiceTimes(busy_s=busy_s, alone_s=noisy(10.0 * LONE / cores))
        )
    made.learn_memory(NULL, MEMORY, 1.0)
    return made


class Machine:
    """Servers whose batches take ``slower`` times as long as the trials' did."""

    def __init__(self, slower: float, overhead_s: float = 0.001) -> None:
        self.slower, self.overhead_s = slower, overhead_s
        self.seed = 0
        self.rates: list[float] = []

    def cell(self, one: Configuration) -> SimulatedCell:
        factor = self.slower / one.shape.cores
        sizes = [size for size in TIMES if size <= one.batching.max_batch]
        return SimulatedCell(
            policy=Policy(max_queue=128, max_bytes=10**9),
            workers=one.shape.workers,
            services_s={size: noisy(TIMES[size] * factor, 7) for size in sizes},
            lone=LONE,
        )

    def measure(self, one: Configuration, rate: float, offsets_s: Sequence[float]) -> Round:
        self.seed += 1
        self.rates.append(rate)
        cell = self.cell(one)
        batches: list[Batch] = []
        until_s = dict.fromkeys(range(cell.workers), 0.0)

        def ends(worker: int, begins_s: float, spent_s: float) -> float:
            end_s = self.end_s(begins_s, spent_s)
            # Their times are apart, however they are drawn.
            size = min(cell.sizes, key=lambda size: abs(cell.mean_s(size) - spent_s))
            others = [until for other, until in until_s.items() if other != worker]
            busy = sum(until > begins_s for until in others)
            until_s[worker] = end_s
            batches.append(
                Batch(
                    size=size, spent_s=end_s - begins_s, begun_s=begins_s, worker=worker,
                    company=busy / len(others) if others else 1.0,
                )
            )  # fmt: skip
            return end_s

        found = simulate(cell, offsets_s, self.seed, ends)
        return Round(
            rate=rate,
            offsets_s=list(offsets_s),
            latencies_s=[spent + self.overhead_s for spent in found.sojourns_s],
            served=Served(rate=rate, batches=batches, overhead_s=self.overhead_s),
        )

    def end_s(self, begins_s: float, spent_s: float) -> float:
        """When a batch ends that begins then."""
        return begins_s + spent_s

    def truth(self, one: Configuration) -> float:
        best = highest_rate(self.cell(one), poisson_gaps(12_000, 99), BOUND_S, self.overhead_s)
        assert best is not None
        return best.rate
