"""Whether one way is slower than another by 1 %: blocks of short turns, A B B A. Pure.

Within a block what drifts slowly meets both alike, and a pause spoils one block of many: the mean
leaves out the highest and the lowest fifth of them. How sure it is comes from drawing the blocks
again (bootstrap).
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import msgspec

#: left out at either end
_TRIMMED = 0.2
_DRAWS = 4000


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A figure and the interval that holds it with 95 %."""

    value: float
    least: float
    most: float


def trimmed_mean(values: Sequence[float]) -> float:
    """The mean without the highest and the lowest fifth; of one or more."""
    left_out = int(len(values) * _TRIMMED)
    kept = sorted(values)[left_out : len(values) - left_out]
    return math.fsum(kept) / len(kept)


def estimate(values: Sequence[float], seed: int = 1) -> Estimate:
    """The trimmed mean of blocks' figures, and its interval."""
    # Draws of a statistic, no secret.
    generator = random.Random(seed)  # noqa: S311
    drawn = sorted(trimmed_mean(generator.choices(values, k=len(values))) for _ in range(_DRAWS))
    return Estimate(
        value=trimmed_mean(values),
        least=drawn[int(0.025 * _DRAWS)],
        most=drawn[int(0.975 * _DRAWS) - 1],
    )


def ratio(blocks: Sequence[float]) -> Estimate:
    """The same of ratios: they multiply, so their logarithms are averaged."""
    found = estimate([math.log(one) for one in blocks])
    return Estimate(
        value=math.exp(found.value), least=math.exp(found.least), most=math.exp(found.most)
    )
