"""What is counted and said of traces on their way to a collector."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import SpanKind

from corral.telemetry import exporter
from corral.telemetry.otlp_session import OtlpSession

#: a request's own span, and one below it
TRACE: Any = [SimpleNamespace(kind=SpanKind.SERVER), SimpleNamespace(kind=SpanKind.INTERNAL)]


class Collector:
    """Takes all, unless told otherwise."""

    result = SpanExportResult.SUCCESS

    def export(self, spans: Any) -> SpanExportResult:
        return self.result


def outlet(monkeypatch: pytest.MonkeyPatch, most: int = 4) -> Any:
    monkeypatch.setattr(exporter, "_MOST_SPANS", most)
    # The thread that calls it here is the test's own.
    monkeypatch.setattr(exporter, "step_back", lambda: None)
    collector: Any = Collector()
    return exporter._Outlet(collector, "http://there", OtlpSession())


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [entry.getMessage() for entry in caplog.records if entry.levelno == logging.WARNING]


def test_traces_that_come_too_fast_are_told_of_once_until_half_is_gone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    out = outlet(monkeypatch, most=8)
    assert all(out.has_room(2) for _ in range(4))
    assert not out.has_room(2)
    assert not out.has_room(2)
    for _ in range(3):
        # It never catches up, and never stands still.
        out.export(TRACE)
        assert out.has_room(2)
        assert not out.has_room(2)
    (began,) = warnings(caplog)
    assert "they come faster than it takes them" in began
    for _ in range(3):
        out.export(TRACE)
    assert warnings(caplog)[1:] == ["http://there takes traces again; 5 were dropped"]
    assert (out.sent, out.refused, out.overflowed) == (6, 0, 5)


def test_what_a_collector_takes_and_rejects_is_dropped(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    out = outlet(monkeypatch, most=100)
    assert out.has_room(6)
    out._session.rejected, out._session.problem = 1, "it rejects 1 spans: full"
    out.export(TRACE * 2)
    assert (out.sent, out.refused) == (1, 1)
    out._session.rejected = 1000
    out.export(TRACE)
    assert (out.sent, out.refused) == (1, 2)
    (told,) = warnings(caplog)
    assert "it rejects 1 spans: full" in told
