"""Changes of a running server under load, and what must hold meanwhile: the promises R8 and R13."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from counted_load import Counted, closed_loop
from fault_scenarios import check_counts, wait_for_workers
from process_use import use_of
from running_server import Server, wait_until
from server_counters import Scrape

from corral.config import Mode
from corral.status import ServerStatus, State
from corral.supervision import admin

_MIB = 2**20
#: what a server's processes may grow by while it answers 10,000 requests
GROWTH_PER_10000_BYTES = _MIB
#: descriptors of connections that have ended are closed a little later
_SETTLE_S = 3.0


def ask_admin(server: Server, command: str, mode: str | None = None) -> admin.Reply:
    """Asks a server over its admin socket, as ``corral COMMAND`` does."""
    path = server.wait_for_line(r"^admin +(\S+)")[1]
    wanted = None if mode is None else Mode(mode)
    return admin.ask(Path(path), admin.Request(command=command, mode=wanted))  # type: ignore[arg-type]


def status_of(server: Server) -> ServerStatus:
    """What the server says of itself."""
    status = ask_admin(server, "status").status
    assert status
    return status


def serving(server: Server) -> int:
    """Workers through which a batch went, and which live."""
    return sum(worker.state is State.PROVEN for worker in status_of(server).workers)


class CapacityWatch:
    """How few workers served at any time: ``with CapacityWatch(server) as watch: ...``."""

    def __init__(self, server: Server, every_s: float = 0.01) -> None:
        self._server = server
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="capacity", daemon=True)
        self.least = serving(server)
        self.most = self.least
        self.looks = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            now = serving(self._server)
            self.least, self.most = min(self.least, now), max(self.most, now)
            self.looks += 1


def reload_under_load(
    server: Server, duration_s: float, *, clients: int = 8, by_signal: bool = False
) -> tuple[int, Counted]:
    """R8: workers are replaced again and again; every request is answered.

    Args:
        server: on the null backend.
        duration_s: how long; there is one reload at least.
        clients: of the load.
        by_signal: with SIGHUP instead of ``corral reload``.

    Returns:
        how many reloads there were, and what the clients saw.
    """
    workers = len(server.workers())
    wait_for_workers(server, workers)
    wait_until(lambda: serving(server) == workers, "all workers to serve")
    reloads = 0
    with CapacityWatch(server) as watch, closed_loop(server.port, clients) as load:
        load.wait_for_answers(clients)
        began_s = time.monotonic()
        while not reloads or time.monotonic() < began_s + duration_s:
            before = set(server.workers())
            if by_signal:
                server.signal(signal.SIGHUP)
                wait_until(
                    lambda b=before: (  # type: ignore[misc]
                        b.isdisjoint(server.workers()) and serving(server) == workers
                    ),
                    "all workers to be others",
                )
            else:
                reply = ask_admin(server, "reload")
                assert reply.exit_code == 0, reply.text
                assert before.isdisjoint(server.workers())
            reloads += 1
            load.wait_for_answers(clients)
    check_counts(server, load.counted)
    assert watch.looks
    assert watch.least >= max(1, workers - 1)
    assert Scrape(server.metrics_port).total("corral_worker_restarts_total", cause="crash") == 0
    return reloads, load.counted


def switch_modes(server: Server, duration_s: float, *, clients: int = 8) -> tuple[int, Counted]:
    """R8: the mode is switched to and fro; every request is answered. See reload_under_load."""
    wait_for_workers(server, len(server.workers()))
    switches = 0
    with closed_loop(server.port, clients) as load:
        began_s = time.monotonic()
        while switches < 2 or time.monotonic() < began_s + duration_s:
            load.wait_for_answers(clients)
            mode = "rti" if switches % 2 else "throughput"
            reply = ask_admin(server, "mode", mode)
            assert reply.exit_code == 0, reply.text
            assert status_of(server).mode == mode
            switches += 1
        load.wait_for_answers(clients)
    check_counts(server, load.counted)
    return switches, load.counted


# --- nothing grows ---


#: the ingress looks once a second, and trims its heap at the first look without requests
_TRIMMED_S = 2.5
#: gRPC's pool of threads has now one more and now one less; a leak has one a restart
_BREATH_THREADS = 3


@dataclasses.dataclass(frozen=True)
class Holdings:
    """What the supervisor and the ingresses hold, and what they tell.

    Attributes:
        descriptors: open ones.
        threads: of all of them.
        maps: shared anonymous memory mapped, by count.
        memory_bytes: resident, without what is shared with workers.
        series: of the metrics.
    """

    descriptors: int
    threads: int
    maps: int
    memory_bytes: int
    series: int

    def larger_than(self, before: Holdings) -> list[str]:
        """What has grown and must not: all but memory, which is allowed a little."""
        allowed = {"threads": _BREATH_THREADS}
        return [
            f"{field.name}: {was} -> {now}"
            for field in dataclasses.fields(self)
            if field.name != "memory_bytes"
            and (now := getattr(self, field.name))
            > (was := getattr(before, field.name)) + allowed.get(field.name, 0)
        ]


def holdings(server: Server) -> Holdings:
    """What a server holds now, the workers' own processes apart."""
    pids = [server.pid, *server.ingresses()]
    uses = [use_of(pid) for pid in pids]
    return Holdings(
        descriptors=sum(use.descriptors for use in uses),
        threads=sum(use.threads for use in uses),
        maps=sum(_shared_maps(pid) for pid in pids),
        memory_bytes=sum(_private_bytes(pid) for pid in pids),
        series=len(Scrape(server.metrics_port).series()),
    )


