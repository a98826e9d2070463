"""The row of priorities: what interactive requests wait for under a flood of bulk."""

from __future__ import annotations

import time

from corral_loadtest.bars.background import loaded
from corral_loadtest.bars.bar import Bar, shown
from corral_loadtest.bars.bench import Bench, inferences
from corral_loadtest.bars.null_rows import NULL
from corral_loadtest.result import Result
from corral_loadtest.specification import OpenLoop

_WORKERS = 2
_ITEM_MS = 20
#: of the workers' time that interactive requests take
_SHARE = 0.2
#: clients of the flood: enough to fill bulk's line, and no more
_BULK = ("--clients", "16", "--priority", "2")
#: of the p99 without a flood
_MOST = 1.5


def priority(bench: Bench) -> list[Bar]:
    """Interactive requests' p99 under a flood of bulk, by the same alone."""
    ratios, alone_ms, beside_ms, bulk_per_s = [], [], [], []
    workers = ("--workers", str(_WORKERS), "--oversubscribe", "--null-item-ms", str(_ITEM_MS))
    rate_per_s = _SHARE * _WORKERS * 1000 / _ITEM_MS
    seconds = 5 * bench.seconds
    with bench.server(*NULL, *workers) as server:
        for number in range(bench.rounds):
            # The same arrivals twice.
            load = OpenLoop(rate_per_s=rate_per_s, seed=number)
            alone = _p99_ms(bench.load(server, load, seconds=seconds))
            with loaded(server, *_BULK):
                count, began_s = inferences(server), time.monotonic()
                found = bench.load(server, load, seconds=seconds)
                answered = inferences(server) - count
                bulk_per_s.append(answered / (time.monotonic() - began_s) - found.requests_per_s)
            alone_ms.append(alone)
            beside_ms.append(_p99_ms(found))
            ratios.append(beside_ms[-1] / alone)
    return [
        Bar(
            row="priority",
            name=f"interactive p99 under a flood of bulk ÷ alone, {rate_per_s:g}/s",
            values=ratios,
            bound=_MOST,
            at_least=False,
            detail=f"{shown(beside_ms)} ms, alone {shown(alone_ms)} ms; bulk {shown(bulk_per_s)}/s",
        )
    ]


def _p99_ms(found: Result) -> float:
    if found.latency is None or found.error_share:
        raise RuntimeError(f"interactive requests failed: {found.statuses}")
    return found.latency.p99_ms
