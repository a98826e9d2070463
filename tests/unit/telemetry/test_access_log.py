"""What a line of the access log says."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.reports import served

from corral.telemetry import access_log, report
from corral.telemetry.access_log import AccessLog


def said(**changes: Any) -> dict[str, Any]:
    told = report.report(served(), 0, is_logged=True)
    told.ended_s = 100.05
    for name, value in changes.items():
        setattr(told, name, value)
    return access_log.line(told, 1_700_000_000.0)


def test_a_line_says_who_what_how_long_and_where() -> None:
    assert said() == {
        "time": "2023-11-14T22:15:00.000Z",
        "peer": "::1",
        "protocol": "http",
        "method": "POST /v2/models/m/infer",
        "status": 200,
        "duration_ms": 50.0,
        "sent_bytes": 0,
        "cell": 0,
        "model": "m",
        "items": 2,
        "receive_ms": 1.0,
        "queue_ms": 1.0,
        "infer_ms": 40.0,
        "worker": 1,
        "batch": 5,
        "batch_items": 8,
        "trace_id": "a" * 32,
        "span_id": "b" * 16,
    }


def test_grpc_has_names_of_codes_and_a_client_that_left_has_a_status() -> None:
    call = {"is_grpc": True, "path": "/inference.GRPCInferenceService/ModelInfer"}
    assert said(**call, grpc_status=8)["status"] == "RESOURCE_EXHAUSTED"
    assert said(**call, grpc_status=8)["method"] == call["path"]
    assert said(**call, grpc_status=-1)["status"] == "CANCELLED"
    assert said(status=0)["status"] == 499


@pytest.fixture
def stopped_reader(tmp_path: Path) -> Iterator[Path]:
    """A pipe that somebody has opened, and does not read."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield path
    os.close(fd)


def test_lines_that_find_no_room_are_told_of_once_and_the_last_as_well(
    stopped_reader: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(access_log, "_MOST_WAITING", 2)
    monkeypatch.setattr(access_log, "_LAST_LINES_S", 0.0)
    monkeypatch.setattr(access_log, "step_back", lambda: None)
    log = AccessLog(str(stopped_reader))
    while log.dropped < 3:
        log.add({"a": "x" * 2**16})
    log.close()
    (told,) = [entry.getMessage() for entry in caplog.records if entry.levelno == logging.WARNING]
    assert "more slowly than lines come" in told
    assert log.dropped == 3 + 2


def test_the_last_lines_are_not_lost_without_a_word(
    stopped_reader: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(access_log, "_LAST_LINES_S", 0.1)
    monkeypatch.setattr(access_log, "step_back", lambda: None)
    log = AccessLog(str(stopped_reader))
    for _ in range(600):
        log.add({"a": "x" * 2**12})
    log.close()
    assert log.dropped
    assert f"the last {log.dropped} found nobody in time" in caplog.text


def test_trying_a_log_out_leaves_a_link_that_leads_to_nothing_as_it_was(tmp_path: Path) -> None:
    link, file = tmp_path / "link", tmp_path / "file"
    link.symlink_to(file)
    access_log.try_out(str(link))
    assert link.is_symlink()
    assert not file.exists()
    file.write_text("kept\n")
    access_log.try_out(str(link))
    assert file.read_text() == "kept\n"