def _shared_maps(pid: int) -> int:
    return sum("/memfd:" in line for line in Path(f"/proc/{pid}/maps").read_text().splitlines())


def _private_bytes(pid: int) -> int:
    """Resident memory that is the process's own: a region is not, whoever has touched it."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return int(fields["RssAnon"].split()[0]) * 1024


@dataclasses.dataclass(frozen=True)
class Growth:
    """What grew over a run.

    Attributes:
        grown: descriptors, threads, maps or series that did, in words.
        requests: answered meanwhile.
        memory_bytes: more than before.
    """

    grown: list[str]
    requests: int
    memory_bytes: int

    @property
    def per_10000_bytes(self) -> float:
        """Memory by 10,000 requests."""
        return self.memory_bytes * 10_000 / max(1, self.requests)


def restart_workers(
    server: Server, restarts: int, *, clients: int = 8, settle_requests: int = 300
) -> Growth:
    """R13: workers die and come back many times, under load.

    Args:
        server: on the null backend.
        restarts: how many, in all.
        clients: of the load.
        settle_requests: answered before the first look: caches fill, arenas grow once.

    Returns:
        what grew.
    """
    workers = len(server.workers())
    wait_for_workers(server, workers)
    with closed_loop(server.port, clients) as load:
        _restart_all(server, workers)
        load.wait_for_answers(settle_requests)
    before = holdings(server)
    with closed_loop(server.port, clients) as load:
        for _ in range(-(-restarts // workers)):
            _restart_all(server, workers)
            load.wait_for_answers(clients)
    return _growth(server, before, load.counted.answered)


def serve_many(server: Server, requests: int, *, clients: int = 8, settle: int = 2000) -> Growth:
    """R13: so many requests; see restart_workers."""
    wait_for_workers(server, len(server.workers()))
    with closed_loop(server.port, clients) as load:
        load.wait_for_answers(settle, 600)
    before = _quiet_holdings(server)
    with closed_loop(server.port, clients) as load:
        load.wait_for_answers(requests, 3600)
    return _growth(server, before, load.counted.answered)


def _quiet_holdings(server: Server) -> Holdings:
    """Once the ingress has given freed memory back, which it does after a second of quiet."""
    end_s = time.monotonic() + _TRIMMED_S
    least = holdings(server)
    while time.monotonic() < end_s:
        time.sleep(0.1)
        least = min(least, holdings(server), key=lambda held: held.memory_bytes)
    return least


def _growth(server: Server, before: Holdings, requests: int) -> Growth:
    """Looks until nothing is more than it was, or for so long that it is what it is."""
    end_s = time.monotonic() + _SETTLE_S
    while (after := _quiet_holdings(server)).larger_than(before) and time.monotonic() < end_s:
        pass
    return Growth(
        after.larger_than(before), requests, max(0, after.memory_bytes - before.memory_bytes)
    )


def _restart_all(server: Server, workers: int) -> None:
    before = set(server.workers_by_id().values())
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_until(
        lambda: before.isdisjoint(server.workers()) and serving(server) == workers,
        "all workers to be back",
    )
