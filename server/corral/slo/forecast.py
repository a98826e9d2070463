"""What every configuration would do, predicted from what workers were measured to take. Pure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

from msgspec import structs

from corral.batching.contention import slowdown, taken_of
from corral.batching.cost_curve import candidate_sizes
from corral.batching.policy import Policy, queue_policy
from corral.batching.prediction import NEAR, Prediction, at_rate, highest_rate, predict
from corral.batching.simulation import SimulatedCell, simulate, steady
from corral.settings import Settings
from corral.slo.interval import Ratio
from corral.slo.seen import Seen
from corral.slo.service import (
    Batch,
    Calibration,
    Served,
    ServiceTimes,
    calibrate,
    company_share,
    inflated,
    mean_s,
    with_served,
)
from corral.slo.space import Arithmetic, Configuration, Memory, Shape
from corral.slo.spells import Spent
from corral.slo.trace import Trace

#: a percentile that was longer than so many simulated ones was one of another kind: of a pause
_LONGEST_TAIL = 4.0
#: requests of a rough prediction, and how near it is to the highest rate
_FEW = 2000
_ROUGHLY = 0.02


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Tail:
    """What a 99th percentile was of a simulated one, at a rate."""

    rate: float = 0.0
    sure: float = 1.0


def _means(times_s: Mapping[int, Sequence[float]]) -> dict[int, float]:
    return {size: mean_s(spent_s) for size, spent_s in times_s.items()}


def _tail(ratio: float) -> float:
    return min(_LONGEST_TAIL, max(1.0, ratio))


class Forecast:
    """Predictions for configurations; it learns from trials, and from servers under load.

    Args:
        settings: of the server; a configuration's go before them.
        bound_s: of the latency.
        gaps: between arrivals, of any mean.
        cells: that share the arrivals, by shape.
        cores: that workers, frontends and clients share.
    """

    def __init__(
        self,
        settings: Settings,
        bound_s: float,
        gaps: Sequence[float],
        cells: Mapping[Shape, int],
        cores: int = 0,
    ) -> None:
        self._settings = settings
        self._bound_s = bound_s
        self._gaps = gaps
        self._cells = cells
        self._cores = cores
        self._times: dict[tuple[Arithmetic, int], ServiceTimes] = {}
        self._factors: dict[tuple[Arithmetic, Memory], float] = {}
        self._calibrations: dict[Shape, Calibration] = {}
        #: servers under load
        self.seen = Seen()
        self._tails: dict[Shape, _Tail] = {}

    # --- what is known ---

    def learn_times(self, arithmetic: Arithmetic, cores: int, times: ServiceTimes) -> None:
        """Workers of so many cores were measured."""
        self._times[arithmetic, cores] = times

    def learn_memory(self, arithmetic: Arithmetic, memory: Memory, factor: float) -> None:
        """Batches take ``factor`` times as long with this memory as with the one asked for."""
        self._factors[arithmetic, memory] = factor

    def learn_served(self, one: Configuration, served: Served) -> None:
        """What was seen of a server with this configuration, under load."""
        self.seen.add(one, served, self._spent)
        shape = one.shape
        rounds = [
            (trial_s, self._lone(other), structs.replace(each, batches=self.seen.quiet(each)))
            for other, each in self.seen.of_shape(shape)
            if (trial_s := self.trial_s(other)) is not None
        ]
        self._calibrations[shape] = calibrate(rounds, shape.workers, self._spare(shape))

    def learn_tail(self, shape: Shape, rate: float, seen: Ratio) -> None:
        """What a server's 99th percentile was of a simulated one; the highest rate's counts.

        The rest of the machine makes some batches wait for the CPU, which no mean knows of.
        """
        if rate >= self._tails.get(shape, _Tail()).rate:
            self._tails[shape] = _Tail(rate=rate, sure=_tail(seen.low))

    def tail(self, shape: Shape) -> float:
        """What a 99th percentile of such workers is of a simulated one; 1 until any is known.

        As far as that is sure: one and the same server's percentiles of some seconds each differ by
        a third, and a forecast that takes what one of them was for the next is wrong by both. Until
        servers of a shape were seen it is that of the shape that was seen first: what makes batches
        wait for their CPU is the machine.
        """
        first = next(iter(self._tails.values()), _Tail())
        return self._tails.get(shape, first).sure

    def times(self, arithmetic: Arithmetic, cores: int) -> ServiceTimes | None:
        """What was measured, or None."""
        return self._times.get((arithmetic, cores))

    def factor(self, one: Configuration) -> float | None:
        """How much longer batches take with its memory; None where nobody has measured it."""
        return self._factors.get((one.arithmetic, one.memory))

    def calibration(self, shape: Shape) -> Calibration:
        """Of this shape, else of the one that was seen first."""
        if shape in self._calibrations:
            return self._calibrations[shape]
        first = next(iter(self._calibrations.values()), Calibration())
        return first.elsewhere(shape.workers, self._spare(shape))

    def is_calibrated(self, shape: Shape) -> bool:
        """Whether a server of this shape was seen under load."""
        return shape in self._calibrations

    def _spare(self, shape: Shape) -> int:
        """Cores that no worker has."""
        return max(0, self._cores - shape.workers * shape.cores)

    def trial_s(self, one: Configuration) -> dict[int, list[float]] | None:
        """Seconds of a batch by size, from trials; None where they do not reach so far."""
        times, factor = self.times(one.arithmetic, one.shape.cores), self.factor(one)
        sizes = candidate_sizes(one.batching.max_batch)
        if times is None or factor is None or not set(sizes) <= times.busy_s.keys():
            return None
        found = times.of(one.shape.workers, sizes)
        return {size: [spent_s * factor for spent_s in spent] for size, spent in found.items()}

    # --- what follows ---

    def cell(self, one: Configuration) -> SimulatedCell | None:
        """A cell of a server with this configuration; None where nothing is known of it."""
        trial_s = self.trial_s(one)
        if trial_s is None:
            return None
        calibration, cells = self.calibration(one.shape), self._cells[one.shape]
        times_s = with_served(inflated(trial_s, calibration), self._served_s(one))
        workers = math.ceil(one.shape.workers / cells)
        return SimulatedCell(
            policy=self.policy(one, workers),
            workers=workers,
            services_s=times_s,
            lone=self._lone(one),
            taken_s=calibration.taken_s * cells,
        )

    def _lone(self, one: Configuration) -> float:
        """What a batch takes while the other workers rest, as a share; 1 of a worker that is alone.

        What ``trial_s`` says of a worker that is alone is without others already.
        """
        times = self.times(one.arithmetic, one.shape.cores)
        return 1.0 if times is None or one.shape.workers == 1 else times.lone

    def _spent(self, one: Configuration, served: Served) -> list[Spent]:
        """Batches beside what trials and the CPU time of frontends let expect."""
        shape = one.shape
        taken_s = taken_of(served.beside_s, served.rate, shape.workers, self._spare(shape))
        expected = self._expected(one, served, Calibration(taken_s=taken_s))
        return [
            (batch.begun_s, batch.spent_s, usual_s)
            for batch in served.batches
            if batch.begun_s is not None and (usual_s := expected(batch)) is not None
        ]

    def expected(self, one: Configuration, served: Served) -> Callable[[Batch], float | None]:
        """What each batch of a server was expected to take, by trials; None for other sizes."""
        return self._expected(one, served, self.calibration(one.shape))

    def _expected(
        self, one: Configuration, served: Served, calibration: Calibration
    ) -> Callable[[Batch], float | None]:
        trial_s = self.trial_s(one) or {}
        means_s = _means(inflated(trial_s, calibration))
        factor = slowdown(served.rate, calibration.taken_s)
        lone = self._lone(one) / factor

        def of(batch: Batch) -> float | None:
            each_s = means_s.get(batch.size)
            return each_s and each_s * factor * company_share(lone, batch.company)

        return of

    def replayed_s(
        self,
        one: Configuration,
        rate: float,
        offsets_s: Sequence[float],
        overhead_s: float,
        traces: Sequence[Trace],
        *,
        slower: float = 1.0,
    ) -> list[float]:
        """What each request of a schedule sees, were workers as fast as then, or so much slower."""
        cell = self.cell(one)
        assert cell is not None, "what is measured was predicted"
        trial_s = _means(inflated(self.trial_s(one) or {}, self.calibration(one.shape)))
        services_s = {size: [each_s * slower] for size, each_s in trial_s.items()}
        cell = dataclasses.replace(cell, services_s=services_s)
        return self._sojourns_s(self._at(one, cell, rate), offsets_s, overhead_s, traces)

    def _served_s(self, one: Configuration) -> dict[int, list[float]]:
        """What batches took in a server with this configuration, as at the lowest rates."""
        calibration, lone = self.calibration(one.shape), self._lone(one)
        found: dict[int, list[float]] = {}
        for served in self.seen.of(one):
            factor = slowdown(served.rate, calibration.taken_s)
            for batch in self.seen.quiet(served):
                share = company_share(lone / factor, batch.company)
                found.setdefault(batch.size, []).append(batch.spent_s / factor / share)
        return found

    def policy(self, one: Configuration, workers: int) -> Policy:
        """The queue of one of its cells."""
        settings = self._settings.replace(**one.flat())
        return queue_policy(settings, workers, one.batching.max_batch)

    def most_per_s(self, one: Configuration) -> float | None:
        """The rate that it cannot exceed, whatever the latency."""
        cell = self.cell(one)
        return None if cell is None else cell.most_per_s * self._cells[one.shape]

    def highest(
        self,
        one: Configuration,
        factor: float | None = None,
        *,
        roughly: bool = False,
        slower: float = 1.0,
        guess: float | None = None,
    ) -> Prediction | None:
        """The highest rate at which it keeps the bound.

        Args:
            one: the configuration.
            factor: what a measured percentile is of a simulated one; the tail of its shape if None.
            roughly: on a short schedule, to tell the good from the bad.
            slower: how many times as long as it is known batches might be.
            guess: a rate that may be near.
        """
        cell = self.cell(one)
        if cell is None:
            return None
        if slower != 1.0:
            cell = cell.slower(slower)
        overhead_s = self.calibration(one.shape).overhead_s
        tail = self.tail(one.shape) if factor is None else factor
        found = highest_rate(
            cell,
            self._gaps[:_FEW] if roughly else self._gaps,
            self._bound_s / tail,
            overhead_s,
            near=_ROUGHLY if roughly else NEAR,
            guess=guess and guess / self._cells[one.shape],
        )
        return self._whole(one, found, tail if factor is None else 1.0)

    def at(self, one: Configuration, rate: float) -> Prediction | None:
        """What it does at a rate of the whole server."""
        cell = self.cell(one)
        if cell is None:
            return None
        overhead_s = self.calibration(one.shape).overhead_s
        found = predict(cell, self._gaps, rate / self._cells[one.shape], overhead_s)
        return self._whole(one, found)

    def _whole(
        self, one: Configuration, found: Prediction | None, tail: float = 1.0
    ) -> Prediction | None:
        """A cell's prediction for all cells together, with its 99th percentile so many times."""
        if found is None:
            return None
        rate = found.rate * self._cells[one.shape]
        p99_s = found.p99_s * tail
        return Prediction(rate=rate, p50_s=found.p50_s, p99_s=p99_s, refused=found.refused)

    def sojourns_s(
        self, one: Configuration, rate: float, offsets_s: Sequence[float]
    ) -> list[float]:
        """What each request of a schedule sees; a server of several cells gets every n-th each."""
        cell = self.cell(one)
        assert cell is not None, "what is measured was predicted"
        overhead_s = self.calibration(one.shape).overhead_s
        return self._sojourns_s(self._at(one, cell, rate), offsets_s, overhead_s)

    def _at(self, one: Configuration, cell: SimulatedCell, rate: float) -> list[SimulatedCell]:
        """All its cells at a rate of the whole server."""
        cells = self._cells[one.shape]
        return [cell.at(rate / cells)] * cells

    def _sojourns_s(
        self,
        cells: Sequence[SimulatedCell],
        offsets_s: Sequence[float],
        overhead_s: float,
        traces: Sequence[Trace] = (),
    ) -> list[float]:
        found = [0.0] * len(offsets_s)
        for first, cell in enumerate(cells):
            ends = traces[first % len(traces)].ends if traces else steady
            spent_s = simulate(cell, offsets_s[first :: len(cells)], ends=ends).sojourns_s
            found[first :: len(cells)] = [each + overhead_s for each in spent_s]
        return found

    def schedule(self, rate: float, seconds: float, seed: int) -> list[float]:
        """Offsets at which a measurement sends, at a rate of the whole server."""
        count = max(2, round(rate * seconds))
        start = (seed * 7919) % len(self._gaps)
        gaps = [self._gaps[(start + i) % len(self._gaps)] for i in range(count)]
        # At the rate on average, however its chance has fallen: that is what is asked about.
        return at_rate(gaps, rate)
