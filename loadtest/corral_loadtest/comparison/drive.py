"""The load of the comparison: closed and open loops over a sender, the same for every protocol.

``corral-loadtest`` itself speaks gRPC alone; here one generator, in one process, drives them all,
so that no row has the better tool.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from corral_loadtest.comparison.senders import OK, Sender
from corral_loadtest.generator import arrivals, histograms

UNANSWERED = "UNANSWERED"


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What one load on one server showed.

    Attributes:
        offered_per_s: of an open loop; None in a closed one.
        seconds: measured.
        answered: in that time.
        failed: by what went wrong.
        histogram: latencies of what was answered, encoded; an open loop's count from the
            intended time.
        cpu_s: the server's, in that time.
    """

    offered_per_s: float | None
    seconds: float
    answered: int
    failed: dict[str, int]
    histogram: str
    cpu_s: float

    @property
    def per_s(self) -> float:
        """Answers a second."""
        return self.answered / self.seconds

    @property
    def saturated(self) -> bool:
        """The server did not keep up with an open loop, or failed requests."""
        sent = self.answered + sum(self.failed.values())
        if self.failed and sum(self.failed.values()) > 0.01 * sent:
            return True
        return self.offered_per_s is not None and self.per_s < 0.9 * self.offered_per_s


class _Tally:
    def __init__(self) -> None:
        self.histogram: Any = histograms.empty()
        self.answered = 0
        self.failed: Counter[str] = Counter()

    def add(self, status: str, latency_s: float) -> None:
        if status == OK:
            self.answered += 1
            histograms.record(self.histogram, latency_s)
        else:
            self.failed[status] += 1

    def load(self, offered_per_s: float | None, seconds: float, cpu_s: float) -> Load:
        return Load(
            offered_per_s=offered_per_s,
            seconds=seconds,
            answered=self.answered,
            failed=dict(self.failed),
            histogram=histograms.encoded(self.histogram),
            cpu_s=cpu_s,
        )


async def closed(
    sender: Sender, clients: int, seconds: float, cpu_s: Callable[[], float], lead_s: float = 1.0
) -> Load:
    """``clients`` clients that each send the next request when the last was answered.

    Args:
        sender: to the server.
        clients: that send.
        seconds: measured: answers that arrive in that time count.
        cpu_s: the server's CPU time so far.
        lead_s: sent before, so that the measured part begins and ends with the queue full.
    """
    tally = _Tally()
    begin_s = time.perf_counter() + lead_s
    end_s = begin_s + seconds

    async def client() -> None:
        while (sent_s := time.perf_counter()) < end_s:
            status, _ = await sender.send()
            now_s = time.perf_counter()
            if begin_s <= now_s <= end_s:
                tally.add(status, now_s - sent_s)
            if status != OK:
                await asyncio.sleep(0.01)

    tasks = [asyncio.create_task(client()) for _ in range(clients)]
    await asyncio.sleep(lead_s)
    used_s = cpu_s()
    await asyncio.sleep(end_s - time.perf_counter())
    used_s = cpu_s() - used_s
    await asyncio.wait(tasks, timeout=60)
    await _cancel(tasks)
    return tally.load(None, seconds, used_s)


async def open_loop(
    sender: Sender,
    rate_per_s: float,
    seconds: float,
    seed: int,
    cpu_s: Callable[[], float],
    *,
    drain_s: float = 10.0,
) -> Load:
    """Poisson arrivals at a mean rate, whether or not the server keeps up.

    What is not answered ``drain_s`` after the end counts as failed; answers that come in that time
    count for their latency, so that a slow server's tail is not cut off.
    """
    tally = _Tally()
    offsets = arrivals.poisson(rate_per_s, seconds, seed)
    used_s = cpu_s()
    begin_s = time.perf_counter()

    async def one(intended_s: float) -> None:
        status, _ = await sender.send()
        tally.add(status, time.perf_counter() - intended_s)

    tasks: list[asyncio.Task[None]] = []
    for offset_s in offsets:
        await asyncio.sleep(max(0.0, begin_s + float(offset_s) - time.perf_counter()))
        tasks.append(asyncio.create_task(one(begin_s + float(offset_s))))
    took_s = seconds
    if tasks:
        await asyncio.wait(tasks, timeout=max(0.0, begin_s + seconds + drain_s - _now()))
        # A backlog that needs the drain to be answered is no rate that the server carries.
        took_s = max(seconds, _now() - begin_s)
    unanswered = [task for task in tasks if not task.done()]
    if unanswered:
        tally.failed[UNANSWERED] += len(unanswered)
        await _cancel(unanswered)
    return tally.load(len(offsets) / seconds, took_s, cpu_s() - used_s)


def _now() -> float:
    return time.perf_counter()


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
