"""A signal to the whole control group, as systemd sends it, loses nothing that is under way."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future

import numpy as np
import pytest
from support.running_server import Server, null_server, stopped_workers, wait_until
from support.server_counters import Scrape

from corral_client import Client

_CLIENTS = 8
_SLOW = ("--null-batch-ms", "50", "--workers", "1", "--max-batch", "1")
_ENDING = ("TERM", "INT", "QUIT", "PWR", "XCPU")
_OTHERS = (
    *("HUP", "USR1", "USR2", "ALRM", "VTALRM", "PROF", "IO", "STKFLT"),
    *("RTMIN", "RTMAX"),
)


def _ask(port: int) -> tuple[int, ...]:
    with Client(f"127.0.0.1:{port}", model="resnet50", deadline_s=30) as client:
        return np.asarray(client.infer(np.zeros((1, 3, 224, 224), np.float32))).shape


@contextlib.contextmanager
def _under_way(server: Server, requests: int) -> Iterator[list[Future[tuple[int, ...]]]]:
    """So many requests are accepted, and none is answered before the block's end.

    It yields what will be their answers' shapes, and waits for them.
    """
    with concurrent.futures.ThreadPoolExecutor(requests) as pool, stopped_workers(server):
        answers = [pool.submit(_ask, server.port) for _ in range(requests)]
        wait_until(lambda: _accepted(server) == requests, "all requests")
        yield answers


def _accepted(server: Server) -> float:
    return Scrape(server.metrics_port).total("corral_requests_inflight")


@pytest.mark.parametrize("number", [*_ENDING, *_OTHERS])
def test_what_is_under_way_outlives_a_signal_to_the_group(number: str) -> None:
    what = signal.Signals[f"SIG{number}"]
    with null_server(*_SLOW) as server:
        children = [*server.frontends(), *server.workers()]
        with _under_way(server, _CLIENTS) as answers:
            for pid in [server.pid, *children]:
                os.kill(pid, what)
        assert [answer.result() for answer in answers] == [(1, 1000)] * _CLIENTS
        assert server.stop() == 0 if number in _OTHERS else server.wait() == 0


def test_a_soft_limit_of_cpu_time_lets_what_is_under_way_be_finished() -> None:
    """The kernel says so every second, which is not to be taken for impatience."""
    with null_server(*_SLOW) as server:
        with _under_way(server, 1) as (answer,):
            os.kill(server.pid, signal.SIGXCPU)
            server.wait_for_line("SIGXCPU: draining")
            os.kill(server.pid, signal.SIGXCPU)
        assert answer.result() == (1, 1000)
        assert server.wait() == 0
        assert "again" not in server.stderr


@pytest.mark.parametrize("number", ["TERM", "INT", "QUIT", "HUP"])
def test_a_child_that_has_just_been_started_ignores_it_too(number: str) -> None:
    with null_server("--workers", "1", ready=False) as server:
        child = wait_until(lambda: server.children("launcher|worker"), "a child")[0]
        child.send_signal(signal.Signals[f"SIG{number}"])
        server.wait_until_ready()
        assert child.pid in [*server.workers(), *server.frontends()]
