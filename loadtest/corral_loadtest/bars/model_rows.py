"""Rows with the real model: served by raw, idle latency over raw."""

from __future__ import annotations

import contextlib

from corral_loadtest.bars.bar import Bar, shown
from corral_loadtest.bars.bench import Answered, Bench, Raw, cores
from corral_loadtest.servers import machine
from corral_loadtest.specification import InputKind

CLIENTS = 16
INFERENCE = "CPU of an inference alone, FP32, ms"
#: of the engine's best arrangement: with AMX an inference is short beside what a request costs
_OF_THE_BEST = {InputKind.FP32: 0.98, InputKind.UINT8: 0.98}
_OF_THE_BEST_WITH_AMX = {InputKind.FP32: 0.88, InputKind.UINT8: 0.93}
_BOUNDS = {InputKind.FP32: 0.98, InputKind.UINT8: 0.98, InputKind.JPEG: 0.95}


def served(bench: Bench) -> list[Bar]:
    """ResNet50 behind the server in both modes by the engine alone, for each kind of input."""
    model = bench.prepare()
    raw: dict[InputKind, list[Raw]] = {kind: [] for kind in _BOUNDS}
    modes = {"throughput": ["--mode", "throughput", "--workers", str(cores())], "rti": []}
    full: dict[tuple[str, InputKind], list[Answered]] = {
        (mode, kind): [] for mode in modes for kind in _BOUNDS
    }
    idle: list[Answered] = []
    best_raw_per_s: dict[InputKind, list[float]] = {kind: [] for kind in _OF_THE_BEST}
    with contextlib.ExitStack() as stack:
        servers = {
            mode: stack.enter_context(bench.server(*bench.model_options, *options))
            for mode, options in modes.items()
        }
        for _ in range(bench.rounds):
            for kind in _BOUNDS:
                raw[kind].append(bench.raw(model, kind))
                if kind is InputKind.FP32:
                    # Right after raw: a millisecond is less than what this machine drifts.
                    alone = bench.closed(servers["rti"], kind, 1, bench.model_seconds)
                    idle.append(alone)
                for mode, server in servers.items():
                    if mode == "throughput" or kind is InputKind.FP32:
                        found = bench.closed(server, kind, CLIENTS, bench.model_seconds)
                        full[mode, kind].append(found)
                if kind in best_raw_per_s:
                    best_raw_per_s[kind].append(bench.best_raw_per_s(model))
    bars = [_by_raw(mode, kind, found, raw[kind]) for (mode, kind), found in full.items() if found]
    return [
        *bars,
        *(
            _by_best(kind, full["throughput", kind], per_s)
            for kind, per_s in best_raw_per_s.items()
        ),
        *_idle(idle, raw[InputKind.FP32]),
        Bar(row="served", name=INFERENCE, values=[one.cpu_ms for one in raw[InputKind.FP32]]),
    ]


def _by_raw(mode: str, kind: InputKind, found: list[Answered], raw: list[Raw]) -> Bar:
    ratios = [a.per_s / b.images_per_s for a, b in zip(found, raw, strict=True)]
    return Bar(
        row="served",
        name=f"ResNet50 INT8 served ÷ raw, {kind.upper()}, {CLIENTS} clients, {mode}",
        values=ratios,
        # The bar is for the mode that is meant for as many answers as possible.
        bound=_BOUNDS[kind] if mode == "throughput" else None,
        detail=f"{shown(a.per_s for a in found)}/s, "
        f"raw {shown(b.images_per_s for b in raw)}/s; "
        f"server CPU {shown(a.cpu_s_per_request * 1e3 for a in found)} ms a request",
    )


def _by_best(kind: InputKind, found: list[Answered], best_per_s: list[float]) -> Bar:
    bounds = _OF_THE_BEST_WITH_AMX if machine.has_amx() else _OF_THE_BEST
    return Bar(
        row="served",
        name=f"ResNet50 INT8 served ÷ benchmark_app (throughput), {kind.upper()}, "
        f"{CLIENTS} clients",
        values=[a.per_s / per_s for a, per_s in zip(found, best_per_s, strict=True)],
        bound=bounds[kind],
        detail=f"{shown(a.per_s for a in found)}/s, benchmark_app {shown(best_per_s)}/s",
    )


def _idle(found: list[Answered], raw: list[Raw]) -> list[Bar]:
    pairs = list(zip(found, raw, strict=True))
    return [
        Bar(
            row="served",
            name="idle, FP32, 1 client, rti: p50 - raw, ms",
            values=[a.p50_ms - b.p50_ms for a, b in pairs],
            bound=0.8,
            at_least=False,
            detail=f"{shown(a.p50_ms for a, _ in pairs)} ms, "
            f"raw {shown(b.p50_ms for _, b in pairs)} ms",
        ),
        Bar(
            row="served",
            name="idle, FP32, 1 client, rti: p99 ÷ raw's p99",
            values=[a.p99_ms / b.p99_ms for a, b in pairs],
            bound=1.15,
            at_least=False,
            detail=f"{shown(a.p99_ms for a, _ in pairs)} ms, "
            f"raw {shown(b.p99_ms for _, b in pairs)} ms",
        ),
    ]
