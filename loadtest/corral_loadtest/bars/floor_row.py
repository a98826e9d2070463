"""The row of the floor: what corral's way of serving costs with nothing in it, and corral by it."""

from __future__ import annotations

import contextlib
from collections import defaultdict

from corral_loadtest.bars.bar import Bar, shown
from corral_loadtest.bars.bench import TUNED, Answered, Bench
from corral_loadtest.bars.null_rows import CLIENTS, NULL
from corral_loadtest.specification import InputKind

_FLOOR, _BASELINE = "floor", "baseline"


def floor(bench: Bench) -> list[Bar]:
    """h2corn and a worker process that do nothing else, by the tuned baseline; and corral by both.

    It says how much of the bars of the row ``null`` is to be had at all on a machine.
    """
    found: dict[tuple[str, InputKind], list[Answered]] = defaultdict(list)
    kinds = (InputKind.FP32, InputKind.UINT8)
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(bench.server(*NULL))
        servers = {("null", kind): ours for kind in kinds}
        for name in (_FLOOR, _BASELINE):
            for kind in kinds:
                server = bench.baseline(kind, TUNED, name)
                servers[name, kind] = stack.enter_context(server)
        for _ in range(bench.rounds):
            for kind in kinds:
                for name in ("null", _FLOOR, _BASELINE):
                    answered = bench.closed(servers[name, kind], kind, CLIENTS, bench.seconds)
                    found[name, kind].append(answered)
    return [bar for kind in kinds for bar in _bars(found, kind)]


def _bars(found: dict[tuple[str, InputKind], list[Answered]], kind: InputKind) -> list[Bar]:
    rounds = list(zip(*(found[name, kind] for name in ("null", _FLOOR, _BASELINE)), strict=True))
    used_us = [floor.cpu_s_per_request * 1e6 for _, floor, _ in rounds]
    ours_us = [null.cpu_s_per_request * 1e6 for null, _, _ in rounds]
    what = f"{kind.upper()}, {CLIENTS} clients"
    return [
        Bar(
            row="floor",
            name=f"floor ÷ baseline, tuned, {what}",
            values=[floor.per_s / base.per_s for _, floor, base in rounds],
            detail=f"{shown(floor.per_s for _, floor, _ in rounds)}/s, "
            f"baseline {shown(base.per_s for _, _, base in rounds)}/s",
        ),
        Bar(
            row="floor",
            name=f"null ÷ floor, {what}",
            values=[null.per_s / floor.per_s for null, floor, _ in rounds],
            detail=f"{shown(null.per_s for null, _, _ in rounds)}/s",
        ),
        Bar(
            row="floor",
            name=f"CPU of the floor a request, {what}, µs",
            values=used_us,
            detail=f"null {shown(ours_us)} µs",
        ),
    ]
