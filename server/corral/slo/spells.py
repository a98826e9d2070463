"""Spells: seconds in which a machine was clearly slower than it is. Pure.

The host of a virtual machine may slow it down for seconds or minutes, and no counter in it shows
that. The batches show it: those of the same size, in the same server, take longer. A stall of some
tenths of a second is how a machine is, and counts; what lasts is told, and does not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

#: seconds that are looked at together: what is over sooner is a stall
_TOGETHER = 2
#: slower than the quickest by this factor: what others may take of the CPUs without a word, twice
_SLOWER = 1.25
#: the quickest are this share
_QUICKEST = 0.25
#: of a window: of fewer batches nothing is known
_LEAST = 10

#: moment, seconds spent and seconds expected of a batch
Spent = tuple[float, float, float]


def slow_seconds(rounds: Sequence[Sequence[Spent]]) -> list[Collection[int]]:
    """Of each round, the whole seconds of its schedule that were in a spell.

    Args:
        rounds: the batches of each, in any order.
    """
    paces = [_paces(batches) for batches in rounds]
    known = sorted(pace for of_one in paces for pace in of_one.values())
    if not known:
        return [frozenset() for _ in rounds]
    most = _SLOWER * known[int(_QUICKEST * (len(known) - 1))]
    return [
        {first + n for first, pace in of_one.items() if pace > most for n in range(_TOGETHER)}
        for of_one in paces
    ]


def _paces(batches: Sequence[Spent]) -> Mapping[int, float]:
    """How many times as long as expected batches were in each window, by its first second."""
    found: dict[int, list[Spent]] = {}
    for batch in batches:
        second = int(batch[0])
        for first in range(max(0, second - _TOGETHER + 1), second + 1):
            found.setdefault(first, []).append(batch)
    return {
        first: sum(spent_s for _, spent_s, _ in some) / sum(usual_s for _, _, usual_s in some)
        for first, some in found.items()
        if len(some) >= _LEAST
    }
