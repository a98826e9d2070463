"""How sure a measured 99th percentile is: a bootstrap beside the simulated queue. Pure.

A percentile of some hundred requests hangs on chance: on the arrivals that it met. The simulator
meets the same arrivals, so what chance did to the measurement it did to the simulation as well.
Their ratio varies far less than either; times the percentile of a long simulation it says what a
long measurement would.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence

from corral.batching.prediction import percentile

#: requests close to one another wait for the same; blocks of them are drawn together
_BLOCKS = 20
_RESAMPLES = 300
#: both ends together leave out 10 %
_ENDS = (0.05, 0.95)


@dataclasses.dataclass(frozen=True, slots=True)
class Pairs:
    """A measured and a simulated sojourn of each request, in the order of arrival, seconds.

    Attributes:
        measured_s: infinite for what was refused or never answered.
        simulated_s: of the same schedule.
        long_s: the 99th percentile of a long simulation at this rate.
    """

    measured_s: Sequence[float]
    simulated_s: Sequence[float]
    long_s: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ratio:
    """What a measured 99th percentile is of a simulated one, with both ends of 90 %."""

    middle: float
    low: float
    high: float

    def of(self, simulated_s: float) -> tuple[float, float, float]:
        """Middle, lower and upper end of a percentile that a simulation says."""
        return self.middle * simulated_s, self.low * simulated_s, self.high * simulated_s


def ratio(rounds: Sequence[Pairs], seed: int = 0) -> Ratio:
    """The ratio over some rounds, and how sure it is.

    Args:
        rounds: at rates close to one another.
        seed: of the resamples.
    """
    blocks = [block for pairs in rounds for block in _blocks(pairs)]
    middle = _ratio(blocks)
    draw = random.Random(seed).choices  # noqa: S311 - chance, and no secret
    found = sorted(_ratio(draw(blocks, k=len(blocks))) for _ in range(_RESAMPLES))
    low, high = (percentile(found, share) for share in _ENDS)
    return Ratio(middle=middle, low=min(low, middle), high=max(high, middle))


_Block = tuple[list[float], list[float]]


def _blocks(pairs: Pairs) -> list[_Block]:
    """Neighbours together, each sojourn in units of the long simulation's percentile."""
    count = len(pairs.measured_s)
    length = max(1, math.ceil(count / _BLOCKS))
    unit_s = pairs.long_s
    return [
        (
            [one / unit_s for one in pairs.measured_s[start : start + length]],
            [one / unit_s for one in pairs.simulated_s[start : start + length]],
        )
        for start in range(0, count, length)
    ]


def _ratio(blocks: Sequence[_Block]) -> float:
    measured = sorted(one for block, _ in blocks for one in block)
    simulated = sorted(one for _, block in blocks for one in block)
    below = percentile(simulated, 0.99)
    return percentile(measured, 0.99) / below if math.isfinite(below) else 1.0
