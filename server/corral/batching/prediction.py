"""What a cell does at a rate, and the highest rate at which it keeps a latency bound. Pure."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Sequence

from corral.batching.bisection import highest_that_holds
from corral.batching.simulation import SimulatedCell, simulate

#: of the schedule's begin, which an empty start spoils
_DISCARD = 0.05
#: how near two rates of the search are in the end
NEAR = 0.005
#: more requests than this share refused, and a rate is not kept
_REFUSED = 0.001


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
    """What requests see at a rate.

    Attributes:
        rate: requests a second.
        p50_s, p99_s: end to end; infinite where that many are refused.
        refused: share of the requests, 0 to 1.
    """

    rate: float
    p50_s: float
    p99_s: float
    refused: float

    def keeps(self, bound_s: float) -> bool:
        """Whether the 99th percentile is within the bound, and nobody is turned away."""
        return self.p99_s <= bound_s and self.refused <= _REFUSED


def poisson_gaps(count: int, seed: int = 0) -> list[float]:
    """Gaps of Poisson arrivals at one a second on average."""
    draw = random.Random(seed).expovariate  # noqa: S311 - chance, and no secret
    return [draw(1.0) for _ in range(count)]


def at_rate(gaps: Sequence[float], rate: float) -> list[float]:
    """Arrivals in seconds, with gaps scaled to ``rate`` requests a second on average."""
    mean = math.fsum(gaps) / len(gaps)
    return [total / (rate * mean) for total in itertools.accumulate(gaps)]


def percentile(sorted_values: Sequence[float], share: float) -> float:
    """The smallest of ascending values that ``share`` of them do not exceed."""
    return sorted_values[max(0, math.ceil(share * len(sorted_values)) - 1)]


def predict(
    cell: SimulatedCell,
    gaps: Sequence[float],
    rate: float,
    overhead_s: float = 0.0,
    discard: float = _DISCARD,
) -> Prediction:
    """What requests see.

    Args:
        cell: what serves.
        gaps: between arrivals, of any mean; they are scaled to the rate.
        rate: requests a second.
        overhead_s: what a request takes beside waiting and a worker.
        discard: the share of the schedule's begin that does not count.
    """
    found = simulate(cell.at(rate), at_rate(gaps, rate)).sojourns_s
    counted = sorted(found[int(discard * len(found)) :])
    refused = sum(map(math.isinf, counted)) / len(counted)
    return Prediction(
        rate=rate,
        p50_s=percentile(counted, 0.5) + overhead_s,
        p99_s=percentile(counted, 0.99) + overhead_s,
        refused=refused,
    )


def highest_rate(
    cell: SimulatedCell,
    gaps: Sequence[float],
    bound_s: float,
    overhead_s: float = 0.0,
    *,
    near: float = NEAR,
    guess: float | None = None,
) -> Prediction | None:
    """The highest rate at which the 99th percentile keeps a bound; None where none does.

    The rates are tried on one schedule, so that chance meets all of them, and all cells, alike.

    Args:
        cell: what serves.
        gaps: between arrivals, of any mean.
        bound_s: of the 99th percentile.
        overhead_s: what a request takes beside waiting and a worker.
        near: how near the next rate that is not kept may be, as a share.
        guess: a rate that may be near, where the search begins; it spares most of the steps.
    """
    if cell.mean_s(1) * (cell.lone if cell.workers > 1 else 1.0) + overhead_s > bound_s:
        return None

    def at(rate: float) -> Prediction | None:
        found = predict(cell, gaps, rate, overhead_s)
        return found if found.keeps(bound_s) else None

    found = highest_that_holds(at, cell.most_per_s, near=near, guess=guess)
    return found[1] if found else None
