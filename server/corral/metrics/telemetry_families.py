"""What became of traces and of the access log's lines, as prometheus_client's families. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric

from corral.metrics.counters import Counts


@dataclasses.dataclass(frozen=True, kw_only=True)
class TelemetryCounts:
    """What the supervisor counts; None where it is not asked for.

    Attributes:
        sent: traces that the collector took.
        refused: traces that it did not take.
        overflowed: traces that found no room on their way.
        lines: lines of the access log.
        lines_dropped: lines that could not be written, or found no room.
    """

    sent: int | None = None
    refused: int = 0
    overflowed: int = 0
    lines: int | None = None
    lines_dropped: int = 0


def telemetry_families(counts: Counts, told: TelemetryCounts) -> Iterator[Metric]:
    """The families of what is asked for.

    Args:
        counts: what frontends counted.
        told: what the supervisor did.
    """
    if told.sent is not None:
        yield CounterMetricFamily("corral_traces_sent", "Traces that the collector took", told.sent)
        dropped = CounterMetricFamily(
            "corral_traces_dropped",
            "Traces that were dropped: the collector did not take them, or too many waited",
            labels=["reason"],
        )
        dropped.add_metric(["export"], told.refused)
        dropped.add_metric(["backlog"], told.overflowed + counts.read("cell/traces_dropped"))
        yield dropped
    if told.lines is not None:
        yield CounterMetricFamily(
            "corral_access_log_lines", "Lines written to the access log", told.lines
        )
        yield CounterMetricFamily(
            "corral_access_log_lines_dropped",
            "Lines of the access log that could not be written, or found no room",
            told.lines_dropped + counts.read("cell/log_lines_dropped"),
        )
