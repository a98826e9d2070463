"""A request that was served, with all its moments."""

from __future__ import annotations

from typing import Any

from corral.telemetry.timeline import Run, Timeline
from corral.telemetry.trace_context import TraceContext

SCOPE: dict[str, Any] = {"method": "POST", "path": "/v2/models/m/infer", "http_version": "2",
         "headers": [], "client": ("::1", 7)}  # fmt: skip


def served() -> Timeline:
    """Received after 1 ms, run from 4 to 46 ms, answered after 47."""
    timeline = Timeline(SCOPE, TraceContext("a" * 32, "b" * 16), traced=True, begun_s=100.0)
    timeline.read("m", 2, 100.001)
    timeline.admitted_s, timeline.queued_s = 100.0015, 100.003
    timeline.runs.append(Run(5, 1, 8, 100.004, 100.0045, 100.005, 100.045, 100.046))
    timeline.answered_s = 100.047
    timeline.status = 200
    return timeline
