"""How sure a measured 99th percentile is: a bootstrap beside the simulated queue. Pure.

A percentile of some hundred requests hangs on chance: on the arrivals that it met. The simulator
meets the same arrivals, so what chance did to the measurement it did to the simulation as well.
Their ratio varies far less than either; times the percentile of a long simulation it says what a
long measurement would.
"""

from __future__ import annotations

import bisect
import dataclasses
import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from corral.batching.prediction import percentile

#: requests close to one another wait for the same; blocks of them are drawn together
_BLOCKS = 20
_RESAMPLES = 300
_SHARE = 0.99
#: of the first requests, which an empty server answers
_DISCARD = 0.05
#: both ends together leave out 10 %
ENDS = (0.05, 0.95)


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


def counted(values: Sequence[float]) -> Sequence[float]:
    """What counts of a round, in the order of arrival: not the first, which an empty server has."""
    return values[int(_DISCARD * len(values)) :]


def sent_for(count: int) -> int:
    """How many requests a round needs for so many of them to count."""
    return math.ceil(count / (1 - _DISCARD))


def ratio(rounds: Sequence[Pairs], seed: int = 0) -> Ratio:
    """The ratio over some rounds, and how sure it is.

    Args:
        rounds: at rates close to one another.
        seed: of the resamples.
    """
    blocks = [block for pairs in rounds for block in _blocks(pairs)]
    measured = Blocks([block for block, _ in blocks])
    simulated = Blocks([block for _, block in blocks])

    def of(drawn: Mapping[int, int]) -> float:
        below = simulated.percentile(drawn)
        return measured.percentile(drawn) / below if math.isfinite(below) else 1.0

    numbers = range(len(blocks))
    middle = of(dict.fromkeys(numbers, 1))
    draw = random.Random(seed).choices  # noqa: S311 - chance, and no secret
    found = sorted(of(Counter(draw(numbers, k=len(blocks)))) for _ in range(_RESAMPLES))
    low, high = (percentile(found, share) for share in ENDS)
    return Ratio(middle=middle, low=min(low, middle), high=max(high, middle))


def _blocks(pairs: Pairs) -> Iterator[tuple[list[float], list[float]]]:
    """Neighbours together, each sojourn in units of the long simulation's percentile."""
    count = len(pairs.measured_s)
    length = max(1, math.ceil(count / _BLOCKS))
    unit_s = pairs.long_s
    for start in range(0, count, length):
        yield (
            [one / unit_s for one in pairs.measured_s[start : start + length]],
            [one / unit_s for one in pairs.simulated_s[start : start + length]],
        )


class Blocks:
    """Blocks of values, of which some are drawn, and some of these several times."""

    def __init__(self, blocks: Sequence[Sequence[float]]) -> None:
        self._blocks = [sorted(block) for block in blocks]
        self._values = sorted(value for block in self._blocks for value in block)

    def percentile(self, drawn: Mapping[int, int]) -> float:
        """The 99th of all that was drawn; each number of a block with how often it was.

        Tens of thousands of values, hundreds of times: they are sorted once, and counted.
        """
        count = sum(times * len(self._blocks[number]) for number, times in drawn.items())
        needed = max(1, math.ceil(_SHARE * count))

        def not_above(value: float) -> int:
            return sum(
                times * bisect.bisect_right(self._blocks[number], value)
                for number, times in drawn.items()
            )

        return self._values[bisect.bisect_left(self._values, needed, key=not_above)]
