"""What a line of the access log says."""

from __future__ import annotations

from typing import Any

from support.reports import served

from corral.telemetry import access_log, report


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
