"""What a batch costs on one worker: measured while it warmed up, corrected by what is seen."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence

from corral.tensors import Datatype

#: how much of a newly observed cost enters the estimate
_LEARNING_RATE = 0.1


class CostModel:
    """The cost curve of one worker.

    Two readings: ``expected_s`` follows what is observed; ``fastest_s`` is the least that was
    ever measured. A request is refused for good only on the second, because an estimate that a
    stall has spoiled could otherwise refuse all that would correct it.

    Args:
        sizes: the compiled batch sizes, ascending, from 1.
        measured_s: seconds of one batch by "DATATYPE:count", as a worker reports them.
    """

    __slots__ = ("_compiled", "_expected_s", "_fastest_s", "largest", "sizes")

    def __init__(self, sizes: Sequence[int], measured_s: Mapping[str, float]) -> None:
        self._compiled = sorted(sizes)
        #: the compiled batch sizes that may be used, ascending
        self.sizes = self._compiled
        #: the largest batch
        self.largest = self.sizes[-1]
        self._expected_s = {
            (datatype, size): measured_s.get(f"{datatype.name}:{size}", 0.0)
            for datatype in Datatype
            for size in self._compiled
        }
        self._fastest_s = dict(self._expected_s)

    def cap(self, cap: int | None) -> None:
        """Batches hold at most so many items, or one, from now on; None: all that are compiled."""
        allowed = [size for size in self._compiled if cap is None or size <= cap]
        self.sizes = allowed or self._compiled[:1]
        self.largest = self.sizes[-1]

    def size_at_most(self, count: int) -> int:
        """The largest compiled size that is no larger than ``count``; 0 if there is none."""
        at = bisect.bisect_right(self.sizes, count)
        return self.sizes[at - 1] if at else 0

    def expected_s(self, datatype: Datatype, count: int) -> float:
        """Seconds that a batch of a compiled size is expected to take."""
        return self._expected_s[datatype, count]

    def item_s(self, datatype: Datatype) -> float:
        """Seconds an item when there is plenty to do."""
        return self._expected_s[datatype, self.largest] / self.largest

    def fastest_one_s(self, datatype: Datatype) -> float:
        """The same as ``fastest_s`` of one item."""
        return self._fastest_s[datatype, 1]

    def fastest_s(self, datatype: Datatype, count: int) -> float:
        """The least seconds in which this worker could run ``count`` items, one batch or more."""
        seconds = 0.0
        while count:
            size = self.size_at_most(count)
            rounds, count = divmod(count, size)
            seconds += rounds * self._fastest_s[datatype, size]
        return seconds

    def observe(self, datatype: Datatype, count: int, seconds: float) -> None:
        """Corrects the curve by one batch that was run."""
        key = datatype, count
        self._expected_s[key] += _LEARNING_RATE * (seconds - self._expected_s[key])
        self._fastest_s[key] = min(self._fastest_s[key], seconds)
