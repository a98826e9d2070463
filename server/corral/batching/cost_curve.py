"""Cost curves: what a batch of n costs on this machine, and where batching stops paying.

A worker measures its curve while it warms up, largest sizes last, and stops when two doublings
have brought less than 3 %, for real-time inference less than 5 %. The curve is kept beside the
artefact, so that the next start compiles only the sizes that pay; what is observed later corrects
it in the batcher.

Measured on 2 Zen 3 cores (AVX2): ResNet50 costs the same an image at every batch size, within
the noise of a shared machine, so the knee is 1; batching pays on AMX and with a null backend
that has a time a batch.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from corral.tensors import Datatype

#: a clock that did not move must not divide by nothing
_LEAST_S = 1e-9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    """How a worker looks for the sizes that pay.

    Attributes:
        largest: the largest size that is tried.
        gain: a gain in images/s that is smaller than this share does not pay.
        patience: how many sizes in a row may bring no gain before the search ends.
    """

    largest: int
    gain: float
    patience: int


#: of throughput: every gain counts, and noise may hide one
THROUGHPUT_SEARCH = Search(largest=32, gain=0.03, patience=2)
#: of real-time inference: a batch must be worth that its first item waits for the last
REAL_TIME_SEARCH = Search(largest=8, gain=0.05, patience=2)
#: by the name of the mode
SEARCHES: Mapping[str, Search] = {"throughput": THROUGHPUT_SEARCH, "rti": REAL_TIME_SEARCH}


def candidate_sizes(max_batch: int) -> list[int]:
    """Batch sizes worth measuring, ascending: 1, 2, 4 … and ``max_batch`` itself."""
    sizes = [1 << power for power in range(max_batch.bit_length())]
    return sizes if sizes[-1] == max_batch else [*sizes, max_batch]


def knee(costs_s: Mapping[int, float], search: Search = THROUGHPUT_SEARCH) -> int:
    """The smallest batch whose images/s are as good as the best, but for what does not pay.

    Args:
        costs_s: seconds of one batch, by batch size; at least one.
        search: says what does not pay.
    """
    rates = {size: _rate(size, cost_s) for size, cost_s in costs_s.items()}
    best = max(rates.values())
    return min(size for size, rate in rates.items() if rate >= best * (1 - search.gain))


def keep_going(costs_s: Mapping[int, float], search: Search = THROUGHPUT_SEARCH) -> bool:
    """Whether a larger batch is worth measuring.

    Args:
        costs_s: seconds of one batch, by batch size, of what was measured so far.
        search: says after how many sizes without a gain it is not.
    """
    rates = [_rate(size, costs_s[size]) for size in sorted(costs_s)]
    late = search.patience
    if len(rates) <= late:
        return True
    return max(rates[-late:]) > max(rates[:-late]) * (1 + search.gain)


def compared(least_s: float, rounds_s: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """What sizes cost that were measured in turns, on a machine whose pace changes meanwhile.

    Args:
        least_s: the least that a batch of the smallest size was measured to cost before.
        rounds_s: of each turn the seconds of one batch, by batch size, the smallest among them.

    Returns:
        seconds of one batch: the smallest's least, times the median of the ratios to it.
    """
    smallest = min(rounds_s[0])
    least_s = min(least_s, *(round_s[smallest] for round_s in rounds_s))
    return {
        size: least_s
        * statistics.median(found[size] / max(found[smallest], _LEAST_S) for found in rounds_s)
        for size in rounds_s[0]
    }


def sizes_up_to(limit: int, sizes: Iterable[int]) -> list[int]:
    """The sizes that are no larger than ``limit``, ascending."""
    return sorted(size for size in sizes if size <= limit)


def _rate(size: int, cost_s: float) -> float:
    return size / max(cost_s, _LEAST_S)


@dataclasses.dataclass(frozen=True)
class CostCurve:
    """Seconds of one batch, by datatype and batch size.

    Attributes:
        costs_s: what was measured.
    """

    costs_s: Mapping[tuple[Datatype, int], float]

    @classmethod
    def from_names(cls, named_s: Mapping[str, float]) -> CostCurve:
        """The curve of costs by "DATATYPE:count".

        Raises:
            ValueError: a name or a cost makes no sense.
        """
        costs_s = {}
        for name, cost_s in named_s.items():
            datatype, _, count = name.partition(":")
            known = datatype in Datatype.__members__ and int(count) >= 1
            if not known or not math.isfinite(cost_s) or cost_s < 0:
                raise ValueError(f"no cost: {name!r}: {cost_s}")
            costs_s[Datatype[datatype], int(count)] = cost_s
        return cls(costs_s)

    def names(self) -> dict[str, float]:
        """CostModel by "DATATYPE:count", as messages carry them."""
        return {f"{datatype.name}:{size}": s for (datatype, size), s in self.costs_s.items()}

    def of(self, datatype: Datatype) -> dict[int, float]:
        """Seconds of one batch by batch size, ascending, of one datatype."""
        return {
            size: cost_s for (of, size), cost_s in sorted(self.costs_s.items()) if of is datatype
        }

    def knee(self) -> int:
        """The largest of the datatypes' knees."""
        return max(knee(self.of(datatype)) for datatype, _ in self.costs_s)

    def cost_s(self, datatype: Datatype, count: int) -> float:
        """Seconds of a batch of ``count``: measured, or on the straight line through neighbours.

        Beyond the largest measured size, each item costs what it costs there.

        Raises:
            KeyError: nothing was measured for the datatype.
        """
        costs_s = self.of(datatype)
        if not costs_s:
            raise KeyError(datatype)
        below = max((size for size in costs_s if size <= count), default=None)
        above = min((size for size in costs_s if size >= count), default=None)
        if above is None:
            assert below is not None
            return costs_s[below] * count / below
        if below is None or below == above:
            return costs_s[above]
        share = (count - below) / (above - below)
        return costs_s[below] + share * (costs_s[above] - costs_s[below])
