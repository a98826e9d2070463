"""Rows with the null backend: what the data path costs, alone and beside a baseline server."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections import defaultdict
from collections.abc import Mapping

from corral_loadtest.bars.bar import Bar, shown
from corral_loadtest.bars.bench import TUNED, Answered, Bench, worker_items
from corral_loadtest.specification import ClosedLoop, InputKind

CLIENTS = 17
CARRIED = "null, UINT8, one frontend carries, requests/s"
NULL = ("--backend", "null")
_KINDS = (InputKind.FP32, InputKind.UINT8)
_RATIO = {InputKind.FP32: 1.5, InputKind.UINT8: 1.6}
_MORE_MS = -0.1
#: of gRPC's rate
_REST = 0.9
_CPU_US = {InputKind.FP32: 400.0, InputKind.UINT8: 200.0}
_BASELINES: Mapping[str, Mapping[str, str]] = {"baseline": {}, "baseline, tuned": TUNED}

Found = dict[tuple[str, InputKind, int], list[Answered]]


def null(bench: Bench) -> list[Bar]:
    """The null backend by two baseline servers, 17 clients and one, both datatypes."""
    found: Found = defaultdict(list)
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(bench.server(*NULL))
        servers = {
            (name, kind): stack.enter_context(bench.baseline(kind, environment))
            for name, environment in _BASELINES.items()
            for kind in _KINDS
        }
        for _ in range(bench.rounds):
            for kind in _KINDS:
                for clients in (CLIENTS, 1):
                    for name in ("null", *_BASELINES):
                        server = servers.get((name, kind), ours)
                        answered = bench.closed(server, kind, clients, bench.seconds)
                        found[name, kind, clients].append(answered)
    bars = [_rate(found, kind, name) for kind in _KINDS for name in _BASELINES]
    carried = [one.per_s for one in found["null", InputKind.UINT8, CLIENTS]]
    bars.append(Bar(row="null", name=CARRIED, values=carried))
    bars += [_alone(found, kind, name) for kind in _KINDS for name in _BASELINES]
    return bars + [_cpu(found, kind) for kind in _KINDS]


def _rate(found: Found, kind: InputKind, other: str) -> Bar:
    pairs = list(zip(found["null", kind, CLIENTS], found[other, kind, CLIENTS], strict=True))
    return Bar(
        row="null",
        name=f"null ÷ {other}, {kind.upper()}, {CLIENTS} clients",
        values=[a.per_s / b.per_s for a, b in pairs],
        bound=_RATIO[kind],
        detail=f"{shown(a.per_s for a, _ in pairs)}/s, "
        f"{other} {shown(b.per_s for _, b in pairs)}/s",
    )


def _alone(found: Found, kind: InputKind, other: str) -> Bar:
    pairs = list(zip(found["null", kind, 1], found[other, kind, 1], strict=True))
    return Bar(
        row="null",
        name=f"null - {other}, {kind.upper()}, 1 client, p50, ms",
        values=[a.p50_ms - b.p50_ms for a, b in pairs],
        bound=_MORE_MS,
        at_least=False,
        detail=f"{shown(a.p50_ms for a, _ in pairs)} ms, "
        f"{other} {shown(b.p50_ms for _, b in pairs)} ms",
    )


def _cpu(found: Found, kind: InputKind) -> Bar:
    def used_us(name: str) -> list[float]:
        return [one.cpu_s_per_request * 1e6 for one in found[name, kind, CLIENTS]]

    others = ", ".join(f"{name} {shown(used_us(name))} µs" for name in _BASELINES)
    return Bar(
        row="null",
        name=f"server CPU a request, {kind.upper()}, {CLIENTS} clients, µs",
        values=used_us("null"),
        bound=_CPU_US[kind],
        at_least=False,
        detail=others,
    )


def connections(bench: Bench) -> list[Bar]:
    """One connection by eight, same clients."""
    one: list[float] = []
    eight: list[float] = []
    with bench.server(*NULL) as server:
        for _ in range(bench.rounds):
            for count, rates in ((1, one), (8, eight)):
                found = bench.load(server, ClosedLoop(clients=16), connections=count)
                rates.append(found.requests_per_s)
    return [
        Bar(
            row="connections",
            name="one connection ÷ eight, null, UINT8, 16 clients",
            values=[a / b for a, b in zip(one, eight, strict=True)],
            bound=0.97,
            detail=f"{shown(one)}/s, eight {shown(eight)}/s",
        )
    ]


def rest(bench: Bench) -> list[Bar]:
    """The REST form with binary tensors by gRPC: one server, one generator."""
    found: Found = defaultdict(list)
    with bench.server(*NULL) as server:
        for _ in range(bench.rounds):
            for kind in _KINDS:
                for clients in (CLIENTS, 1):
                    for protocol in ("http", "grpc"):
                        answered = bench.closed(
                            server, kind, clients, bench.seconds, protocol=protocol
                        )
                        found[protocol, kind, clients].append(answered)
    return [_protocols(found, kind, clients) for clients in (CLIENTS, 1) for kind in _KINDS]


def _protocols(found: Found, kind: InputKind, clients: int) -> Bar:
    pairs = list(zip(found["http", kind, clients], found["grpc", kind, clients], strict=True))
    held = kind is InputKind.UINT8 and clients == CLIENTS
    return Bar(
        row="rest",
        name=f"REST, binary ÷ gRPC, null, {kind.upper()}, {clients} clients",
        values=[a.per_s / b.per_s for a, b in pairs],
        bound=_REST if held else None,
        detail=_beside(pairs, "gRPC"),
    )


def oversubscribed(bench: Bench) -> list[Bar]:
    """32 workers that sleep 4 ms, by what one frontend carries whose workers do not sleep.

    Both run one item at a time: 8,000/s is what 32 such workers make without batches.
    """
    carried: list[float] = []
    answered: list[float] = []
    uneven: list[float] = []
    single = (*NULL, "--max-batch", "1")
    many = ("--workers", "32", "--oversubscribe", "--null-batch-ms", "4")
    with bench.server(*single, *many) as sleeping, bench.server(*single) as idle:
        for _ in range(bench.rounds):
            load = ClosedLoop(clients=64)
            carried.append(bench.load(idle, load).requests_per_s)
            before = worker_items(sleeping)
            answered.append(bench.load(sleeping, load).requests_per_s)
            counts = [count - before[name] for name, count in worker_items(sleeping).items()]
            uneven.append(unevenness(counts))
    return [
        Bar(
            row="oversubscribed",
            name="32 workers that sleep 4 ms ÷ min(8,000/s, one frontend)",
            values=[a / min(8000.0, b) for a, b in zip(answered, carried, strict=True)],
            bound=0.95,
            detail=f"{shown(answered)}/s, one frontend {shown(carried)}/s",
        ),
        Bar(
            row="oversubscribed",
            name="their counts, furthest from the mean, %",
            values=[100 * share for share in uneven],
            bound=5.0,
            at_least=False,
        ),
    ]


def unevenness(counts: list[float]) -> float:
    """How far the furthest count lies from their mean, as a share of it; infinite if all are 0."""
    mean = sum(counts) / len(counts)
    return max(abs(count - mean) for count in counts) / mean if mean else float("inf")


def cells(bench: Bench) -> list[Bar]:
    """One, two and four cells with as many workers and connections."""
    rates: dict[int, list[float]] = {1: [], 2: [], 4: []}
    with contextlib.ExitStack() as stack:
        options = (*NULL, "--workers", "4", "--oversubscribe")
        servers = {n: stack.enter_context(bench.server(*options, "--cells", str(n))) for n in rates}
        for _ in range(bench.rounds):
            for count, server in servers.items():
                found = bench.load(server, ClosedLoop(clients=16), connections=8)
                rates[count].append(found.requests_per_s)
    return [
        Bar(
            row="cells",
            name=f"{count} cells ÷ 1 cell, null, UINT8, 16 clients on 8 connections",
            values=[a / b for a, b in zip(rates[count], rates[1], strict=True)],
            bound=1.0,
            detail=f"{shown(rates[count])}/s, 1 cell {shown(rates[1])}/s",
        )
        for count in (2, 4)
    ]


def unix_socket(bench: Bench) -> list[Bar]:
    """The same server by its unix socket and by its port."""
    found: Found = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="corral-") as folder:
        path = f"{folder}/grpc.sock"
        with bench.server(*NULL, "--unix-socket", path) as port:
            ways = {"port": port, "unix": dataclasses.replace(port, address=f"unix:{path}")}
            for _ in range(bench.rounds):
                for kind in _KINDS:
                    for clients in (CLIENTS, 1):
                        for name, server in ways.items():
                            answered = bench.closed(server, kind, clients, bench.seconds)
                            found[name, kind, clients].append(answered)
    return [_socket(found, kind, clients) for kind in _KINDS for clients in (CLIENTS, 1)]


def _socket(found: Found, kind: InputKind, clients: int) -> Bar:
    pairs = list(zip(found["unix", kind, clients], found["port", kind, clients], strict=True))
    return Bar(
        row="unix-socket",
        name=f"unix socket ÷ port, null, {kind.upper()}, {clients} clients",
        values=[a.per_s / b.per_s for a, b in pairs],
        detail=_beside(pairs, "port"),
    )


def _beside(pairs: list[tuple[Answered, Answered]], other: str) -> str:
    """The figures of one way and of another."""
    return (
        f"{shown(a.per_s for a, _ in pairs)}/s, {other} {shown(b.per_s for _, b in pairs)}/s; "
        f"p50 {shown(a.p50_ms for a, _ in pairs)} ms, "
        f"{other} {shown(b.p50_ms for _, b in pairs)} ms; "
        f"server CPU {shown(a.cpu_s_per_request * 1e6 for a, _ in pairs)} µs, "
        f"{other} {shown(b.cpu_s_per_request * 1e6 for _, b in pairs)} µs"
    )
