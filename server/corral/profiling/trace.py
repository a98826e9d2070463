"""One trace for Perfetto and Chrome: requests, batches, operators, on one clock. Pure.

A request is a slice of its frontend's process with its phases below it; a batch is a slice of its
worker's process, with operators below. Arrows lead from each request to its batch and back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from corral.ipc.spans import RequestSpan
from corral.profiling.budget import phases_us
from corral.profiling.report import OperatorRow

Event = dict[str, Any]
#: processes of the trace: frontends from here on, and workers
_FRONTENDS, _WORKERS = 1, 1000
#: phases that the worker's process shows, as its batch
_ELSEWHERE = {"wake", "infer"}
_MOST_LANES = 64


def make_trace(
    requests: Sequence[RequestSpan], operators: Sequence[OperatorRow], about: dict[str, str]
) -> dict[str, Any]:
    """The trace as a JSON object.

    Args:
        requests: as traced.
        operators: the engine's, in the order that it runs them, measured apart: they are laid
            under each batch in proportion, and say so.
        about: what stands in the trace's head.
    """
    ordered = sorted(requests, key=lambda request: request.at_s["begun"])
    zero_s = ordered[0].at_s["begun"] if ordered else 0.0
    events = [*_names(ordered), *_requests(ordered, zero_s), *_batches(ordered, operators, zero_s)]
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": about}


def _names(requests: Sequence[RequestSpan]) -> Iterator[Event]:
    for cell in sorted({request.cell for request in requests}):
        yield _meta(_FRONTENDS + cell, f"frontend {cell}")
    for worker in sorted({request.worker for request in requests}):
        yield _meta(_WORKERS + worker, f"worker {worker}")


def _meta(pid: int, name: str) -> Event:
    return {"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": name}}


def _slice(name: str, pid: int, tid: int, start_us: float, end_us: float, **args: Any) -> Event:
    # Both ends are rounded, not the span: what begins where another ends begins no earlier.
    ts, end = round(start_us, 3), round(max(end_us, start_us), 3)
    return {"ph": "X", "name": name, "cat": "corral", "pid": pid, "tid": tid,
            "ts": ts, "dur": round(end - ts, 3), "args": args}  # fmt: skip


def _arrow(end: str, number: int, pid: int, tid: int, at_us: float) -> Event:
    event: Event = {"ph": end, "name": "batch", "cat": "corral", "id": number, "pid": pid,
                    "tid": tid, "ts": round(at_us, 3)}  # fmt: skip
    # It ends at the slice that lies there, not at the one that follows.
    return {**event, "bp": "e"} if end == "f" else event


def _requests(requests: Sequence[RequestSpan], zero_s: float) -> Iterator[Event]:
    """Requests that are under way at once stand on lanes of their own."""
    lanes: dict[int, list[float]] = {}
    for number, request in enumerate(requests):
        pid = _FRONTENDS + request.cell
        tid = _lane(lanes.setdefault(request.cell, []), request)
        at_us = {name: (moment - zero_s) * 1e6 for name, moment in request.at_s.items()}
        yield _slice("request", pid, tid, at_us["begun"], at_us["answered"],
                     batch=request.batch, worker=request.worker, items=request.items)  # fmt: skip
        start_us = at_us["begun"]
        for name, span_us in phases_us(request).items():
            # The wait for the worker is one slice here, what it does is the batch's.
            end_us = min(start_us + span_us, at_us["answered"])
            if name not in _ELSEWHERE:
                yield _slice(name, pid, tid, start_us, end_us)
            start_us = end_us
        middle_us = (at_us["started"] + at_us["ended"]) / 2
        yield _arrow("s", 2 * number, pid, tid, (at_us["formed"] + at_us["sent"]) / 2)
        yield _arrow("f", 2 * number, _WORKERS + request.worker, 1, middle_us)
        yield _arrow("s", 2 * number + 1, _WORKERS + request.worker, 1, middle_us)
        yield _arrow("f", 2 * number + 1, pid, tid, (at_us["ended"] + at_us["collected"]) / 2)


def _lane(ends_s: list[float], request: RequestSpan) -> int:
    """The first lane that is free when the request begins."""
    for lane, end_s in enumerate(ends_s):
        if end_s <= request.at_s["begun"] or lane == _MOST_LANES:
            ends_s[lane] = request.at_s["answered"]
            return lane + 1
    ends_s.append(request.at_s["answered"])
    return len(ends_s)


def _batches(
    requests: Sequence[RequestSpan], operators: Sequence[OperatorRow], zero_s: float
) -> Iterator[Event]:
    whole_us = sum(operator.us for operator in operators)
    seen: set[tuple[int, int, int]] = set()
    for request in requests:
        key = (request.cell, request.worker, request.batch)
        if key in seen:
            continue
        seen.add(key)
        start_us, ended_us = ((request.at_s[name] - zero_s) * 1e6 for name in ("started", "ended"))
        span_us = ended_us - start_us
        pid = _WORKERS + request.worker
        yield _slice(f"batch of {request.batch_items}", pid, 1, start_us, ended_us,
                     batch=request.batch, items=request.batch_items)  # fmt: skip
        for operator in operators:
            end_us = min(start_us + span_us * operator.us / whole_us, ended_us)
            yield _slice(operator.name, pid, 1, start_us, end_us, type=operator.type,
                         kernel=operator.kernel, precision=operator.precision,
                         placed="by its share, measured apart")  # fmt: skip
            start_us = end_us
