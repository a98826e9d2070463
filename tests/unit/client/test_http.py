"""Calls as HTTP has them, and which servers are on this machine."""

from __future__ import annotations

import json
import socket
import struct
import threading
from typing import Any

import numpy as np
import pytest

from corral_client import (
    CorralClientError,
    DeadlineExceeded,
    HttpClient,
    InternalError,
    InvalidArgument,
    NotFound,
    Overloaded,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
    calls,
    codec,
    rest,
)
from corral_client.addresses import on_this_machine
from corral_client.errors import CorralClientError as Base

PIXELS = np.arange(96, dtype=np.uint8).reshape(2, 4, 4, 3)


def none(_name: str) -> str | None:
    return None


def test_an_inference() -> None:
    call = calls.infer(PIXELS, "a/b", "seven", {"priority": 3, "x": "y", "z": 0.5, "t": True})
    asked = rest.request(call.method, call.message, 2.5)
    assert (asked.verb, asked.path) == ("POST", "/v2/models/a%2Fb/infer")
    size = int(asked.fields[rest.HEADER_LENGTH])
    header = json.loads(asked.body[:size])
    assert asked.body[size:] == PIXELS.tobytes()
    assert header["id"] == "seven"
    assert header["inputs"] == [
        {
            "name": "input",
            "datatype": "UINT8",
            "shape": [2, 4, 4, 3],
            "parameters": {"binary_data_size": 96},
        }
    ]
    assert header["parameters"] == {
        "priority": 3,
        "x": "y",
        "z": 0.5,
        "t": True,
        "binary_data_output": True,
    }
    assert asked.fields["Grpc-Timeout"] == "2500000u"
    own = calls.infer(PIXELS, "m", None, {"timeout": 7})
    body = rest.request(own.method, own.message, 2.5).body
    assert b'"timeout": 7' in body


@pytest.mark.parametrize(
    ("deadline_s", "field"),
    [(1e-9, "1u"), (60, "60000000u"), (100, "100000m"), (10**6, "1000000S"), (1e30, "99999999S")],
)
def test_a_deadline_has_eight_digits_at_most(deadline_s: float, field: str) -> None:
    call = calls.infer(PIXELS, "m", None, {})
    assert rest.request(call.method, call.message, deadline_s).fields["Grpc-Timeout"] == field


def test_labels_and_pages() -> None:
    call = calls.classify(codec.from_pictures([b"picture"]), 3, "m")
    asked = rest.request(call.method, call.message, 1)
    size = int(asked.fields[rest.HEADER_LENGTH])
    wanted = {"name": "output", "parameters": {"classification": 3}}
    assert json.loads(asked.body[:size])["outputs"] == [wanted]
    for page, path in (
        (calls.live(), "/v2/health/live"),
        (calls.ready(), "/v2/health/ready"),
        (calls.metadata("m n"), "/v2/models/m%20n"),
        (calls.properties("m"), "/v2/models/m/config"),
        (calls.statistics(""), "/v2/models/stats"),
        (calls.statistics("m"), "/v2/models/m/stats"),
    ):
        asked = rest.request(page.method, page.message, 1)
        assert (asked.verb, asked.path, asked.body) == ("GET", path, b"")


