"""Rows with open loops: overload, and Poisson arrivals beside what queueing alone costs."""

from __future__ import annotations

import numpy as np

from corral_loadtest.bars.bar import Bar, shown
from corral_loadtest.bars.bench import Bench, Server
from corral_loadtest.bars.null_rows import NULL
from corral_loadtest.generator import arrivals, histograms
from corral_loadtest.result import Result
from corral_loadtest.simulate import queueing as queue_simulation
from corral_loadtest.simulate.queueing import Times
from corral_loadtest.specification import ClosedLoop, InputKind, OpenLoop

_WORKERS = 2
_SLEEP_MS = 40
_SHARES = (50, 70)
# A client a worker and some that wait: the workers never lack a request, and the queue is short.
_FILLING = 4 * _WORKERS


def overload(bench: Bench) -> list[Bar]:
    """Three times the capacity of two workers that sleep 40 ms."""
    capacity_per_s = _WORKERS * 1000 / _SLEEP_MS
    goodput, refusal_ms = [], []
    options = ("--workers", str(_WORKERS), "--null-item-ms", str(_SLEEP_MS))
    with bench.server(*NULL, *options, "--oversubscribe") as server:
        # Its time is its own: one long overload says more than several short ones.
        for _ in range(max(1, round(bench.overload_seconds / 60))):
            load = OpenLoop(rate_per_s=3 * capacity_per_s)
            found = bench.load(server, load, seconds=min(60.0, bench.overload_seconds))
            goodput.append(found.requests_per_s / capacity_per_s)
            refused = found.latency_by_status.get("RESOURCE_EXHAUSTED")
            # Without a refusal there is no time to keep within the bound.
            refusal_ms.append(refused.p99_ms if refused else float("inf"))
    return [
        Bar(
            row="overload",
            name=f"3-fold overload, {bench.overload_seconds:g} s, UINT8: goodput ÷ capacity",
            values=goodput,
            bound=0.97,
        ),
        Bar(
            row="overload",
            name="3-fold overload: refusals' p99, ms",
            values=refusal_ms,
            bound=5.0,
            at_least=False,
        ),
    ]


def floor_of(load: OpenLoop, service_s: float, span_s: tuple[float, float]) -> Times:
    """Sojourns in seconds of exactly the requests that were sent between two times; shape [n].

    The same arrivals are played through two workers without any overhead, so that a run with
    many arrivals close together is not held against the server.
    """
    offsets = arrivals.schedule(load, span_s[1])
    found = queue_simulation.sojourns(offsets, workers=_WORKERS, service=service_s)
    inside: Times = found[(offsets >= span_s[0]) & (offsets < span_s[1])]
    return inside


def _poisson(
    bench: Bench, row: str, what: str, options: tuple[str, ...], seconds: float
) -> list[Bar]:
    results: dict[int, list[tuple[Result, Times]]] = {percent: [] for percent in _SHARES}
    service_ms: list[float] = []
    alone_ms: list[float] = []
    workers = ("--workers", str(_WORKERS), "--cores-per-worker", "1")
    with bench.server(*workers, *options) as server:
        for number in range(bench.rounds):
            alone = bench.load(server, ClosedLoop(clients=1), InputKind.FP32)
            alone_ms.append(alone.latency.p50_ms if alone.latency else float("nan"))
            full = bench.load(
                server, ClosedLoop(clients=_FILLING), InputKind.FP32, seconds=seconds / 2
            )
            service_s = _WORKERS / full.requests_per_s
            service_ms.append(service_s * 1000)
            for percent, found in results.items():
                rate_per_s = percent / 100 * full.requests_per_s
                load = OpenLoop(rate_per_s=rate_per_s, seed=100 * percent + number)
                found.append(_beside(bench, server, load, service_s, seconds))
    behind = f"capacity {shown(2000 / one for one in service_ms)}/s; one alone {shown(alone_ms)} ms"
    return [_ratio(row, f"{what}, Poisson at {p} %", found, behind) for p, found in results.items()]


def _beside(
    bench: Bench, server: Server, load: OpenLoop, service_s: float, seconds: float
) -> tuple[Result, Times]:
    found = bench.load(server, load, InputKind.FP32, seconds=seconds)
    span_s = (found.warm_up_s, found.warm_up_s + found.measured_s)
    return found, floor_of(load, service_s, span_s)


def _p99_ms(histogram: str | list[str]) -> float:
    parts = [histogram] if isinstance(histogram, str) else histogram
    return histograms.percentile_ms(histograms.merged(parts), 99)


def _floor_p99_ms(floors: list[Times]) -> float:
    return float(np.percentile(np.concatenate(floors), 99)) * 1000


def _ratio(row: str, name: str, found: list[tuple[Result, Times]], behind: str) -> Bar:
    measured_ms = _p99_ms([one.histogram for one, _ in found])
    floor_ms = _floor_p99_ms([floor for _, floor in found])
    failed = sum(one.sent - one.statuses.get("OK", 0) for one, _ in found)
    return Bar(
        row=row,
        name=f"{name} of capacity, 2 one-core workers: p99 ÷ simulated floor",
        values=[_p99_ms(one.histogram) / _floor_p99_ms([floor]) for one, floor in found],
        bound=1.15,
        at_least=False,
        # Unanswered requests have no latency; a percentile without them would flatter.
        pooled=measured_ms / floor_ms if not failed else float("inf"),
        detail=f"{measured_ms:.4g} ms, floor {floor_ms:.4g} ms; {behind}"
        + (f"; {failed} requests failed" if failed else ""),
    )


def poisson(bench: Bench) -> list[Bar]:
    """The real model under Poisson arrivals beside the simulated queue."""
    return _poisson(bench, "poisson", "ResNet50 INT8", bench.model_options, 4 * bench.seconds)


def poisson_null(bench: Bench) -> list[Bar]:
    """The same with workers that sleep 20 ms: what the server alone adds."""
    options = (*NULL, "--null-item-ms", "20")
    return _poisson(bench, "poisson-null", "null, 20 ms", options, 2.5 * bench.seconds)
