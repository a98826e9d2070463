"""How connections end: idle ones, old ones, and those of clients that ping too often."""

from __future__ import annotations

import contextlib
import resource
import socket
import sys
from collections.abc import Iterator

import grpc
import psutil
import pytest
from support.broken_clients import GOAWAY, PONG, frames, idle_connection, ping
from support.counted_load import INFER, closed_loop, infer_message
from support.http_by_hand import GOOD, connect, post, say
from support.running_server import Server, StartServer, running, wait_until


def clients(server: Server) -> set[int]:
    """The ports that clients' connections come from."""
    (front,) = server.frontends()
    return {
        connection.raddr.port
        for connection in psutil.Process(front).net_connections("tcp")
        if connection.status == psutil.CONN_ESTABLISHED and connection.laddr.port == server.port
    }


def test_an_idle_connection_is_asked_to_go_and_a_busy_one_is_not(server: StartServer) -> None:
    with (
        server("--workers", "1", "--max-connection-idle-s", "0.5") as s,
        grpc.insecure_channel(f"127.0.0.1:{s.port}") as channel,
        closed_loop(s.port, clients=1, connections=1) as load,
    ):
        load.wait_for_answers(1)
        busy = clients(s)
        states: list[grpc.ChannelConnectivity] = []
        channel.subscribe(states.append)
        infer = channel.unary_unary(INFER)
        infer(infer_message("x", 1, 1), timeout=20)
        wait_until(lambda: grpc.ChannelConnectivity.READY in states, "the connection")
        wait_until(lambda: states[-1] is grpc.ChannelConnectivity.IDLE, "the connection to go")
        assert clients(s) == busy
        # Nobody need know: the next call makes a connection.
        infer(infer_message("x", 1, 1), timeout=20)
    assert load.counted.lost == 0


def test_old_connections_are_renewed_without_a_lost_request(server: StartServer) -> None:
    seen: set[int] = set()

    def renewed(s: Server) -> bool:
        seen.update(clients(s))
        return len(seen) >= 12

    age = ("--max-connection-age-s", "0.3", "--null-batch-ms", "20")
    with (
        server("--workers", "2", "--oversubscribe", *age) as s,
        closed_loop(s.port, clients=8, connections=4, retries=True) as load,
    ):
        load.wait_for_answers(8)
        wait_until(lambda: renewed(s), "connections to be replaced, twice each")
        load.wait_for_answers(8)
    assert load.counted.lost == 0, str(load.counted)


def test_the_end_says_goodbye_to_who_idles(server: StartServer) -> None:
    with server("--workers", "1") as s, idle_connection(s.port) as idle:
        arriving = frames(idle)
        next(arriving)
        assert s.stop() == 0
        # No error: what a client sent meanwhile, it may send again elsewhere.
        assert (GOAWAY, 0) in list(arriving)


@pytest.fixture
def connection(server: StartServer) -> Iterator[tuple[Server, socket.socket]]:
    """A connection by hand."""
    with server("--workers", "1") as s:
        with idle_connection(s.port) as made:
            yield s, made
        assert "Traceback" not in s.stderr


def test_who_asks_for_signs_of_life_gets_them(connection: tuple[Server, socket.socket]) -> None:
    _, made = connection
    arriving = frames(made)
    # Without a request at all: that costs as little as with one that waits in a long queue.
    for _ in range(5):
        made.settimeout(0.6)
        with pytest.raises(TimeoutError):
            while True:
                next(arriving)
        arriving = frames(made)
        made.settimeout(10)
        ping(made)
        kinds = next(kind for kind, _ in arriving if kind in {PONG, GOAWAY})
        assert kinds == PONG


def test_pings_between_answers_are_never_too_many(server: StartServer) -> None:
    options = [
        ("grpc.keepalive_time_ms", 100),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    with (
        server("--workers", "1", "--null-batch-ms", "250") as s,
        grpc.insecure_channel(f"127.0.0.1:{s.port}", options) as channel,
    ):
        infer = channel.unary_unary(INFER)
        infer(infer_message("x", 1, 1), timeout=20)
        first = clients(s)
        for _ in range(8):
            infer(infer_message("x", 1, 1), timeout=20)
        assert clients(s) == first


def test_connections_that_were_asked_to_go_leave_descriptors_for_others() -> None:
    """Each server counts its own connections alone, and a stream keeps the old ones."""
    arguments = ("--backend", "null", "--workers", "1", "--port", "0", "--metrics-port", "0")
    command = ["prlimit", "--nofile=256", sys.executable, "-m", "corral", "serve", *arguments]
    body = post(b"x", b"Content-Length: 1000")
    with (
        running([*command, "--max-connection-age-s", "1"]) as s,
        contextlib.ExitStack() as held,
    ):
        before = s.frontends()

        def hold_more() -> bool:
            for _ in range(10):
                with contextlib.suppress(OSError):
                    held.enter_context(connect(s.http_port)).sendall(body)
            return sum("had been asked to go" in line for line in s.lines) > 1

        wait_until(hold_more, "old connections to give way twice")
        held.close()
        wait_until(lambda: is_live(s.http_port), "an answer")
        assert s.frontends() == before
        assert "a server ended" not in s.stderr
        assert "Traceback" not in s.stderr


def is_live(port: int) -> bool:
    try:
        return say(port, GOOD).statuses == [200]
    except OSError:
        return False


def test_a_frontend_that_can_take_no_connection_gives_way_to_another(server: StartServer) -> None:
    with server("--workers", "1") as s:
        before = s.frontends()[0]
        taken = psutil.Process(before).num_fds()
        resource.prlimit(before, resource.RLIMIT_NOFILE, (taken, taken))
        with socket.create_connection(("127.0.0.1", s.http_port)):
            wait_until(lambda: set(s.frontends()) - {before}, "another frontend")
        wait_until(lambda: is_live(s.http_port), "an answer")
        s.wait_for_line("a server ended")
