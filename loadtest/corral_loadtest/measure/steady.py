"""When a server under load has become steady: pure.

As perf_analyzer does it: the last three windows must agree in throughput and in mean latency, each
within a share of the three's mean. Counting few events is noisy by itself, so that share is never
less than three standard errors of a Poisson count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

AGREEING = 3


def agree(values: Sequence[float], tolerance: float) -> bool:
    """Whether every value lies within ``tolerance`` (a share) of their mean, which is not 0."""
    mean = sum(values) / len(values)
    return mean > 0 and all(abs(value - mean) <= tolerance * mean for value in values)


def is_steady(counts: Sequence[int], means_ms: Sequence[float], stability: float) -> bool:
    """Whether the last windows agree.

    Args:
        counts: answers in each window so far, whole windows only.
        means_ms: mean latency of each.
        stability: share of the mean within which windows agree.
    """
    if len(counts) < AGREEING or not all(counts[-AGREEING:]):
        return False
    fewest = min(counts[-AGREEING:])
    tolerance = max(stability, 3 / math.sqrt(fewest))
    return agree(counts[-AGREEING:], tolerance) and agree(means_ms[-AGREEING:], tolerance)
