"""The page for people of a real server: what it shows, to whom, and that serving goes on."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.console_stream import Stream
from support.http_requests import ask
from support.running_server import Server, StartServer, null_server, wait_until
from support.scenarios.fault import wait_for_workers

from corral_client import HttpClient

CAT = Path(__file__).parents[1] / "data" / "pictures" / "cat.jpg"
HTML = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def null() -> Iterator[Server]:
    # Pages that are open must take no request's place.
    with null_server("--workers", "2", "--oversubscribe", "--max-requests", "4") as server:
        wait_for_workers(server, 2)
        yield server


@contextlib.contextmanager
def stream(server: Server, **fields: str) -> Iterator[Stream]:
    made = Stream(server.http_port, fields)
    try:
        yield made
    finally:
        made.close()


def get(server: Server, path: str, fields: dict[str, str]) -> tuple[int, str, str]:
    """Status, Content-Type and text of a page."""
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=fields)
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read().decode()


def test_the_page_is_there_and_so_is_everything_that_it_shows(null: Server) -> None:
    status, kind, text = get(null, "/", HTML)
    assert (status, kind) == (200, "text/html; charset=utf-8")
    assert "uPlot" in text
    with stream(null) as told:
        assert told.status == 200
        assert told.fields["content-type"] == "text/event-stream"
        hello = told.until("hello")
        assert hello == {"model": "resnet50", "pictures": True, "classes": 1000}
        # The first view comes at once; the machine is drawn when it has been looked at.
        view = told.until("view", lambda view: view["drawn"] and view["found"])
        assert (view["phase"], view["ready"], view["model"]) == ("serving", True, "resnet50")
        assert [worker["state"] for worker in view["workers"]] == ["serving", "serving"]
        assert 'data-worker="0"' in view["drawn"]
        assert "checks" not in view["found"]["sentence"]
        with HttpClient(f"127.0.0.1:{null.http_port}") as client:
            for _ in range(10):
                client.classify(CAT.read_bytes(), k=1)
        frame = told.until("frame", lambda frame: frame["outcomes_s"]["succeeded"] > 0)
        assert frame["latency_ms"]["p50"] > 0
        assert set(frame["sizes"]) == {"1"}
        assert {worker["id"] for worker in frame["workers"]} == {0, 1}
    pids = [*null.workers(), *null.frontends(), null.pid]
    assert not [pid for pid in pids if f'"pid":{pid}' in str(view) or f"/{pid}/" in view["drawn"]]


def test_a_worker_that_dies_is_seen(null: Server) -> None:
    with stream(null) as told:
        told.until("view")
        os.kill(null.workers()[0], signal.SIGKILL)
        view = told.until(
            "view", lambda view: any(w["restarts"].get("crash") for w in view["workers"])
        )
        assert sum(w["restarts"].get("crash", 0) for w in view["workers"]) == 1


def test_there_are_so_many_pages_and_serving_goes_on(null: Server) -> None:
    with contextlib.ExitStack() as stack:
        # Those of other tests are noticed to be gone when they are sent something.
        pages = [stack.enter_context(_opened(null)) for _ in range(16)]
        with stream(null) as one_more:
            assert one_more.status == 429
            assert b"as many pages are open as may be" in one_more.body()
            assert one_more.fields["retry-after"] == "5"
        assert ask(null, "GET", "/v2/health/ready")[0] == 200
        with HttpClient(f"127.0.0.1:{null.http_port}") as client:
            assert client.classify(CAT.read_bytes(), k=1)
        assert all(page.until("frame")["at_s"] for page in pages)
    # Their places are free again.
    with _opened(null) as again:
        assert again.until("frame")["at_s"]


@contextlib.contextmanager
def _opened(server: Server) -> Iterator[Stream]:
    """A page that has a place."""

    def opens() -> Stream | None:
        told = Stream(server.http_port)
        if told.status == 200:
            return told
        told.close()
        return None

    with contextlib.closing(wait_until(opens, "a place for a page")) as told:
        yield told


def test_pages_that_never_read_are_left_and_hold_no_memory(null: Server) -> None:
    (frontend,) = null.frontends()
    rss = Path(f"/proc/{frontend}/statm")
    before = int(rss.read_text().split()[1])
    deaf = []
    for _ in range(16):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.connect(("127.0.0.1", null.http_port))
        connection.sendall(b"GET /console/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        deaf.append(connection)
    with contextlib.ExitStack() as stack:
        for connection in deaf:
            stack.enter_context(contextlib.closing(connection))
        assert ask(null, "GET", "/v2/health/ready")[0] == 200
        with HttpClient(f"127.0.0.1:{null.http_port}") as client:
            assert client.classify(CAT.read_bytes(), k=1)
    pages = int(rss.read_text().split()[1]) - before
    assert pages * os.sysconf("SC_PAGE_SIZE") < 16 * 2**20
    with _opened(null) as again:
        assert again.status == 200


def test_credentials_are_asked_for_and_two_cells_are_one_server(
    server: StartServer, tmp_path: Path
) -> None:
    tokens, token = tmp_path / "tokens", "a-token-of-this-test"
    tokens.write_text(f"{token}\n")
    tokens.chmod(0o600)
    cells = ("--workers", "2", "--cells", "2", "--oversubscribe")
    with server(*cells, "--auth-token-file", str(tokens)) as s:
        status, kind, text = get(s, "/", HTML)
        assert status == 401
        assert kind.startswith("text/html")
        assert 'id="token"' in text
        assert "uPlot" not in text
        assert get(s, "/", {})[:2] == (401, "application/json")
        right = {"Authorization": f"Bearer {token}"}
        wrong = {"Authorization": "Bearer not-a-token-of-this"}
        for fields in ({}, wrong):
            refused = Stream(s.http_port, fields)
            assert refused.status == 401
            assert b"valid credentials are needed" in refused.body()
            refused.close()
        assert get(s, "/", {**HTML, **right})[0] == 200
        told = Stream(s.http_port, right)
        view = told.until("view", lambda view: len(view["workers"]) == 2)
        assert [front["cell"] for front in view["frontends"]] == [0, 1]
        frame = told.until("frame", lambda frame: len(frame["workers"]) == 2)
        assert len(frame["queues"]) == 2
        assert ask(s, "GET", "/v2", Authorization=f"Bearer {token}")[0] == 200
        # A page that is open holds no drain up.
        assert s.stop(timeout_s=15) == 0
        told.close()


def test_a_server_may_have_no_console(server: StartServer) -> None:
    with server("--workers", "1", "--no-console") as s:
        status, kind, text = get(s, "/", HTML)
        assert (status, kind) == (404, "application/json")
        assert "--no-console" in text
        assert get(s, "/console/events", {})[0] == 404
        assert ask(s, "GET", "/v2/health/ready")[0] == 200
