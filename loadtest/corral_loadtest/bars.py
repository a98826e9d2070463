"""Scenarios with a bar to clear, one command each: ``corral-loadtest bars --rows NAME ...``.

Every row starts its own servers on free ports, measures them in turn, ``--rounds`` times, and
compares medians. Load generators run on the same machine and take their part of it.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from corral_loadtest.floor import beside
from corral_loadtest.processes import free_port, serving
from corral_loadtest.result import Result
from corral_loadtest.running import run
from corral_loadtest.specification import (
    ClosedLoop,
    Floor,
    InputKind,
    OpenLoop,
    Payload,
    Specification,
    Target,
)

CLIENTS = 17


@dataclasses.dataclass(frozen=True)
class Bar:
    """One line: a figure, in rounds, and the bound that its median is held to.

    Attributes:
        name: what was measured.
        values: one a round.
        bound: None where there is only a figure.
        at_least: the bound is from below.
    """

    name: str
    values: list[float]
    bound: float | None = None
    at_least: bool = True

    @property
    def median(self) -> float:
        """Of the rounds."""
        return statistics.median(self.values)

    @property
    def cleared(self) -> bool | None:
        """Whether the median keeps the bound; None without one."""
        if self.bound is None:
            return None
        return self.median >= self.bound if self.at_least else self.median <= self.bound


@dataclasses.dataclass(frozen=True)
class Bench:
    """How long, how often, and with which server."""

    corral: str
    seconds: float
    overload_seconds: float
    rounds: int
    model_options: list[str]

    @contextlib.contextmanager
    def server(self, *options: str) -> Iterator[tuple[int, int]]:
        """(port, pid) of a server of ours."""
        port = free_port()
        where = ["--port", str(port), "--metrics-port", "0", "--log-level", "warning"]
        with serving([self.corral, "serve", *where, *options], port) as pid:
            yield port, pid

    def load(
        self,
        server: tuple[int, int],
        load: ClosedLoop | OpenLoop,
        kind: InputKind = InputKind.UINT8,
        connections: int | None = None,
        seconds: float | None = None,
    ) -> Result:
        """One measurement; its errors are the row's to judge.

        Raises:
            KeyboardInterrupt: it was interrupted.
        """
        found = run(
            Specification(
                target=Target(address=f"127.0.0.1:{server[0]}"),
                payload=Payload(kind=kind),
                load=load,
                duration_s=seconds or self.seconds,
                connections=connections,
                processes=1,
                server_pid=server[1],
                max_error_share=1.0,
            )
        )
        for remark in found.remarks:
            print(f"  {remark}", file=sys.stderr)
        if not found.complete:
            raise KeyboardInterrupt
        return found


def _null(*options: str) -> list[str]:
    return ["--backend", "null", *options]


def connections(bench: Bench) -> list[Bar]:
    """One connection by eight, same clients."""
    ratios = []
    with bench.server(*_null()) as server:
        for _ in range(bench.rounds):
            one = bench.load(server, ClosedLoop(clients=16), connections=1)
            eight = bench.load(server, ClosedLoop(clients=16), connections=8)
            ratios.append(one.requests_per_s / eight.requests_per_s)
    return [Bar("one connection / eight, UINT8", ratios, 0.97)]


def overload(bench: Bench) -> list[Bar]:
    """Three times the capacity of two workers that sleep 40 ms."""
    goodput, refusal_ms = [], []
    options = _null("--workers", "2", "--null-item-ms", "40", "--oversubscribe")
    with bench.server(*options) as server:
        for _ in range(bench.rounds):
            load = OpenLoop(rate_per_s=150)
            found = bench.load(server, load, seconds=bench.overload_seconds)
            goodput.append(found.requests_per_s / 50)
            refused = found.latency_by_status.get("RESOURCE_EXHAUSTED")
            # Without a refusal there is no time to keep within the bound.
            refusal_ms.append(refused.p99_ms if refused else float("inf"))
    return [
        Bar("3x overload, goodput / capacity", goodput, 0.97),
        Bar("3x overload, refusals p99, ms", refusal_ms, 5.0, at_least=False),
    ]


def oversubscribed(bench: Bench) -> list[Bar]:
    """32 workers that sleep 4 ms, against what one ingress carries without sleeping."""
    ratios = []
    many = _null("--workers", "32", "--oversubscribe", "--null-batch-ms", "4", "--max-batch", "1")
    with bench.server(*many) as sleeping, bench.server(*_null()) as idle:
        for _ in range(bench.rounds):
            carried = bench.load(idle, ClosedLoop(clients=64)).requests_per_s
            found = bench.load(sleeping, ClosedLoop(clients=64)).requests_per_s
            ratios.append(found / min(8000.0, carried))
    return [Bar("32 sleeping workers / min(8,000, one ingress)", ratios, 0.9)]


def _poisson(bench: Bench, name: str, options: list[str]) -> list[Bar]:
    bars: dict[int, list[float]] = {50: [], 70: []}
    with bench.server("--workers", "2", "--cores-per-worker", "1", *options) as server:
        for number in range(bench.rounds):
            alone = bench.load(server, ClosedLoop(clients=1), InputKind.FP32)
            assert alone.latency
            service_ms = alone.latency.p50_ms
            for percent, ratios in bars.items():
                rate = percent / 100 * 2 / service_ms * 1000
                found = bench.load(server, OpenLoop(rate_per_s=rate, seed=number), InputKind.FP32)
                floor = Floor(workers=2, service_ms=service_ms)
                wanted = msgspec.structs.replace(found.specification, floor=floor)
                both = beside(msgspec.structs.replace(found, specification=wanted), service_ms)
                assert both.floor
                ratios.append(both.floor.ratio_p99 or float("inf"))
    return [
        Bar(f"{name}, Poisson at {percent} %, p99 / floor", ratios, 1.15, at_least=False)
        for percent, ratios in bars.items()
    ]


def poisson(bench: Bench) -> list[Bar]:
    """The real model under Poisson arrivals beside the simulated queue."""
    return _poisson(bench, "model", bench.model_options)


def poisson_null(bench: Bench) -> list[Bar]:
    """The same with workers that sleep 20 ms: what the server alone adds."""
    return _poisson(bench, "null, 20 ms", _null("--null-item-ms", "20"))


def cells(bench: Bench) -> list[Bar]:
    """One, two and four cells with as many workers and connections."""
    rates: dict[int, list[float]] = {1: [], 2: [], 4: []}
    with contextlib.ExitStack() as stack:
        options = _null("--workers", "4", "--oversubscribe")
        servers = {n: stack.enter_context(bench.server(*options, "--cells", str(n))) for n in rates}
        for _ in range(bench.rounds):
            for count, server in servers.items():
                found = bench.load(server, ClosedLoop(clients=16), connections=8)
                rates[count].append(found.requests_per_s)
    bars = [Bar("1 cell, requests/s", rates[1])]
    for count in (2, 4):
        ratios = [a / b for a, b in zip(rates[count], rates[1], strict=True)]
        bars.append(Bar(f"{count} cells / 1 cell", ratios, 1.0))
    return bars


def cpu(bench: Bench) -> list[Bar]:
    """The server's CPU time a request, null backend, 17 clients."""
    found: dict[InputKind, list[float]] = {InputKind.UINT8: [], InputKind.FP32: []}
    with bench.server(*_null()) as server:
        for _ in range(bench.rounds):
            for kind, values in found.items():
                used = bench.load(server, ClosedLoop(clients=CLIENTS), kind).server
                values.append((used.cpu_s_per_request or 0.0) * 1e6)
    bounds = {InputKind.UINT8: 400.0, InputKind.FP32: 800.0}
    return [
        Bar(f"server CPU a request, {kind.upper()}, us", values, bounds[kind], at_least=False)
        for kind, values in found.items()
    ]


