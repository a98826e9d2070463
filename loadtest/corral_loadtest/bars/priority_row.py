"""The row of priorities: what interactive requests wait for under a flood of bulk."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator

from corral_loadtest.bars.bar import Bar, shown
from corral_loadtest.bars.bench import Bench, Server, inferences
from corral_loadtest.bars.null_rows import NULL
from corral_loadtest.result import Result
from corral_loadtest.specification import OpenLoop

_WORKERS = 2
_ITEM_MS = 20
#: of the workers' time that interactive requests take
_SHARE = 0.2
#: clients of the flood: enough to fill bulk's line, and no more
_BULK_CLIENTS = 16
#: of the p99 without a flood
_MOST = 1.5
#: the flood has begun with so many answers, within that
_FIRST = 20
_PATIENCE_S = 60.0


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
            with _flood(server):
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


@contextlib.contextmanager
def _flood(server: Server) -> Iterator[None]:
    """Bulk requests all the time, from another process."""
    command = [sys.executable, "-m", "corral_loadtest", "run", "--address", server.address]
    command += ["--clients", str(_BULK_CLIENTS), "--priority", "2", "--duration", "600"]
    command += ["--input", "uint8", "--processes", "1", "--max-error-share", "1"]
    count = inferences(server)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as flood:
        try:
            until_s = time.monotonic() + _PATIENCE_S
            while inferences(server) < count + _FIRST:
                if flood.poll() is not None or time.monotonic() > until_s:
                    raise RuntimeError("the flood of bulk did not begin")
                time.sleep(0.05)
            yield
        finally:
            flood.terminate()
