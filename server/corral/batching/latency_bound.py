"""Up to which rate a cell keeps a latency bound, and with which cap of its batches. Pure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from corral.batching.contention import slowdown
from corral.batching.policy import Policy
from corral.batching.prediction import highest_rate, predict
from corral.batching.simulation import SimulatedCell

#: the part of a batch's times that each of these shares of the samples does not exceed
_SHARES = (0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95)
#: a rate below this share of what the cell carries is none to choose a cap by
_LEAST_LOAD = 0.01


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kept:
    """How a bound is kept.

    Attributes:
        keeps_per_s: up to which rate, with the cap that keeps it longest; 0 for none.
        batch_cap: at the rate there is now, the cap with the lowest 99th percentile.
    """

    keeps_per_s: float
    batch_cap: int


def spread(least_s: float, mean_s: float) -> list[float]:
    """Times of which the least and the mean are known, as a machine's noise spreads them.

    Noise only adds: the least, and an exponential distribution of what comes on top.
    """
    more_s = max(0.0, mean_s - least_s)
    quantiles = [-math.log(1 - share) for share in _SHARES]
    scale = more_s * len(quantiles) / math.fsum(quantiles)
    return [least_s + scale * quantile for quantile in quantiles]


def keep_bound(
    policy: Policy,
    workers: int,
    services_s: Mapping[int, Sequence[float]],
    *,
    overhead_s: float,
    bound_s: float,
    rate: float,
    gaps: Sequence[float],
    taken_s: float = 0.0,
) -> Kept:
    """Which cap keeps a bound best, and up to which rate it can be kept at all.

    Args:
        policy: of the cell's queue.
        workers: of the cell.
        services_s: samples of what a batch takes at the rate there is now, by compiled size.
        overhead_s: what a request takes beside.
        bound_s: of the 99th percentile.
        rate: requests a second of the cell, now.
        gaps: between arrivals, of any mean.
        taken_s: by each request from every worker, see SimulatedCell; what all of them take now is
            in the samples already.
    """
    factor = slowdown(rate, taken_s)
    services_s = {size: [spent_s / factor for spent_s in s] for size, s in services_s.items()}
    keeps, best = 0.0, (math.inf, 0.0, 0)
    for size in sorted(services_s):
        capped = dataclasses.replace(policy, batch_cap=size)
        cell = SimulatedCell(policy=capped, workers=workers, services_s=services_s, taken_s=taken_s)
        found = highest_rate(cell, gaps, bound_s, overhead_s)
        keeps = max(keeps, found.rate if found else 0.0)
        at = max(rate, _LEAST_LOAD * cell.most_per_s)
        told = predict(cell, gaps, at, overhead_s)
        # Of equals the larger: it carries more, should the rate go up. What is overloaded whatever
        # the cap goes by the most that it carries.
        carried = -cell.most_per_s if math.isinf(told.p99_s) else 0.0
        best = min(best, (told.p99_s, carried, -size))
    return Kept(keeps_per_s=keeps, batch_cap=-best[2])
