"""The moments of one request, noted while it is served; only of requests that somebody watches.

Moments are seconds on the monotonic clock, which all processes of a machine share. One that has
not come is 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from corral.telemetry.trace_context import TraceContext

#: its place in ASGI's scope
_KEY = "corral.timeline"


class Run(NamedTuple):
    """A batch that items of the request ran in.

    Attributes:
        batch: its number.
        worker: that ran it.
        items: of the batch.
        formed_s: it was decided on; the copy into the worker's memory begins.
        sent_s: the worker was told.
        started_s: the engine began.
        ended_s: the engine was done.
        collected_s: the results were copied out.
    """

    batch: int
    worker: int
    items: int
    formed_s: float
    sent_s: float
    started_s: float
    ended_s: float
    collected_s: float


class Timeline:
    """One request.

    Args:
        scope: ASGI's; kept.
        context: its place among traces, if it has one.
        traced: whether its spans are wanted.
        begun_s: when it came.

    Attributes:
        received_s: its message is there.
        admitted_s: it has its place in the queue.
        queued_s: its tensor is there, a picture's decoded, and it waits for a worker.
        runs: the batches that it ran in, in the order of their ends.
        answered_s: its result is there.
        ended_s: its answer has been handed over, whatever it is.
        model: the name that it asked for.
        items: of its tensor.
        outcome: ``succeeded``, or one of counters.FAILURES where it is known.
        decoded: whether its tensor was made of pictures.
        is_grpc: whether it is a call of gRPC's.
        status: of HTTP; 0: none was sent.
        grpc_status: of gRPC; -1: none was sent.
        sent_bytes: of the answer's body.
    """

    __slots__ = (
        "admitted_s",
        "answered_s",
        "begun_s",
        "context",
        "decoded",
        "ended_s",
        "grpc_status",
        "is_grpc",
        "items",
        "model",
        "outcome",
        "queued_s",
        "received_s",
        "runs",
        "scope",
        "sent_bytes",
        "status",
        "traced",
    )

    def __init__(
        self,
        scope: Mapping[str, Any],
        context: TraceContext | None,
        *,
        traced: bool,
        begun_s: float,
    ) -> None:
        self.scope = scope
        self.context = context
        self.traced = traced
        self.begun_s = begun_s
        self.received_s = self.admitted_s = self.queued_s = 0.0
        self.answered_s = self.ended_s = 0.0
        self.runs: list[Run] = []
        self.model = self.outcome = ""
        self.items = 0
        self.is_grpc = self.decoded = False
        self.status = 0
        self.grpc_status = -1
        self.sent_bytes = 0

    def read(self, model: str, items: int, received_s: float) -> None:
        """Its head was read."""
        self.model, self.items, self.received_s = model, items, received_s

    def refused(self, outcome: str, received_s: float) -> None:
        """It ends without a place in the queue."""
        self.outcome, self.received_s = outcome, received_s

    def phases_s(self, now_s: float) -> Iterator[tuple[str, float, float]]:
        """Each phase that has come: its name, its begin, its end; they follow one another.

        Args:
            now_s: the end of the last.
        """
        moments = [
            ("receive", self.received_s),
            ("admit", self.admitted_s),
            ("decode", self.queued_s),
        ]
        if self.runs:
            first, last = self.runs[0], self.runs[-1]
            moments += [
                ("queue", first.formed_s),
                ("copy", first.started_s),
                ("infer", last.ended_s),
            ]
        moments.append(("answer" if self.answered_s else "end", now_s))
        before_s = self.begun_s
        for name, moment_s in moments:
            if moment_s:
                # Of moments that two processes read, a later one may be a little earlier.
                after_s = max(before_s, moment_s)
                yield name, before_s, after_s
                before_s = after_s

    def server_timing(self, now_s: float) -> bytes:
        """The header field ``Server-Timing``: milliseconds of each phase, and who did the work."""
        parts = [
            f"{name};dur={(end_s - start_s) * 1e3:.3f}"
            for name, start_s, end_s in self.phases_s(now_s)
        ]
        parts.append(f"total;dur={(now_s - self.begun_s) * 1e3:.3f}")
        if self.runs:
            last = self.runs[-1]
            parts += [f'batch;desc="{last.items}"', f'worker;desc="{last.worker}"']
        if self.traced and self.context is not None:
            parts.append(f'traceparent;desc="{self.context.traceparent}"')
        return ", ".join(parts).encode()


def attach(scope: dict[str, Any], timeline: Timeline) -> None:
    """Has whoever serves the request find its timeline."""
    scope[_KEY] = timeline


def detach(timeline: Timeline) -> None:
    """The request has ended: its scope and its timeline hold one another no more."""
    scope = timeline.scope
    if isinstance(scope, dict) and scope.get(_KEY) is timeline:
        del scope[_KEY]


def timeline_of(scope: Mapping[str, Any]) -> Timeline | None:
    """The request's timeline; None where nobody watches."""
    return scope.get(_KEY)
