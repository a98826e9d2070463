"""How many waiting requests a free worker takes at once, so that the backlog is answered sooner.

The rule of real-time inference (``--mode rti``). A free worker takes the largest compiled batch
for which two things hold by the measured cost curve, if all that follows were run one at a time:

1. The ends of all waiting items add up to no more than with batches of one.
2. Once they are served, the workers are free no later than with batches of one: the k-th worker
   to be free is free no later, for every k. So no later arrival has to wait longer.

Items of one batch end together, so the first of them ends later than it would alone. No rule
helps every request of a batch; this one helps their mean.

Why the mean is never worse than with batches of one, whatever arrives and whatever a batch costs:
let a policy decide by the rule n times and by one afterwards. Its n-th decision leaves the sum
over the waiting items no larger (1) and every later arrival no later (2), compared with the same
policy that decides n - 1 times. So the sum over all requests never grows with n. The proof takes
the costs and the ends of the other workers' batches as exact; tests/unit/batching has the test
that tries to refute it. With one worker every request ends less than ``cost(batch) - cost(1)``
later than with batches of one, and the last of each batch no later at all.

Where a batch of n costs n batches of one, as on CPUs with AVX2 alone, nothing but 1 is allowed.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

#: rounding errors of sums of some hundred costs are far below this share of a cost
_ROUNDING = 1e-9


def batch_size(
    waiting: int,
    room: int,
    others_free_s: Sequence[float],
    sizes: Sequence[int],
    cost_s: Callable[[int], float],
) -> int:
    """The size of the batch that a free worker takes.

    Args:
        waiting: items in the queue, 1 or more.
        room: how many of them the batch could hold.
        others_free_s: seconds until each other worker of the queue is free, 0 or more.
        sizes: the compiled batch sizes, ascending, from 1.
        cost_s: what a batch of one of these sizes takes, in seconds.
    """
    if waiting < 2 or len(sizes) == 1:
        return 1
    # What is true of the first items is true of all: those behind them count as later arrivals.
    # So the look ahead may be short; this far, it finds what pays in a lasting overload.
    ahead = min(waiting, 4 * sizes[-1] + 2 * (len(others_free_s) + 1))
    room = min(room, ahead)
    one_s = cost_s(1)
    margin_s = _ROUNDING * one_s
    alone = _one_by_one([0.0, *others_free_s], ahead, one_s) if others_free_s else None
    for size in reversed(sizes):
        if not 1 < size <= room:
            continue
        batch_s = cost_s(size)
        # By (2), the workers together are no longer busy than with batches of one.
        if batch_s > size * one_s + margin_s * (len(others_free_s) + 1):
            continue
        if alone is None:
            shortens = _shortens_alone(ahead, size, batch_s, one_s)
        else:
            shortens = _shortens(ahead, size, batch_s, one_s, others_free_s, alone=alone)
        if shortens:
            return size
    return 1


def _shortens_alone(ahead: int, size: int, batch_s: float, one_s: float) -> bool:
    """The same as ``_shortens`` where there is no other worker, without going through them."""
    margin_s = _ROUNDING * one_s
    rest = ahead - size
    ends_s = ahead * batch_s + one_s * rest * (rest + 1) / 2
    return (
        ends_s <= one_s * ahead * (ahead + 1) / 2 + ahead * margin_s
        and batch_s + rest * one_s <= ahead * one_s + margin_s
    )


def _shortens(
    ahead: int,
    size: int,
    batch_s: float,
    one_s: float,
    others_free_s: Sequence[float],
    *,
    alone: tuple[float, list[float]],
) -> bool:
    """Whether (1) and (2) hold of a batch.

    Args:
        ahead: items that are looked at.
        size: of the batch.
        batch_s: what it takes.
        one_s: what a batch of one takes.
        others_free_s: seconds until each other worker is free.
        alone: what batches of one come to; see ``_one_by_one``.
    """
    margin_s = _ROUNDING * one_s
    most_s, latest_s = alone
    rest_s, free_s = _one_by_one([batch_s, *others_free_s], ahead - size, one_s)
    return size * batch_s + rest_s <= most_s + ahead * margin_s and all(
        free <= latest + margin_s for free, latest in zip(free_s, latest_s, strict=True)
    )


def _one_by_one(free_s: list[float], count: int, one_s: float) -> tuple[float, list[float]]:
    """Serves ``count`` items one at a time, each by the worker that is free first.

    Returns:
        the sum of their ends, and when the workers are free then, ascending.
    """
    heapq.heapify(free_s)
    total_s = 0.0
    for _ in range(count):
        end_s = free_s[0] + one_s
        total_s += end_s
        heapq.heapreplace(free_s, end_s)
    free_s.sort()
    return total_s, free_s
