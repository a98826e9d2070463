"""Which requests of a round count: those in no spell, after its first. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from corral.batching.prediction import percentile
from corral.slo.interval import counted
from corral.slo.running import Round
from corral.slo.seen import Seen

#: what is written where an answer never came: JSON has no infinity
NEVER_S = 1e6


class Counting:
    """Tells which requests of rounds count.

    Args:
        seen: knows the spells.
        bound_s: of the latency: what is later has waited in a queue.
    """

    def __init__(self, seen: Seen, bound_s: float) -> None:
        self._seen = seen
        self._bound_s = bound_s

    def of(self, found: Round, values: Sequence[float]) -> Sequence[float]:
        """Those of requests that count, of one value each.

        Args:
            found: the round.
            values: of all its requests, in the order of arrival.
        """
        without = self._without(found)
        pairs = zip(counted(found.offsets_s), counted(values), strict=True)
        return [value for offset_s, value in pairs if int(offset_s) not in without]

    def _without(self, found: Round) -> Collection[int]:
        """Seconds of a round in a spell, and those after it in which its queue was still long.

        That is where most of a second's requests are late. Some late ones are how a rate near the
        bound is: seconds that are left out for these would make what is left too good.
        """
        without = set(self._seen.slow_seconds(found.served))
        by_second: dict[int, list[bool]] = {}
        for offset_s, spent_s in zip(found.offsets_s, found.latencies_s, strict=True):
            by_second.setdefault(int(offset_s), []).append(spent_s > self._bound_s)
        for second, late in sorted(by_second.items()):
            if second - 1 in without and sum(late) * 2 > len(late):
                without.add(second)
        return without

    def is_quiet(self, found: Round) -> bool:
        """Whether a round was mostly no spell."""
        return len(self.of(found, found.latencies_s)) * 2 >= len(found.latencies_s)

    def is_answered(self, found: Round) -> bool:
        """Whether all were answered that came in no spell, the first of the round included."""
        without = self._without(found)
        pairs = zip(found.offsets_s, found.latencies_s, strict=True)
        return all(math.isfinite(s) for offset_s, s in pairs if int(offset_s) not in without)

    def count(self, rounds: Sequence[Round]) -> int:
        """How many count; none of a round that was mostly a spell."""
        quiet = filter(self.is_quiet, rounds)
        return sum(len(self.of(found, found.latencies_s)) for found in quiet)

    def percentile(self, rounds: Sequence[Round], share: float) -> float:
        """Of latencies that count, seconds; of all but the first where none does."""
        kept = [spent_s for found in rounds for spent_s in self.of(found, found.latencies_s)]
        kept = kept or [spent_s for found in rounds for spent_s in counted(found.latencies_s)]
        found_s = percentile(sorted(kept), share)
        return found_s if math.isfinite(found_s) else NEVER_S
