"""The client over the REST form against a small HTTP server, over real sockets."""

from __future__ import annotations

import http.server
import json
import os
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from corral_client import DeadlineExceeded, HttpClient, Overloaded, Unauthenticated, Unavailable

COMMAND = str(Path(sys.executable).with_name("corral-client"))
PIXELS = np.arange(96, dtype=np.uint8).reshape(2, 4, 4, 3)
TOKEN = "first-token-0123456789"
METADATA = {
    "name": "resnet50",
    "versions": ["1"],
    "platform": "corral_null",
    "inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, 3, 4, 4]}],
    "outputs": [{"name": "output", "datatype": "FP32", "shape": [-1, 2]}],
}
Answer = tuple[int, dict[str, str], bytes]


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers an inference with the first two bytes of each of its two items."""

    protocol_version = "HTTP/1.1"
    server: Any

    def address_string(self) -> str:
        return "client"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body: bytes) -> None:
        self.server.asked.append((self.command, self.path, dict(self.headers)))
        if self.server.script:
            status, fields, content = self.server.script.pop(0)(self)
        else:
            status, fields, content = self._usual(body)
        if status == 0:
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **fields}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _usual(self, body: bytes) -> Answer:
        if self.path.endswith("/infer"):
            size = int(self.headers["Inference-Header-Content-Length"])
            items = np.frombuffer(body[size:], np.uint8).reshape(2, -1)[:, :2]
            raw = items.astype(np.float32).tobytes()
            output = {"name": "output", "datatype": "FP32", "shape": [2, 2]}
            answer = {"outputs": [{**output, "parameters": {"binary_data_size": len(raw)}}]}
            header = json.dumps(answer).encode()
            return 200, {"Inference-Header-Content-Length": str(len(header))}, header + raw
        page: Any = {"model_stats": [{"name": "resnet50"}]} if "stats" in self.path else METADATA
        return 200, {}, json.dumps(page).encode()


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: Any, family: socket.AddressFamily = socket.AF_INET) -> None:
        self.address_family = family
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        #: what answers the next requests instead of the usual
        self.script: list[Callable[[Handler], Answer]] = []
        super().__init__(address, Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0)) as server:
        yield server
        server.shutdown()


def refuse(status: int, **fields: str) -> Callable[[Handler], Answer]:
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return lambda _: (status, named, b'{"error":"the sentence of the server"}')


def hang_up(_handler: Handler) -> Answer:
    return 0, {}, b""


def test_calls_over_one_connection(server: Server) -> None:
    with HttpClient(server.url, token=TOKEN) as client:
        assert client.live()
        client.wait_until_ready(5)
        assert client.metadata().classes == 2
        assert client.statistics()[0].name == "resnet50"
        for _ in range(3):
            assert np.array_equal(client.infer(PIXELS), PIXELS.reshape(2, -1)[:, :2])
    assert {fields["authorization"] for _, _, fields in server.asked} == {f"Bearer {TOKEN}"}
    assert open_to(server) == 0


def open_to(server: Server) -> int:
    """How many connections of this process to the server are open."""
    mine = psutil.Process().net_connections("tcp")
    asked = [each for each in mine if each.raddr and each.raddr.port == server.server_address[1]]
    return sum(each.status == psutil.CONN_ESTABLISHED for each in asked)


def test_what_is_worth_another_try(server: Server) -> None:
    with HttpClient(server.url, retry_overloaded=True) as client:
        server.script = [refuse(503), refuse(429, Retry_After_Ms="5"), hang_up]
        assert client.infer(PIXELS).shape == (2, 2)
        assert not server.script
    with HttpClient(server.url) as client:
        server.script = [refuse(429, Retry_After_Ms="5")]
        with pytest.raises(Overloaded, match="the sentence") as refusal:
            client.infer(PIXELS)
        assert refusal.value.retry_after_ms == 5
        server.script = [refuse(401)]
        with pytest.raises(Unauthenticated):
            client.infer(PIXELS)
        server.script = [refuse(503)]
        assert not client.ready()


def test_a_connection_that_the_server_closed_is_replaced_at_once(server: Server) -> None:
    with HttpClient(server.url) as client:
        server.script = [lambda _: (200, {"X": "y"}, b"{}"), hang_up]
        assert client.live()
        assert client.live()


def test_no_server_and_no_answer(server: Server) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with HttpClient(f"127.0.0.1:{closed.getsockname()[1]}") as client:
            assert not client.live()
            with pytest.raises(Unavailable):
                client.metadata(deadline_s=0.2)
    ended = threading.Event()

    def wait(_handler: Handler) -> Answer:
        ended.wait(20)
        return 0, {}, b""

    server.script = [wait]
    with HttpClient(server.url) as client, pytest.raises(DeadlineExceeded, match=r"0\.2 s"):
        client.infer(PIXELS, deadline_s=0.2)
    ended.set()


def test_a_unix_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with tempfile.TemporaryDirectory(prefix="corral-") as folder:
        path = f"{folder}/http.sock"
        with Server(path, socket.AF_UNIX) as server, HttpClient(f"unix:{path}") as client:
            assert client.infer(PIXELS).shape == (2, 2)
            server.shutdown()


def run(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **env}
    return subprocess.run(
        [COMMAND, *args], capture_output=True, text=True, timeout=60, env=environment, check=False
    )


def test_the_command(server: Server) -> None:
    # A proxy in the environment does not get in the way of this machine.
    proxy = {"http_proxy": "http://127.0.0.1:9", "no_proxy": ""}
    done = run("metadata", "--http", "--url", server.url, "--json", **proxy)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["name"] == "resnet50"
    done = run("wait", "--http", "--url", f"http://{server.url}", **proxy)
    assert (done.returncode, done.stdout) == (0, f"http://{server.url} is ready\n")
    done = run("metadata", "--http", "--url", "ftp://x", **proxy)
    assert done.returncode == 2
    done = run("metadata", "--http", "--url", server.url, "--deadline-s", "1e12", **proxy)
    assert done.returncode == 0, done.stderr
