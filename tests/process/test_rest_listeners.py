"""The REST form on every kind of listener: credentials, TLS, sockets, shared memory, the end."""

from __future__ import annotations

import http.client
import socket
import ssl
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.utils.shared_memory as shm
from support.certificates import Authority, private
from support.http_by_hand import GOOD, connect, listen
from support.http_requests import ask
from support.running_server import StartServer, wait_until
from support.server_counters import Scrape

from corral_client import HttpClient, Unauthenticated

PIXELS = np.full((2, 224, 224, 3), 7, np.uint8)
CAT = Path(__file__).parents[1] / "data" / "pictures" / "cat.jpg"
TOKEN = "first-token-0123456789"


def test_credentials(server: StartServer, tmp_path: Path) -> None:
    tokens = private(tmp_path / "tokens", TOKEN)
    with server("--workers", "1", "--auth-token-file", str(tokens)) as s:
        for path in ("/v2", "/docs", "/openapi.json", "/v2/models/resnet50/ready"):
            status, page = ask(s, "GET", path)
            assert status == 401
            assert "credentials" in page["error"]
        assert ask(s, "POST", "/v2/models/resnet50/infer", b"{}")[0] == 401
        assert ask(s, "GET", "/v2", authorization="Bearer wrong-token-0123456789")[0] == 401
        assert ask(s, "GET", "/v2", authorization=f"Bearer {TOKEN}")[0] == 200
        # Probes have no credentials.
        assert ask(s, "GET", "/v2/health/ready") == (200, {"ready": True})
        with HttpClient(f"127.0.0.1:{s.http_port}", token=TOKEN) as client:
            assert client.infer(PIXELS)[0, 0] == 7
        with HttpClient(f"127.0.0.1:{s.http_port}") as client, pytest.raises(Unauthenticated):
            client.metadata()


def test_tls_with_names_of_clients(server: StartServer, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    mine = authority.issue("server", "localhost", "127.0.0.1")
    alice, bob = (authority.issue(name, name) for name in ("alice", "bob"))
    options = ["--tls-cert", str(mine.cert), "--tls-key", str(mine.key)]
    options += ["--tls-client-ca", str(authority.file), "--allow-client", "alice"]
    with server("--workers", "1", *options) as s:
        url = f"https://localhost:{s.http_port}"
        with HttpClient(url, ca=authority.file, cert=alice.cert, key=alice.key) as client:
            assert client.infer(PIXELS)[0, 0] == 7
        context = ssl.create_default_context(cafile=str(authority.file))
        context.load_cert_chain(bob.cert, bob.key)
        connection = http.client.HTTPSConnection(
            "localhost", s.http_port, timeout=20, context=context
        )
        connection.request("GET", "/v2")
        assert connection.getresponse().status == 403
        connection.close()


def test_a_unix_socket_speaks_http(server: StartServer) -> None:
    with tempfile.TemporaryDirectory(prefix="corral-") as folder:
        path = f"{folder}/both.sock"
        with (
            server("--workers", "1", "--unix-socket", path) as s,
            HttpClient(f"unix:{path}") as client,
        ):
            assert client.infer(PIXELS)[0, 0] == 7
            assert client.classify(CAT, 1)[0].index >= 0
            assert s.http_port != s.port


def test_ipv6(server: StartServer) -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("there is no IPv6 here")
    with (
        server("--workers", "1", "--host", "::1") as s,
        HttpClient(f"[::1]:{s.http_port}") as client,
    ):
        assert client.infer(PIXELS)[0, 0] == 7


def test_shared_memory(server: StartServer) -> None:
    with (
        server("--workers", "1", "--cells", "1", "--client-shared-memory") as s,
        triton.InferenceServerClient(f"127.0.0.1:{s.http_port}") as client,
    ):
        region = shm.create_shared_memory_region("in", "/corral_rest_test", PIXELS.nbytes + 8000)
        try:
            shm.set_shared_memory_region(region, [PIXELS])
            client.register_system_shared_memory("in", "/corral_rest_test", PIXELS.nbytes + 8000)
            (status,) = client.get_system_shared_memory_status()
            assert status["key"] == "/corral_rest_test"
            made = triton.InferInput("input", [2, 224, 224, 3], "UINT8")
            made.set_shared_memory("in", PIXELS.nbytes)
            asked = triton.InferRequestedOutput("output")
            asked.set_shared_memory("in", 8000, PIXELS.nbytes)
            result = client.infer("resnet50", [made], outputs=[asked])
            output = result.get_output("output")
            found = shm.get_contents_as_numpy(region, np.float32, [2, 1000], PIXELS.nbytes)
            assert output["shape"] == [2, 1000]
            assert found[:, 0].tolist() == [7, 7]
            client.unregister_system_shared_memory("in")
            assert client.get_system_shared_memory_status() == []
            assert client.get_cuda_shared_memory_status() == []
        finally:
            shm.destroy_shared_memory_region(region)


def test_the_end_answers_what_was_accepted(server: StartServer) -> None:
    with server("--workers", "1", "--null-batch-ms", "500") as s:
        idle = connect(s.http_port)
        idle.sendall(GOOD)
        assert listen(idle, answers=1, within_s=10).statuses == [200]
        statuses: list[int] = []

        def send() -> None:
            picture = CAT.read_bytes()
            statuses.append(ask(s, "POST", "/v2/models/resnet50/classify", picture)[0])

        threads = [threading.Thread(target=send) for _ in range(3)]
        for thread in threads:
            thread.start()
        wait_until(lambda: Scrape(s.metrics_port).total("corral_requests_inflight") == 3, "3")
        began_s = time.monotonic()
        assert s.stop() == 0
        for thread in threads:
            thread.join()
        assert statuses == [200] * 3
        # A connection that idles does not hold the server up.
        assert time.monotonic() - began_s < 10
        idle.close()
