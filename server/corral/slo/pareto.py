"""The 99th percentile by rate: of the best configurations, and the least that any has. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from corral.slo.forecast import Forecast
from corral.slo.report import CurvePoint
from corral.slo.space import Configuration

#: rates of a curve, as shares of the best configuration's
_SHARES = (0.1, 0.3, 0.5, 0.65, 0.8, 0.9, 1.0, 1.05)
#: curves that are drawn
_MOST = 6
#: a 99th percentile above so many bounds is not worth drawing
_TOO_HIGH = 3.0


def curves(
    forecast: Forecast, ranked: Sequence[Configuration], best_rate: float, bound_s: float
) -> tuple[list[CurvePoint], list[list[CurvePoint]]]:
    """The front, and the curves that it is the lowest of.

    Args:
        forecast: predicts.
        ranked: the best first; of those that differ in memory alone the first is taken.
        best_rate: requests a second that the best keeps.
        bound_s: of the latency.
    """
    found = [_curve(forecast, one, best_rate, bound_s) for one in _drawn(ranked)]
    found = [curve for curve in found if curve]
    by_rate: dict[float, CurvePoint] = {}
    for point in (point for curve in found for point in curve):
        lowest = by_rate.get(point.rate)
        if lowest is None or point.p99_ms < lowest.p99_ms:
            by_rate[point.rate] = point
    return [by_rate[rate] for rate in sorted(by_rate)], found


def _drawn(ranked: Sequence[Configuration]) -> list[Configuration]:
    """One of each engine, shape and largest batch: the best, then those unlike it."""
    found: dict[tuple[object, ...], Configuration] = {}
    for one in ranked:
        found.setdefault((one.arithmetic, one.shape, one.batching.max_batch > 1), one)
    return list(found.values())[:_MOST]


def _curve(
    forecast: Forecast, one: Configuration, best_rate: float, bound_s: float
) -> list[CurvePoint]:
    points = []
    for share in _SHARES:
        told = forecast.at(one, best_rate * share)
        if told is None or not math.isfinite(told.p99_s) or told.p99_s > _TOO_HIGH * bound_s:
            break
        points.append(
            CurvePoint(
                rate=round(best_rate * share, 3),
                p50_ms=round(told.p50_s * 1000, 3),
                p99_ms=round(told.p99_s * 1000, 3),
                name=one.name,
            )
        )
    return points