def test_answers() -> None:
    scores = np.array([[1.5, 2.5]], np.float32)
    output: dict[str, Any] = {"name": "output", "datatype": "FP32", "shape": [1, 2]}
    header = json.dumps(
        {"model_name": "m", "outputs": [{**output, "parameters": {"binary_data_size": 8}}]}
    ).encode()
    call = calls.infer(PIXELS, "m", None, None)
    body = rest.answer("ModelInfer", 200, lambda _: str(len(header)), header + scores.tobytes())
    assert np.array_equal(call.read(body), scores)
    plain = json.dumps({"outputs": [{**output, "data": [1.5, 2.5]}]}).encode()
    assert np.array_equal(call.read(rest.answer("ModelInfer", 200, none, plain)), scores)
    output = {"name": "output", "datatype": "BYTES", "shape": [1, 1], "data": ["1.5:7:cat"]}
    labels = calls.classify(codec.from_pictures([b"x"]), 1, "m")
    body = rest.answer("ModelInfer", 200, none, json.dumps({"outputs": [output]}).encode())
    assert labels.read(body) == [[codec.Label(1.5, 7, "cat")]]
    assert calls.live().read(rest.answer("ServerLive", 200, none, b""))
    assert calls.ready().read(rest.answer("ServerReady", 200, none, b"{}"))
    page = {
        "name": "m",
        "versions": ["1"],
        "inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, 3]}],
        "new": 1,
    }
    metadata = calls.metadata("m").read(
        rest.answer("ModelMetadata", 200, none, json.dumps(page).encode())
    )
    config = {"name": "m", "parameters": {"synthetic": {"string_value": "true"}}, "new": 1}
    body = rest.answer("ModelConfig", 200, none, json.dumps(config).encode())
    assert calls.properties("m").read(body) == {"synthetic": "true"}
    assert metadata.inputs[0].shape == (-1, 3)
    stats = {"model_stats": [{"name": "m", "inference_count": 2**40}]}
    found = calls.statistics("").read(
        rest.answer("ModelStatistics", 200, none, json.dumps(stats).encode())
    )
    assert found[0].inference_count == 2**40


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidArgument),
        (401, Unauthenticated),
        (403, PermissionDenied),
        (404, NotFound),
        (413, InvalidArgument),
        (415, InvalidArgument),
        (429, Overloaded),
        (500, InternalError),
        (405, NotFound),
        (501, NotFound),
        (503, Unavailable),
        (504, DeadlineExceeded),
        (418, Base),
    ],
)
def test_errors(status: int, kind: type[CorralClientError]) -> None:
    fields = {"Retry-After-Ms": "250"}
    with pytest.raises(kind, match="the sentence") as refusal:
        rest.answer("ModelInfer", status, fields.get, b'{"error":"the sentence"}')
    if isinstance(refusal.value, Overloaded):
        assert refusal.value.retry_after_ms == 250
    with pytest.raises(kind):
        rest.answer("ModelInfer", status, none, b"<html>")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"outputs":[{"name":1}]}', b"\xff", b'{"outputs":[]}']
)
def test_answers_that_cannot_be_read(body: bytes) -> None:
    with pytest.raises(InternalError):
        rest.answer("ModelInfer", 200, none, body)
    with pytest.raises(InternalError):
        rest.answer("ModelInfer", 200, lambda _: "x", body)


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("127.0.0.1:8001", True),
        ("127.9.9.9:1", True),
        ("localhost:8001", True),
        ("a.localhost:8001", True),
        ("[::1]:8001", True),
        ("::1", True),
        ("unix:/run/corral.sock", True),
        ("dns:///localhost:8001", True),
        ("ipv4:127.0.0.1:8001", True),
        ("10.0.0.1:8001", False),
        ("host:8001", False),
        ("host", False),
        ("localhost.example.org:8001", False),
        ("[2001:db8::1]:8001", False),
    ],
)
def test_no_proxy_stands_before_this_machine(
    url: str, local: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert on_this_machine(url) is local
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.delenv("no_proxy", raising=False)
    if not url.startswith(("dns", "ipv4", "::")):
        with HttpClient(url) as client:
            assert client.proxy == (None if local else ("proxy", 3128))


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("unix:", "has no path"),
        ("host:", "a port from 1 to 65535 is needed"),
        ("host:0", "a port from 1 to 65535 is needed"),
        ("http://host:0", "a port from 1 to 65535 is needed"),
        ("ada:secret@host:1", "is no HOST:PORT"),
        ("https://ada@host", "is no HOST:PORT"),
    ],
)
def test_what_grpc_refuses_is_refused_here_too(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        HttpClient(url)


def test_a_key_without_its_certificate_is_refused_without_tls_too() -> None:
    with pytest.raises(ValueError, match="of use together"):
        HttpClient(key="key.pem")


@pytest.mark.parametrize(
    "url", ["", "ftp://host:1", "http://", "http://host:x", "a:b:c", "http://h/x", "http://h/?y"]
)
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(ValueError, match="is no HOST:PORT"):
        HttpClient(url)
    with pytest.raises(ValueError, match="connection"):
        HttpClient(connections=0)


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_why_an_attempt_before_failed_is_said_at_the_deadline(*, reset: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        gone = threading.Event()

        def turn_away_then_say_nothing() -> None:
            connection, _ = listener.accept()
            if reset:
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            else:
                # What is not read turns the end into a reset.
                connection.recv(2**16)
            connection.close()
            kept, _ = listener.accept()
            gone.wait(10)
            kept.close()

        server = threading.Thread(target=turn_away_then_say_nothing)
        server.start()
        try:
            url = f"https://127.0.0.1:{listener.getsockname()[1]}"
            with (
                HttpClient(url, deadline_s=1.0) as client,
                pytest.raises(DeadlineExceeded, match="does the server have TLS"),
            ):
                client.metadata()
        finally:
            gone.set()
            server.join()
