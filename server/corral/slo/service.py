"""What a worker takes for a batch, as measured: the simulator's service times. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

import msgspec

from corral.batching.contention import slowdown, taken_of

#: more samples of a size say no more
_MOST = 400
#: batches of a size that a server must have run before they count in place of a trial's
_ENOUGH = 20
#: times the median at the most: a pause of the machine is no part of what a batch takes
_PAUSE = 3.0
#: what is taken from workers is looked for up to so many times what was expected, in such steps
_MOST_EXPECTED = 3.0
_STEP = 0.05
#: how wrong the expectation is usually (a share), and how far equal rounds differ (a factor's log)
_DOUBT = 0.5
_NOISE = 0.02


class ServiceTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of a batch by its size, of one engine on so many cores."""

    #: while all workers compute
    busy_s: dict[int, list[float]]
    #: of a lone item, while the other workers rest
    alone_s: list[float]

    @property
    def interference(self) -> float:
        """How much longer an item takes while the others compute, 1.2 for 20 %.

        Of means: on a machine of two paces a median is that of one or of the other.
        """
        return mean_s(self.busy_s[1]) / mean_s(self.alone_s)

    @property
    def lone(self) -> float:
        """What an item takes while the others rest, as a share of that while they compute."""
        return min(1.0, 1 / self.interference)

    def median_s(self, size: int) -> float:
        """The median of a size, all busy."""
        return statistics.median(self.busy_s[size])

    def of(self, workers: int, sizes: Sequence[int]) -> dict[int, list[float]]:
        """Samples for some workers; one that is alone has nobody beside it."""
        factor = 1 / self.interference if workers == 1 else 1.0
        return {
            size: [spent_s * factor for spent_s in self.busy_s[size]]
            for size in sizes
            if size in self.busy_s
        }

    def most_per_s(self, workers: int, largest: int) -> float:
        """Items a second that so many workers cannot exceed."""
        sizes = [size for size in self.busy_s if size <= largest]
        return max(workers * size / self.median_s(size) for size in sizes)


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """One batch that a server ran."""

    size: int
    #: with its worker
    spent_s: float
    #: the share of the cell's other workers that computed when it was formed
    company: float = 1.0
    #: seconds from the first moment of its schedule; None where that is not known
    begun_s: float | None = None
    #: numbers of its worker and cell
    worker: int = 0
    cell: int = 0


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of a server under load, as far as it says something of others."""

    #: of the whole server, requests a second
    rate: float
    batches: list[Batch] = []
    #: what a request took beside waiting and its worker, on average
    overhead_s: float = 0.0
    #: CPU seconds of a request's frontend, supervisor and client
    beside_s: float = 0.0


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """What serving adds to a worker's times: frontend and clients take their part of the CPUs."""

    #: what a request takes beside waiting and its worker
    overhead_s: float = 0.0
    #: how much longer a batch is with its worker than the engine alone computes
    inflation: float = 1.0
    #: what each request takes from every worker besides, so that batches take longer as more come
    taken_s: float = 0.0
    #: CPU seconds of a request's frontend and client, and the rate at which they were seen
    beside_s: float = 0.0
    rate: float = 0.0

    def elsewhere(self, workers: int, spare_cores: int) -> Calibration:
        """The same for other workers: all of it is taken from them, until more is seen."""
        taken_s = taken_of(self.beside_s, self.rate, workers, spare_cores)
        return msgspec.structs.replace(self, taken_s=taken_s)


def company_share(lone: float, company: float) -> float:
    """Of its time while all compute, what a batch takes beside so many of the others."""
    return lone + (1.0 - lone) * company


def inflated(
    times_s: Mapping[int, Sequence[float]], calibration: Calibration
) -> dict[int, list[float]]:
    """Service times as a server would see them at the lowest rates, were all workers busy."""
    factor = calibration.inflation
    return {size: [spent_s * factor for spent_s in spent] for size, spent in times_s.items()}


