"""Traces of a server on the null backend, received by a collector made for the test."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import requests
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from support.otlp_receiver import OtlpReceiver, ReceivedSpan
from support.running_server import Server, null_server, running, wait_until
from support.serving_null import null_server_command

from corral.errors import ConfigError
from corral.settings import TelemetrySettings, build
from corral.supervisor.dry_run import check_places
from corral.telemetry.collector import Collector
from corral.telemetry.otlp_session import OtlpSession
from corral_protos import open_inference_pb2 as pb

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
PARENT = "b7ad6b7169203331"
PICTURE = Path(__file__).parents[1] / "data/pictures/cat.jpg"
#: the kinds and the status of OpenTelemetry's protocol
INTERNAL, SERVER, ERROR = 1, 2, 2
#: spans leave every 0.1 s, in place of 5 s
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "100"}


@pytest.fixture(scope="module")
def collector() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "access.log"


@pytest.fixture(scope="module")
def server(collector: OtlpReceiver, log: Path) -> Iterator[Server]:
    """Only requests whose caller wants it are traced."""
    traced = ("--otlp-endpoint", collector.endpoint, "--trace-rate", "0")
    command = null_server_command("--workers", "1", "--access-log", str(log), *traced)
    with running(command, environ=SOON) as started:
        yield started


def message(count: int = 1, **changes: Any) -> bytes:
    pixels = np.zeros((count, 224, 224, 3), np.uint8)
    request = pb.ModelInferRequest(
        model_name="resnet50", raw_input_contents=[pixels.tobytes()], **changes
    )
    request.inputs.add(name="input", datatype="UINT8", shape=pixels.shape)
    return request.SerializeToString()


def parent(trace_id: str, flags: str = "01") -> tuple[tuple[str, str], ...]:
    return (("traceparent", f"00-{trace_id}-{PARENT}-{flags}"),)


def ask(server: Server, body: bytes, metadata: Any = ()) -> pb.ModelInferResponse:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = channel.unary_unary(INFER, response_deserializer=pb.ModelInferResponse.FromString)
        answer: pb.ModelInferResponse = call(body, metadata=metadata, timeout=20)
        return answer


def post(
    server: Server, path: str, body: bytes, fields: dict[str, str]
) -> tuple[int, dict[str, str]]:
    asked = urllib.request.Request(
        f"http://127.0.0.1:{server.http_port}{path}", body, headers=fields, method="POST"
    )
    try:
        with urllib.request.urlopen(asked, timeout=20) as response:
            return response.status, {k.lower(): v for k, v in response.headers.items()}
    except urllib.error.HTTPError as error:
        return error.code, {k.lower(): v for k, v in error.headers.items()}


def contained(inner: ReceivedSpan, outer: ReceivedSpan) -> bool:
    return outer.start_ns <= inner.start_ns <= inner.end_ns <= outer.end_ns


def logged(log: Path, trace_id: str) -> dict[str, Any]:
    def found() -> dict[str, Any] | None:
        text = log.read_text() if log.exists() else ""
        lines = [json.loads(line) for line in text.splitlines(keepends=True) if line[-1] == "\n"]
        return next((line for line in lines if line.get("trace_id") == trace_id), None)

    line: dict[str, Any] = wait_until(found, f"a line about {trace_id}")
    return line


def test_a_call_becomes_spans_of_its_phases(
    server: Server, collector: OtlpReceiver, log: Path
) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    before_ns = time.time_ns()
    metadata = (*parent(trace_id), ("tracestate", "congo=t61rcWkgMzE"))
    ask(server, message(), metadata)
    after_ns = time.time_ns()
    spans = collector.trace(trace_id, least=7)
    assert set(spans) == {INFER[1:], "receive", "admit", "queue", "batch", "infer", "answer"}
    whole = spans[INFER[1:]]
    assert (whole.kind, whole.parent_id, whole.state) == (SERVER, PARENT, "congo=t61rcWkgMzE")
    assert before_ns <= whole.start_ns < after_ns
    # The client has its answer before the server is done with it.
    assert whole.start_ns < whole.end_ns <= time.time_ns()
    assert whole.resource["service.name"] == "corral"
    assert whole.scope == "corral"
    assert whole.attributes["rpc.system"] == "grpc"
    assert whole.attributes["rpc.method"] == "ModelInfer"
    assert whole.attributes["rpc.grpc.status_code"] == 0
    assert whole.attributes["corral.model"] == "resnet50"
    assert whole.attributes["corral.items"] == 1
    assert whole.attributes["client.address"] == "127.0.0.1"
    batch, infer = spans["batch"], spans["infer"]
    assert batch.parent_id == whole.span_id
    assert infer.parent_id == batch.span_id
    assert infer.kind == INTERNAL
    for name in ("corral.worker", "corral.batch.number", "corral.batch.size"):
        assert name in batch.attributes
    assert batch.attributes["corral.batch.size"] == 1
    assert batch.attributes["corral.worker"] == 0
    assert batch.attributes["corral.worker.cores"] >= 1
    assert all(contained(span, whole) for span in spans.values())
    assert contained(infer, batch)
    assert spans["queue"].end_ns <= batch.end_ns
    line = logged(log, trace_id)
    assert line["span_id"] == whole.span_id
    assert (line["status"], line["model"], line["items"]) == ("OK", "resnet50", 1)
    assert (line["worker"], line["batch_items"]) == (0, 1)
    assert 0 < line["infer_ms"] <= line["duration_ms"]


def test_a_picture_by_rest_is_traced_and_its_timing_told(
    server: Server, collector: OtlpReceiver, log: Path
) -> None:
    trace_id = "1" * 32
    fields = {"Content-Type": "image/jpeg", "Want-Server-Timing": "1", **dict(parent(trace_id))}
    path = "/v2/models/resnet50_image/classify"
    status, answer = post(server, path, PICTURE.read_bytes(), fields)
    assert status == 200
    timing = dict(re.findall(r"(\w+);(?:dur|desc)=\"?([^\",]+)", answer["server-timing"]))
    assert float(timing["decode"]) > 0
    assert timing["traceparent"].startswith(f"00-{trace_id}-")
    phases = ("receive", "admit", "decode", "queue", "copy", "infer", "answer")
    assert float(timing["total"]) == pytest.approx(sum(float(timing[n]) for n in phases), abs=0.01)
    spans = collector.trace(trace_id, least=8)
    whole = spans["POST /v2/models/{model}/classify"]
    assert whole.attributes["url.path"] == path
    assert whole.attributes["http.response.status_code"] == 200
    assert spans["decode"].end_ns > spans["decode"].start_ns
    assert logged(log, trace_id)["method"] == f"POST {path}"


def test_nobody_is_traced_who_does_not_ask(
    server: Server, collector: OtlpReceiver, log: Path
) -> None:
    unsampled, malformed = "2" * 32, "3" * 32
    ask(server, message(), parent(unsampled, "00"))
    ask(server, message(), parent(malformed, "zz"))
    ask(server, message(), (("traceparent", "nonsense"),))
    assert "server-timing" not in post(server, "/v2/models/resnet50/infer", b"{}", {})[1]
    assert logged(log, unsampled)["status"] == "OK"
    # What came before is with the collector once this is.
    ask(server, message(), parent("4" * 32))
    collector.trace("4" * 32)
    assert {span.trace_id for span in collector.spans()}.isdisjoint({unsampled, malformed})


def test_a_refused_request_has_a_trace_and_its_status(
    server: Server, collector: OtlpReceiver, log: Path
) -> None:
    wrong, absent = "5" * 32, "6" * 32
    with pytest.raises(grpc.RpcError):
        ask(server, message(model_version="7"), parent(wrong))
    with (
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        pytest.raises(grpc.RpcError),
    ):
        channel.unary_unary("/a.Service/None")(b"", metadata=parent(absent), timeout=20)
    whole = collector.trace(wrong)[INFER[1:]]
    assert whole.attributes["rpc.grpc.status_code"] == grpc.StatusCode.NOT_FOUND.value[0]
    assert whole.attributes["corral.outcome"] == "invalid"
    assert whole.status == 0, "the client's mistake, not the server's"
    line = logged(log, wrong)
    assert (line["status"], line["outcome"]) == ("NOT_FOUND", "invalid")
    unknown = collector.trace(absent)["a.Service/None"]
    assert unknown.status == ERROR


def test_each_request_of_a_stream_is_a_span_of_its_trace(
    server: Server, collector: OtlpReceiver
) -> None:
    trace_id = "7" * 32
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stream = channel.stream_stream(STREAM)
        answers = list(stream(iter([message()] * 3), metadata=parent(trace_id), timeout=20))
    assert len(answers) == 3
    collector.trace(trace_id, least=3 * 7 + 1)
    servers = [s for s in collector.spans() if s.trace_id == trace_id and s.kind == SERVER]
    (whole,) = (span for span in servers if span.parent_id == PARENT)
    assert {span.parent_id for span in servers if span is not whole} == {whole.span_id}
    assert len(servers) == 4


def test_openmetrics_shows_a_traced_request_as_its_buckets_exemplar(
    server: Server, collector: OtlpReceiver
) -> None:
    trace_id = "8" * 32
    ask(server, message(), parent(trace_id))
    collector.trace(trace_id, least=7)
    url = f"http://127.0.0.1:{server.metrics_port}/metrics"
    wanted = urllib.request.Request(
        url, headers={"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
    )
    with urllib.request.urlopen(wanted, timeout=20) as response:
        assert response.headers["Content-Type"].startswith("application/openmetrics-text")
        text = response.read().decode()
    families = {
        family.name: family
        for family in text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    }
    found = [
        sample.exemplar
        for sample in families["corral_request_seconds"].samples
        if sample.exemplar is not None
    ]
    assert trace_id in {exemplar.labels["trace_id"] for exemplar in found}
    assert families["nv_inference_count"].type == "unknown"
    with urllib.request.urlopen(url, timeout=20) as response:
        assert response.headers["Content-Type"].startswith("text/plain")
        plain = response.read().decode()
    assert "trace_id" not in plain
    assert re.search(r"^corral_traces_sent_total [1-9]", plain, re.MULTILINE)
    assert 'corral_traces_dropped_total{reason="export"} 0.0' in plain
    assert re.search(r"^corral_access_log_lines_total [1-9]", plain, re.MULTILINE)
    assert "corral_access_log_lines_dropped_total 0.0" in plain


def counter(server: Server, name: str) -> float:
    url = f"http://127.0.0.1:{server.metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=20) as response:
        lines = response.read().decode().splitlines()
    return float(next(line.rpartition(" ")[2] for line in lines if line.startswith(name)))


def test_a_collector_that_is_down_costs_traces_alone() -> None:
    with contextlib.closing(socket.socket()) as taken:
        # Bound and not listening: who connects is refused.
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        traced = ("--otlp-endpoint", endpoint, "--trace-rate", "1")
        command = null_server_command("--workers", "1", *traced)
        with running(command, environ={**SOON, "OTEL_EXPORTER_OTLP_TIMEOUT": "0.5"}) as server:
            for _ in range(5):
                ask(server, message())
            wait_until(
                lambda: counter(server, 'corral_traces_dropped_total{reason="export"}') == 5,
                "the traces to be dropped",
            )
            ask(server, message())
            why = r"traces are dropped: .* does not take them \(.*Connection refused\)"
            assert server.wait_for_line(re.compile(why))
            began_s = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - began_s < 10
        assert sum("traces are dropped" in line for line in server.lines) == 1


def test_a_server_that_ends_soon_says_that_its_traces_are_lost() -> None:
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        traced = ("--otlp-endpoint", endpoint, "--trace-rate", "1")
        with running(null_server_command("--workers", "1", *traced)) as server:
            ask(server, message())
            assert server.stop() == 0
        (told,) = (line for line in server.lines if "traces are dropped" in line)
        assert "Connection refused" in told


def test_a_collector_that_refuses_costs_traces_until_it_takes_them() -> None:
    with OtlpReceiver() as receiver:
        receiver.refuses = 400
        traced = ("--otlp-endpoint", receiver.endpoint, "--trace-rate", "1")
        command = null_server_command("--workers", "1", *traced)
        with running(command, environ=SOON) as server:
            ask(server, message())
            wait_until(
                lambda: counter(server, 'corral_traces_dropped_total{reason="export"}'), "it"
            )
            receiver.refuses = 0
            ask(server, message())
            wait_until(lambda: counter(server, "corral_traces_sent_total"), "a trace")
            assert server.wait_for_line(re.compile("takes traces again; 1 were dropped"))
            assert any("traces are dropped" in line and "400" in line for line in server.lines)


def test_a_redirect_is_followed_by_nobody_and_counts_as_dropped() -> None:
    with OtlpReceiver() as receiver:
        receiver.refuses = 302
        endpoint = receiver.endpoint.replace("http://", "http://me:secret@")
        traced = ("--otlp-endpoint", endpoint, "--trace-rate", "1")
        with running(null_server_command("--workers", "1", *traced), environ=SOON) as server:
            ask(server, message())
            wait_until(
                lambda: counter(server, 'corral_traces_dropped_total{reason="export"}') == 1, "it"
            )
            assert counter(server, "corral_traces_sent_total") == 0
            place = "https://elsewhere.example/v1/traces"
            assert server.wait_for_line(re.compile(f"traces are dropped.*302.*{place}"))
        assert not any("secret" in line for line in server.lines)


def test_no_more_of_an_answer_is_read_than_one_may_have() -> None:
    with OtlpReceiver() as receiver:
        receiver.flood_bytes = 2**30
        traced = ("--otlp-endpoint", receiver.endpoint, "--trace-rate", "1")
        with running(null_server_command("--workers", "1", *traced), environ=SOON) as server:
            ask(server, message())
            wait_until(lambda: counter(server, "corral_traces_sent_total") == 1, "the trace")
        # What lies in sockets' buffers, and not the rest.
        assert receiver.flooded < receiver.flood_bytes / 10


def test_a_port_of_grpc_is_told() -> None:
    session = OtlpSession()
    with pytest.raises(requests.RequestException):
        # Nobody listens there.
        session.post("http://127.255.255.254:4317/v1/traces", b"", timeout=5)
    assert "4318" in session.problem


@pytest.mark.parametrize(
    ("url", "options", "why"),
    [
        ("http://me:secret@127.0.0.1:99999/", {}, "its host or its port cannot be"),
        ("http://a..b:4318/", {}, "label empty or too long"),
        ("http://127.0.0.1:9/", {"timeout": 0}, "timeout"),
        ("http://127.0.0.1:9/", {"headers": {"a": "secret\n"}}, "OTEL_EXPORTER_OTLP_HEADERS"),
        ("https://127.0.0.1:9/", {"cert": "/nowhere.pem"}, "/nowhere.pem"),
    ],
)
def test_what_is_refused_before_it_is_sent_says_why(
    url: str, options: dict[str, Any], why: str
) -> None:
    session = OtlpSession()
    with pytest.raises((requests.RequestException, OSError, ValueError)):
        session.request("POST", url, data=b"", **options)
    assert why in session.problem
    assert "secret" not in session.problem


@pytest.mark.parametrize(
    "name", ["OTEL_BSP_SCHEDULE_DELAY", "OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER"]
)
def test_a_variable_that_opentelemetry_refuses_is_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "-1")
    asked = TelemetrySettings(otlp_endpoint="http://127.0.0.1:9")
    with pytest.raises(ConfigError, match=r"--otlp-endpoint: .*OTEL_"):
        Collector(asked, dict, ())
    with pytest.raises(ConfigError, match=r"--otlp-endpoint: .*OTEL_"):
        check_places(build({"otlp-endpoint": "http://127.0.0.1:9"}))


def test_every_request_is_traced_at_a_rate_of_one(collector: OtlpReceiver) -> None:
    before = len({span.trace_id for span in collector.spans()})
    traced = ("--otlp-endpoint", collector.endpoint + "/v1/traces", "--trace-rate", "1")
    with null_server("--workers", "1", "--max-items", "40", *traced) as server:
        # More than a batch holds.
        ask(server, message(40))
        ask(server, message())
        assert server.stop() == 0
    # What was not sent yet is, when a server ends.
    new = [span for span in collector.spans() if span.kind == SERVER][-2:]
    assert len({span.trace_id for span in collector.spans()}) == before + 2
    assert [span.parent_id for span in new] == ["", ""]
    large = next(span for span in new if span.attributes["corral.items"] == 40)
    batches = [s for s in collector.spans() if s.trace_id == large.trace_id and s.name == "batch"]
    assert sum(span.attributes["corral.batch.size"] for span in batches) == 40
    assert len(batches) > 1
