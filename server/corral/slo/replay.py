"""A rate played against all the seconds that servers were under load. Pure.

What a rate's 99th percentile is hangs on how often the machine stalls, and a few seconds of load
meet one stall or none. All seconds that were seen of workers of a shape, at whatever rate, under
whatever rule for batches, say something of it: each rate that is asked about is simulated against
their traces. So a percentile at one rate rests on all of them, and so does how sure it is.
"""

from __future__ import annotations

import dataclasses
import math
import random
import statistics
from collections import Counter
from collections.abc import Collection, Sequence

from corral.batching.bisection import highest_that_holds
from corral.batching.prediction import percentile
from corral.slo.forecast import Forecast
from corral.slo.interval import ENDS, Blocks, Ratio, counted
from corral.slo.service import Calibration, Served
from corral.slo.space import Arithmetic, Configuration, Shape
from corral.slo.trace import Trace, by_cell, spliced

#: stalls are shorter: what comes within one such time is drawn together
_BLOCK_S = 1.0
_RESAMPLES = 200
#: moments of what was seen that a schedule is played from
_MEETINGS = 5
#: a rate is kept with times so many times as long: near what is carried at the most a hundredth
#: makes latencies much longer, and arrivals have their luck
_SLOWER = 1.02
#: how near two rates of the search are in the end
_NEAR = 0.01
#: what is simulated at the least, as far as that is no more than the most requests: a rate is
#: looked for by twenty such schedules, and one of so many requests takes a quarter of a second
_AT_LEAST_S = 20.0
_MOST_REQUESTS = 50_000


