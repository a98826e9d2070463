"""What a worker takes for a batch, as measured: the simulator's service times. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import msgspec

#: more samples of a size say no more
_MOST = 400
#: batches of a size that a server must have run before they count in place of a trial's
_ENOUGH = 20


class ServiceTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of a batch by its size, of one engine on so many cores."""

    #: while all workers compute
    busy_s: dict[int, list[float]]
    #: of a lone item, while the other workers rest
    alone_s: list[float]

    @property
    def interference(self) -> float:
        """How much longer an item takes while the others compute, 1.2 for 20 %."""
        return statistics.median(self.busy_s[1]) / statistics.median(self.alone_s)

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


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """What serving adds to a worker's times: frontend and clients take their part of the CPUs."""

    #: what a request takes beside waiting and its worker
    overhead_s: float = 0.0
    #: how much longer a batch is with its worker than the engine alone computes
    inflation: float = 1.0


def inflated(
    times_s: Mapping[int, Sequence[float]], calibration: Calibration
) -> dict[int, list[float]]:
    """Service times as a server would see them."""
    factor = calibration.inflation
    return {size: [spent_s * factor for spent_s in spent] for size, spent in times_s.items()}


def calibrate(
    trial_s: Mapping[int, Sequence[float]],
    served_s: Mapping[int, Sequence[float]],
    overhead_s: float,
) -> Calibration:
    """What serving added, by the batches of all sizes that were seen.

    Args:
        trial_s: seconds of a batch by size, from trials.
        served_s: the same from a server under load; sizes that were no trial's are left out.
        overhead_s: see Calibration.
    """
    expected_s = seen_s = 0.0
    for size, spent_s in served_s.items():
        if size in trial_s:
            # Of the middle: a pause of the machine is no part of what a batch takes.
            seen_s += len(spent_s) * statistics.median(spent_s)
            expected_s += len(spent_s) * statistics.median(trial_s[size])
    factor = seen_s / expected_s if expected_s else 1.0
    return Calibration(overhead_s=max(0.0, overhead_s), inflation=factor)


def with_served(
    times_s: Mapping[int, Sequence[float]], served_s: Mapping[int, Sequence[float]]
) -> dict[int, list[float]]:
    """The same times, with those of a server where it has run enough batches of a size."""
    enough = {size: list(s)[-_MOST:] for size, s in served_s.items() if len(s) >= _ENOUGH}
    return {size: enough.get(size, list(spent_s)) for size, spent_s in times_s.items()}
