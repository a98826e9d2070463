"""How much of a line a free worker may take. Pure."""

from __future__ import annotations

import functools
import math

from corral.batching import backlog
from corral.batching.jobs import J, Line
from corral.batching.lines import Lines
from corral.batching.policy import Policy
from corral.batching.precedence import Precedence
from corral.batching.workers import Workers
from corral.priority import Priority


def fair_share(
    worker: int,
    line: Line,
    now_s: float,
    *,
    policy: Policy,
    workers: Workers,
    lines: Lines[J],
    precedence: Precedence,
) -> int:
    """Items that this free worker may take off a line, in which something waits.

    Args:
        worker: the worker's number.
        line: which one.
        now_s: on the monotonic clock.
        policy: the queue's limits.
        workers: all of them.
        lines: what waits.
        precedence: how bulk and interactive requests share.
    """
    head, live = lines.head(line), lines.live(line)
    if head.alone or live == 1:
        return len(head)
    if (
        line[0] is Priority.BULK
        and len(workers) == 1
        and precedence.is_shared(policy.bulk_hold_s, now_s)
    ):
        return 1
    if policy.max_delay_s:
        return live
    if policy.real_time:
        return _real_time_share(worker, line, now_s, workers, lines)
    return math.ceil(live / len(workers))


def _real_time_share(
    worker: int, line: Line, now_s: float, workers: Workers, lines: Lines[J]
) -> int:
    """Items that this free worker takes in real-time inference; see ``backlog``."""
    costs = workers.costs[worker]
    priority, datatype = line
    waiting = lines.lives[Priority.INTERACTIVE]
    if priority is Priority.BULK:
        waiting += lines.lives[Priority.BULK]
    return backlog.batch_size(
        waiting,
        lines.live(line),
        workers.others_free_s(worker, now_s),
        costs.sizes,
        functools.partial(costs.expected_s, datatype),
    )