#: what traces hang on
_Known = tuple[Calibration, list[Collection[int]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Between:
    """A 99th percentile in seconds, with both ends of 90 %.

    Attributes:
        replayed_s: what the replay alone says of its middle.
    """

    middle_s: float
    low_s: float
    high_s: float
    replayed_s: float

    def times(self, beside: Ratio) -> Between:
        """The same where measured percentiles are so many times the replayed ones."""
        middle_s = self.middle_s * beside.middle
        if not math.isfinite(middle_s):
            return dataclasses.replace(self, middle_s=math.inf, high_s=math.inf)
        up = _together(self.high_s / self.middle_s, beside.high / beside.middle)
        down = _together(self.middle_s / self.low_s, beside.middle / beside.low)
        return dataclasses.replace(
            self, middle_s=middle_s, low_s=middle_s / down, high_s=middle_s * up
        )


def _together(one: float, other: float) -> float:
    """Two doubts that know nothing of one another, each a factor of 1 or more."""
    if math.isinf(one) or math.isinf(other):
        return math.inf
    return math.exp(math.hypot(math.log(one), math.log(other)))


class Replay:
    """Plays rates against what was seen.

    Args:
        forecast: knows what batches take, and what was seen.
    """

    def __init__(self, forecast: Forecast) -> None:
        self._forecast = forecast
        self._kept: dict[tuple[Arithmetic, Shape], tuple[_Known, list[Trace]]] = {}
        #: of what is kept, some seconds, and how many
        self._samples: dict[Configuration, tuple[list[Trace], float, list[Trace]]] = {}

    def at(self, one: Configuration, rate: float) -> Between:
        """A configuration's 99th percentile at a rate of the whole server."""
        blocks = self._blocks(one, rate)
        values = Blocks(blocks)
        numbers = range(len(blocks))
        middle_s = values.percentile(dict.fromkeys(numbers, 1))
        draw = random.Random(0).choices  # noqa: S311 - chance, and no secret
        found = sorted(
            values.percentile(Counter(draw(numbers, k=len(blocks)))) for _ in range(_RESAMPLES)
        )
        low_s, high_s = (percentile(found, share) for share in ENDS)
        return Between(
            middle_s=middle_s,
            low_s=min(low_s, middle_s),
            high_s=max(high_s, middle_s),
            replayed_s=middle_s,
        )

    def highest(self, one: Configuration, p99_s: float, guess: float | None = None) -> float:
        """The highest rate whose 99th percentile is within so many seconds; 0 where none is.

        Args:
            one: the configuration.
            p99_s: that is allowed.
            guess: a rate that may be near.
        """
        most = self._forecast.most_per_s(one) or 0.0
        if not most:
            return 0.0

        def at(rate: float) -> bool | None:
            return self.middle_s(one, rate) <= p99_s or None

        found = highest_that_holds(at, most, near=_NEAR, guess=guess)
        return found[0] if found else 0.0

    def middle_s(self, one: Configuration, rate: float) -> float:
        """The middle of a configuration's 99th percentile at a rate, alone."""
        spent_s = sorted(each for block in self._blocks(one, rate) for each in block)
        return percentile(spent_s, 0.99)

    def sojourns_s(
        self, one: Configuration, rate: float, offsets_s: Sequence[float], served: Served
    ) -> list[float]:
        """What requests of a schedule see in the seconds in which ``served`` was seen, shifted.

        In the very same order what made batches slow is taken for chance that made requests late:
        where many come at once, frontends and clients take more of the workers' CPUs. At another
        rate they come at other moments, so that a replay misses that, and so it has to here.
        """
        slow = self._forecast.seen.slow_seconds(served)
        cells = by_cell(served.batches, self._forecast.expected(one, served))
        found = [quiet for trace in cells if (quiet := spliced([(trace, slow)])) is not None]
        if not found:
            return self._forecast.sojourns_s(one, rate, offsets_s)
        half_s = max(trace.seconds for trace in found) / 2
        offsets_s = [offset_s + half_s for offset_s in offsets_s]
        return self._forecast.replayed_s(one, rate, offsets_s, served.overhead_s, found)

    def expected_s(self, one: Configuration, rate: float, offsets_s: Sequence[float]) -> float:
        """The 99th percentile that a schedule should have, whichever seconds it may meet."""
        found, overhead_s = self._all(one), self._overhead_s(one, rate)
        if not found:
            return _p99_s(self._forecast.sojourns_s(one, rate, offsets_s))
        seconds = max(trace.seconds for trace in found)
        shifted = [
            [offset_s + seconds * number / _MEETINGS for offset_s in offsets_s]
            for number in range(_MEETINGS)
        ]
        return statistics.median(
            _p99_s(self._forecast.replayed_s(one, rate, each, overhead_s, found))
            for each in shifted
        )

    def _blocks(self, one: Configuration, rate: float) -> list[list[float]]:
        """Sojourns by the moment of their arrival, over all that was seen but spells.

        Each of these moments is met by several requests, where there were few of them.
        """
        found, overhead_s = self._sampled(one), self._overhead_s(one, rate)
        most_s = _MOST_REQUESTS / rate
        if not found:
            seconds = min(_AT_LEAST_S, most_s)
            offsets_s = self._forecast.schedule(rate, seconds, 0)
            spent_s = self._forecast.sojourns_s(one, rate, offsets_s)
            return _cut(offsets_s, spent_s, seconds)
        seconds = max(trace.seconds for trace in found)
        turns = max(1, math.ceil(min(_AT_LEAST_S, most_s - seconds) / seconds))
        # Of far more than it carries the first part says enough.
        offsets_s = self._forecast.schedule(rate, min(turns * seconds, most_s), 0)
        spent_s = self._forecast.replayed_s(one, rate, offsets_s, overhead_s, found, slower=_SLOWER)
        return _cut(offsets_s, spent_s, seconds)

    def _overhead_s(self, one: Configuration, rate: float) -> float:
        """Beside waiting and worker, as it was at the nearest rate."""
        found = [served for _, served in self._forecast.seen.alike(one)]
        nearest = min(found, key=lambda served: abs(served.rate - rate), default=None)
        return nearest.overhead_s if nearest else 0.0

    def _sampled(self, one: Configuration) -> list[Trace]:
        """All seconds that count, or as many as the most requests take, spread over all of them.

        The same ones for each rate of a configuration: rates are compared.
        """
        whole = self._all(one)
        most_per_s = self._forecast.most_per_s(one) or 0.0
        count = max(1, int(_MOST_REQUESTS / most_per_s)) if most_per_s else math.inf
        seconds = math.ceil(max((trace.seconds for trace in whole), default=0.0))
        if seconds <= count:
            return whole
        kept = self._samples.get(one)
        if kept is None or kept[0] is not whole or kept[1] != count:
            chosen = {number * seconds // int(count) for number in range(int(count))}
            left_out = set(range(seconds)) - chosen
            made = [spliced([(trace, left_out)]) or trace for trace in whole]
            self._samples[one] = kept = whole, count, made
        return kept[2]

    def _all(self, one: Configuration) -> list[Trace]:
        """All seconds that count, of each cell; kept, for many rates are played against them."""
        forecast = self._forecast
        seen = [
            (other, served, forecast.seen.slow_seconds(served))
            for other, served in forecast.seen.alike(one)
        ]
        now = forecast.calibration(one.shape), [slow for _, _, slow in seen]
        known = self._kept.get((one.arithmetic, one.shape))
        if known is None or known[0] != now:
            cells: list[list[tuple[Trace, Collection[int]]]] = []
            for other, served, slow in seen:
                of_cells = by_cell(served.batches, forecast.expected(other, served))
                cells += [[] for _ in of_cells[len(cells) :]]
                for cell, trace in zip(cells, of_cells, strict=False):
                    cell.append((trace, slow))
            made = [whole for cell in cells if (whole := spliced(cell)) is not None]
            self._kept[one.arithmetic, one.shape] = known = now, made
        return known[1]


def _p99_s(spent_s: Sequence[float]) -> float:
    return percentile(sorted(counted(spent_s)), 0.99)


def _cut(offsets_s: Sequence[float], spent_s: Sequence[float], seconds: float) -> list[list[float]]:
    found: dict[int, list[float]] = {}
    for offset_s, each_s in zip(offsets_s, spent_s, strict=True):
        found.setdefault(math.floor(offset_s % seconds / _BLOCK_S), []).append(each_s)
    return list(found.values())