ROWS: dict[str, Callable[[Bench], list[Bar]]] = {
    "connections": connections,
    "overload": overload,
    "oversubscribed": oversubscribed,
    "poisson": poisson,
    "poisson-null": poisson_null,
    "cells": cells,
    "cpu": cpu,
}


def table(bars: list[Bar]) -> str:
    """As Markdown; a bar that was missed says so."""
    lines = ["| what | median | range | bar | |", "| --- | --- | --- | --- | --- |"]
    for bar in bars:
        bound = verdict = ""
        if bar.bound is not None:
            bound = f"{'at least' if bar.at_least else 'at most'} {bar.bound:g}"
            verdict = "cleared" if bar.cleared else "missed"
        spread = f"{min(bar.values):.3g} to {max(bar.values):.3g}"
        lines.append(f"| {bar.name} | {bar.median:.4g} | {spread} | {bound} | {verdict} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Entry of ``corral-loadtest bars``; exit code 1 if a bar was missed."""
    parser = argparse.ArgumentParser(prog="corral-loadtest bars", description=__doc__)
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--rounds", type=int, default=5, help="repeats (default: 5)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of one measurement")
    parser.add_argument("--overload-seconds", type=float, default=60.0)
    parser.add_argument(
        "--model-options", default="--backend openvino --precision int8", help="of the row poisson"
    )
    parser.add_argument("--corral", default=str(Path(sys.executable).parent / "corral"))
    parser.add_argument("--json", type=Path, help="write every round's figures here")
    given = parser.parse_args(arguments)
    bench = Bench(
        corral=given.corral,
        seconds=given.seconds,
        overload_seconds=given.overload_seconds,
        rounds=given.rounds,
        model_options=given.model_options.split(),
    )
    bars: list[Bar] = []
    try:
        for row in given.rows:
            print(row, file=sys.stderr)
            bars += ROWS[row](bench)
    except KeyboardInterrupt:
        print("interrupted: what was measured so far", file=sys.stderr)
    print(table(bars))
    if given.json:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(bars), indent=1))
    sys.exit(1 if any(bar.cleared is False for bar in bars) else 0)