def observed(
    trial_s: Mapping[int, Sequence[float]], lone: float, served: Served, taken_s: float = 0.0
) -> float | None:
    """How many times as long as in trials batches were; None where no size was a trial's.

    Args:
        trial_s: seconds of a batch by size while all workers compute.
        lone: of a batch's time, while the others rest.
        served: under load.
        taken_s: by each request from every worker; see SimulatedCell.
    """
    lone /= slowdown(served.rate, taken_s)
    middle_s = {size: mean_s(spent) for size, spent in trial_s.items()}
    seen: dict[int, list[float]] = {}
    for batch in served.batches:
        if batch.size in middle_s:
            spent_s = batch.spent_s / company_share(lone, batch.company)
            seen.setdefault(batch.size, []).append(spent_s)
    seen_s = math.fsum(len(spent) * mean_s(spent) for spent in seen.values())
    expected_s = math.fsum(len(spent) * middle_s[size] for size, spent in seen.items())
    return seen_s / expected_s if expected_s else None


def calibrate(
    rounds: Sequence[tuple[Mapping[int, Sequence[float]], float, Served]],
    workers: int,
    spare_cores: int = 0,
) -> Calibration:
    """What serving adds, by all that was seen of servers with such workers.

    Frontends and clients compute on the workers' cores, a share of them that grows with the rate:
    batches are ``inflation / (1 - rate * taken_s)`` times as long as in trials. What is taken is
    expected to be the CPU time that they were seen to use; rounds at different rates correct that.
    Means are compared, not medians: a slice of a CPU that is taken meets one batch, not all.

    Args:
        rounds: what batches take in trials, alone as a share of that, and what was seen; the
            latest is the last.
        workers: of the server.
        spare_cores: that no worker has.
    """
    rounds = [each for each in rounds if each[2].batches]
    if not rounds:
        return Calibration()
    expected_s = [
        taken_of(served.beside_s, served.rate, workers, spare_cores) for _, _, served in rounds
    ]
    best = math.inf, 1.0, 0.0
    for step in range(round(_MOST_EXPECTED / _STEP) + 1):
        share = step * _STEP
        logs = []
        for (trial_s, lone, served), each_s in zip(rounds, expected_s, strict=True):
            taken_s = share * each_s
            factor = observed(trial_s, lone, served, taken_s)
            if factor is not None:
                log = math.log(factor / slowdown(served.rate, taken_s))
                logs.append((log, len(served.batches)))
        if not logs:
            break
        middle = math.fsum(log * count for log, count in logs) / sum(count for _, count in logs)
        misfit = math.fsum(((log - middle) / _NOISE) ** 2 for log, _ in logs)
        misfit += ((share - 1) / _DOUBT) ** 2
        best = min(best, (misfit, math.exp(middle), share))
    _, inflation, share = best
    # A request costs less where more come: what is asked about are the highest rates.
    highest = max(range(len(rounds)), key=lambda number: rounds[number][2].rate)
    served = rounds[highest][2]
    return Calibration(
        overhead_s=max(0.0, rounds[-1][2].overhead_s),
        inflation=inflation,
        taken_s=share * expected_s[highest],
        beside_s=served.beside_s,
        rate=served.rate,
    )


def with_served(
    times_s: Mapping[int, Sequence[float]], served_s: Mapping[int, Sequence[float]]
) -> dict[int, list[float]]:
    """The same times, with those of a server where it has run enough batches of a size."""
    enough = {size: list(s)[-_MOST:] for size, s in served_s.items() if len(s) >= _ENOUGH}
    return {size: enough.get(size, list(spent_s)) for size, spent_s in times_s.items()}


def mean_s(spent_s: Sequence[float]) -> float:
    """The mean of what batches took, pauses of the machine cut off."""
    most_s = _PAUSE * statistics.median(spent_s)
    return statistics.fmean(min(each_s, most_s) for each_s in spent_s)
