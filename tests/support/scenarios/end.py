"""The end of a server, or of a part of it, under load: the promises R6 and R7."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil

from support.counted_load import Counted, closed_loop
from support.health_watch import HealthWatch
from support.running_server import Server, wait_until
from support.server_counters import CounterWatch, Scrape

#: what clients are told who come while the server stops, and after
_REFUSALS = {"OK", "UNAVAILABLE"}


def family(server: Server) -> list[psutil.Process]:
    """The supervisor and its children."""
    return [psutil.Process(server.pid), *server.children()]


def gone(processes: list[psutil.Process]) -> bool:
    """Whether none of them runs any more."""
    return not any(map(_runs, processes))


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        # It went between the two questions.
        return False


def named_memory(processes: list[psutil.Process]) -> list[str]:
    """What they have mapped that has a name in /dev/shm and would outlive them."""
    return [
        line
        for process in processes
        for line in Path(f"/proc/{process.pid}/maps").read_text().splitlines()
        if "/dev/shm/" in line
    ]


def terminate(
    server: Server, *, clients: int = 8, stopped_worker: bool = False
) -> tuple[float, float]:
    """R6: SIGTERM under load. Everything that was accepted is answered.

    Args:
        server: whose batches take long enough for some to wait when the signal comes.
        clients: send requests before, during and after.
        stopped_worker: a worker stands still with a batch when the signal comes; needs a
            --hang-floor-s well below the grace time.

    Returns:
        seconds from the signal to NOT_SERVING, and to the end.
    """
    processes = family(server)
    with (
        HealthWatch(server.port) as health,
        CounterWatch(server.metrics_port, every_s=0.005) as watch,
        closed_loop(server.port, clients) as load,
    ):
        load.wait_for_answers(2 * clients)
        if stopped_worker:
            os.kill(server.workers()[0], signal.SIGSTOP)
            # The others empty the queue: what it holds is all that is left to be lost.
            load.wait_for_answers(2 * clients)
        told_at_s = time.monotonic()
        server.signal(signal.SIGTERM)
        told_s = health.wait_for("NOT_SERVING", told_at_s)
        assert server.wait() == 0, server.stderr
        ended_s = time.monotonic() - told_at_s
        load.run_for(0.1)
    assert gone(processes)
    counted = load.counted
    assert set(counted.statuses) == _REFUSALS, str(counted)
    assert not counted.wrong
    assert counted.outstanding == 0
    # Nothing is accepted after NOT_SERVING, so what had been is known from then on.
    assert watch.last.at_s > told_at_s + told_s, "the metrics are the last to go"
    assert watch.last.total("corral_requests_admitted_total") == counted.answered
    assert not watch.went_down
    return told_s, ended_s


def kill_supervisor(server: Server, *, clients: int = 8) -> float:
    """R7: the supervisor dies under load.

    Returns:
        seconds until nothing of the server was left.
    """
    processes = family(server)
    with closed_loop(server.port, clients) as load:
        load.wait_for_answers(2 * clients)
        assert not named_memory(processes)
        killed_s = time.monotonic()
        server.signal(signal.SIGKILL)
        wait_until(lambda: gone(processes), "the children to be gone")
        seconds = time.monotonic() - killed_s
    assert load.counted.outstanding == 0
    assert not load.counted.wrong
    return seconds


def _connections(pid: int) -> int:
    """How many clients a frontend is connected with."""
    found = psutil.Process(pid).net_connections("tcp")
    return sum(connection.status == psutil.CONN_ESTABLISHED for connection in found)


def kill_frontend(server: Server, *, connections: int = 8) -> Counted:
    """R7, R14: one of two frontends dies under load; it comes back, the other goes on.

    Args:
        server: with two cells, and nobody else's connections.
        connections: each used by two clients.
    """
    before = Scrape(server.metrics_port)
    with CounterWatch(server.metrics_port) as watch:
        with closed_loop(server.port, 2 * connections, connections=connections) as load:
            load.wait_for_answers(4 * connections)
            victim, survivor = server.frontends()
            untouched = _connections(survivor)
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: len({*server.frontends()} - {victim}) == 2, "another frontend")
            wait_until(
                lambda: Scrape(server.metrics_port).total("corral_ready") == 1,
                "both cells to be ready",
            )
            load.wait_for_answers(4 * connections)
        assert survivor in server.frontends()
        after = Scrape(server.metrics_port)
    counted = load.counted
    assert set(counted.statuses) <= _REFUSALS, str(counted)
    assert not counted.wrong
    # Whoever was connected to the other cell noticed nothing.
    assert len(counted.failures_by_connection) <= connections - untouched, str(counted)
    assert not watch.went_down
    # Between counting an answer and sending it, a frontend may die; nothing is sent uncounted.
    succeeded = _since(before, after, "corral_requests_total", outcome="succeeded")
    unanswered = counted.statuses["UNAVAILABLE"]
    assert counted.answered <= succeeded <= counted.answered + unanswered
    received = _since(before, after, "corral_requests_received_total")
    assert counted.answered <= received <= counted.sent
    return counted


def _since(before: Scrape, after: Scrape, name: str, **labels: str) -> float:
    return after.total(name, **labels) - before.total(name, **labels)
