"""The metrics endpoint over real sockets, with friendly and unfriendly clients."""

from __future__ import annotations

import contextlib
import http.client
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from typing import cast

import pytest

from corral.errors import ConfigError
from corral.metrics import http as metrics_http
from corral.metrics.http import MetricsServer
from corral.security.tls import Material
from corral.system.watched_file import WatchedFile

PAGE = b"# HELP corral_ready 1 when requests are taken\n# TYPE corral_ready gauge\ncorral_ready 1\n"


@pytest.fixture(autouse=True)
def frequent_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop takes up to one poll, which every test would wait for."""
    monkeypatch.setattr(metrics_http, "POLL_S", 0.01)


class Source:
    """What the endpoint shows, changed by tests."""

    def __init__(self) -> None:
        self.ready = True
        self.collect: Callable[[], bytes] = lambda: PAGE

    def render(self) -> bytes:
        return self.collect()


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def server(source: Source) -> Iterator[MetricsServer]:
    started = MetricsServer("127.0.0.1", 0, source.render, lambda: source.ready)
    started.start()
    yield started
    started.stop()


def ask(server: MetricsServer, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()


def connect(server: MetricsServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def read_to_end(connection: socket.socket) -> bytes:
    """Everything until the server closes; a reset is an end as well."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(65536):
            received += data
    return received


def test_metrics_are_text_format_0_0_4(server: MetricsServer) -> None:
    status, headers, body = ask(server, "/metrics")
    assert (status, body) == (200, PAGE)
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert headers["Content-Length"] == str(len(PAGE))
    assert headers["Server"] == "corral"


def test_a_query_is_ignored(server: MetricsServer) -> None:
    assert ask(server, "/metrics?name[]=corral_ready")[2] == PAGE


def test_every_scrape_collects_anew(server: MetricsServer, source: Source) -> None:
    numbers = iter(range(10))
    source.collect = lambda: b"%d" % next(numbers)
    assert [ask(server, "/metrics")[2] for _ in range(3)] == [b"0", b"1", b"2"]


def test_liveness_and_readiness(server: MetricsServer, source: Source) -> None:
    assert ask(server, "/readyz")[::2] == (200, b"ready\n")
    source.ready = False
    assert ask(server, "/readyz")[::2] == (503, b"not ready\n")
    assert ask(server, "/livez")[::2] == (200, b"live\n")


def test_head_has_the_headers_and_no_body(server: MetricsServer) -> None:
    status, headers, body = ask(server, "/metrics", "HEAD")
    assert (status, headers["Content-Length"], body) == (200, str(len(PAGE)), b"")


@pytest.mark.parametrize("path", ["/", "/metrics/", "/v2/health/ready", "/livez/..", "/METRICS"])
def test_other_paths_are_not_found(server: MetricsServer, path: str) -> None:
    assert ask(server, path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_not_allowed(server: MetricsServer, method: str) -> None:
    status, headers, _ = ask(server, "/metrics", method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "garbage",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n", b"GET\r\n\r\n", b"G" * 70_000 + b"\r\n"],
)
def test_what_is_no_http_gets_an_error_and_harms_nobody(
    server: MetricsServer, garbage: bytes
) -> None:
    with connect(server) as connection:
        connection.sendall(garbage)
        assert b"200" not in read_to_end(connection)
    assert ask(server, "/livez")[0] == 200


def test_a_failing_collect_is_a_500_without_the_exceptions_text(
    server: MetricsServer, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> bytes:
        raise ValueError("a secret")

    source.collect = broken
    with caplog.at_level(logging.ERROR):
        status, _, body = ask(server, "/metrics")
    assert status == 500
    assert b"secret" not in body
    assert "a secret" in caplog.text
    assert ask(server, "/livez")[0] == 200


def test_silent_and_slow_clients_are_cut_off(
    server: MetricsServer, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_http, "MAX_CONNECTION_S", 0.2)
    source.collect = lambda: b"x" * 50_000_000  # more than the socket's buffers take
    with connect(server) as silent, connect(server) as dripping, connect(server) as unread:
        unread.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        # A byte now and then would keep a timeout on the socket from ever firing.
        with pytest.raises(OSError, match=r"Broken pipe|reset"):
            while True:
                dripping.sendall(b"G")
                threading.Event().wait(0.02)
        assert read_to_end(silent) == b""
        assert len(read_to_end(unread)) < 50_000_000


def test_more_connections_than_there_is_room_for_are_closed_and_the_room_comes_back(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_http, "MAX_CONNECTIONS", 2)
    with connect(server), connect(server) as second, connect(server) as third:
        assert read_to_end(third) == b""
        second.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        assert b"200 OK" in read_to_end(second)
        # Its place is free as soon as the answer is out.
        assert ask(server, "/livez")[0] == 200


def test_scrapes_at_once_are_all_answered(server: MetricsServer, source: Source) -> None:
    # None is answered before all have arrived: they are served side by side.
    barrier = threading.Barrier(8)

    def collect() -> bytes:
        barrier.wait(10)
        return PAGE

    source.collect = collect
    answers: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: answers.append(ask(server, "/metrics")[2]))
        for _ in range(barrier.parties)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [PAGE] * barrier.parties


def test_a_port_in_use_is_one_helpful_line(server: MetricsServer) -> None:
    line = rf"--metrics-port: cannot listen on 127.0.0.1:{server.port}: Address already in use"
    with pytest.raises(ConfigError, match=line):
        MetricsServer("127.0.0.1", server.port, lambda: b"", lambda: True)


def test_an_address_that_is_not_ours_is_one_helpful_line() -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1:0: Cannot assign"):
        MetricsServer("192.0.2.1", 0, lambda: b"", lambda: True)


def test_stop_frees_the_port_and_ends_the_thread() -> None:
    first = MetricsServer("127.0.0.1", 0, lambda: PAGE, lambda: True)
    first.start()
    assert ask(first, "/metrics")[0] == 200
    first.stop()
    assert "metrics" not in {thread.name for thread in threading.enumerate()}
    second = MetricsServer("127.0.0.1", first.port, lambda: PAGE, lambda: True)
    second.start()
    assert ask(second, "/metrics")[0] == 200
    second.stop()


def test_stop_before_start_frees_the_port() -> None:
    never = MetricsServer("127.0.0.1", 0, lambda: PAGE, lambda: True)
    never.stop()
    MetricsServer("127.0.0.1", never.port, lambda: PAGE, lambda: True).stop()


def test_ipv6() -> None:
    try:
        server = MetricsServer("::1", 0, lambda: PAGE, lambda: True)
    except ConfigError as error:
        pytest.skip(str(error))
    server.start()
    with socket.create_connection(("::1", server.port), timeout=10) as connection:
        connection.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        assert b"live" in read_to_end(connection)
    server.stop()


def test_a_connection_that_cannot_be_secured_costs_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken:
        def current(self) -> None:
            raise ValueError("a secret")

    server = MetricsServer(
        "127.0.0.1", 0, lambda: PAGE, lambda: True, files=cast("WatchedFile[Material]", Broken())
    )
    server.start()
    for _ in range(2):
        with connect(server) as connection:
            assert read_to_end(connection) == b""
    server.stop()
    assert caplog.text.count("could not be secured") == 2
