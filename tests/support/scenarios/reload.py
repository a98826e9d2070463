"""Changes of a running server under load, and what must hold meanwhile: the promises R8 and R13."""

from __future__ import annotations

import dataclasses
import itertools
import os
import signal
import time
from pathlib import Path

from corral.ipc.status import ServerStatus, State
from corral.settings import Mode
from corral.supervisor import admin
from support.counted_load import Counted, CountedLoad, closed_loop
from support.process_use import use_of
from support.repeated_look import RepeatedLook
from support.running_server import Server, wait_until
from support.scenarios.fault import check_counts, wait_for_workers
from support.server_counters import Scrape

_MIB = 2**20
#: what a server's processes may grow by while it answers 10,000 requests
GROWTH_PER_10000_BYTES = _MIB
#: descriptors of connections that have ended are closed a little later
_SETTLE_S = 3.0
_POLL_S = 0.05
#: at memory, in a window
_LOOKS = 8


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
    return sum(worker.state is State.VERIFIED for worker in status_of(server).workers)


class CapacityWatch(RepeatedLook):
    """How few workers served at any time: ``with CapacityWatch(server) as watch: ...``."""

    def __init__(self, server: Server, every_s: float = 0.01) -> None:
        super().__init__(every_s)
        self._server = server
        self.least = serving(server)
        self.most = self.least
        self.looks = 0

    def _look(self) -> None:
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
    workers = len(server.workers())
    wait_for_workers(server, workers)
    wait_until(lambda: serving(server) == workers, "all workers to serve")
    switches = 0
    with CapacityWatch(server) as watch, closed_loop(server.port, clients) as load:
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
    assert watch.looks
    assert watch.least >= max(1, workers - 1)
    return switches, load.counted


# --- nothing grows ---


#: gRPC's pool of threads has now one more and now one less; a leak has one a restart
_BREATH_THREADS = 3


@dataclasses.dataclass(frozen=True)
class Holdings:
    """What the supervisor and the frontends hold, and what they tell.

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
    pids = [server.pid, *server.frontends()]
    uses = [use_of(pid) for pid in pids]
    return Holdings(
        descriptors=sum(use.descriptors for use in uses),
        threads=sum(use.threads for use in uses),
        maps=sum(_shared_maps(pid) for pid in pids),
        memory_bytes=_memory_bytes(server),
        series=len(Scrape(server.metrics_port).series()),
    )


def _memory_bytes(server: Server) -> int:
    return sum(_private_bytes(pid) for pid in (server.pid, *server.frontends()))


def _shared_maps(pid: int) -> int:
    return sum("/memfd:" in line for line in Path(f"/proc/{pid}/maps").read_text().splitlines())


def _private_bytes(pid: int) -> int:
    """Resident memory that is the process's own: a region is not, whoever has touched it."""
    try:
        # To the page; the kernel's running sums in status may lag behind by dozens of them.
        return _kilobytes(Path(f"/proc/{pid}/smaps_rollup"), "Anonymous") * 1024
    except OSError:
        return _kilobytes(Path(f"/proc/{pid}/status"), "RssAnon") * 1024


def _kilobytes(file: Path, field: str) -> int:
    fields = dict(line.split(":", 1) for line in file.read_text().splitlines() if ":" in line)
    return int(fields[field].split()[0])


@dataclasses.dataclass(frozen=True)
class Growth:
    """What grew over a run.

    Attributes:
        grown: descriptors, threads, maps or series that did, in words.
        requests: answered meanwhile.
        memory_bytes: more than before.
        window_bytes: how much of it came in each of equal windows of the run; empty where there
            was one window.
    """

    grown: list[str]
    requests: int
    memory_bytes: int
    window_bytes: list[int] = dataclasses.field(default_factory=list)

    @property
    def per_10000_bytes(self) -> float:
        """Memory by 10,000 requests, over the whole run."""
        return self.memory_bytes * 10_000 / max(1, self.requests)

    @property
    def steady_per_10000_bytes(self) -> float:
        """Memory by 10,000 requests, by the window at a third of all, the least first.

        A leak grows in every window. What an allocator takes once more is a step in few of them, as
        large as thousands of small leaks; and a heap that is trimmed makes some shrink, or grow
        by less than what was leaked there. A short run tells a leak from neither by its sum.
        """
        windows = sorted(self.window_bytes)
        at = windows[(len(windows) - 1) // 3]
        return max(0, at) * 10_000 * len(windows) / max(1, self.requests)


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


def serve_many(
    server: Server, requests: int, *, windows: int = 12, clients: int = 8, settle: int = 2000
) -> Growth:
    """R13: so many requests, all of one load, so that the same connections stand at every look.

    Args:
        server: on the null backend.
        requests: how many.
        windows: equal parts of the run, of each of which it is known how much memory came in it.
        clients: of the load.
        settle: requests answered before the first window.

    Returns:
        what grew.
    """
    wait_for_workers(server, len(server.workers()))
    with closed_loop(server.port, clients) as load:
        load.wait_for_answers(settle, 600)
        before = holdings(server)
        answered = load.counted.answered
        floors = [_floor_bytes(server, load, requests // (windows + 1)) for _ in range(windows + 1)]
        answered = load.counted.answered - answered
        grown = _growth(server, before, answered).grown
    steps = [after - earlier for earlier, after in itertools.pairwise(floors)]
    # From the first floor to the last one is the way of as many windows as there are steps.
    return Growth(grown, answered * windows // (windows + 1), max(0, sum(steps)), steps)


def _floor_bytes(server: Server, load: CountedLoad, requests: int) -> int:
    """The least memory at any look while so many requests are answered.

    Buffers under way come and go; what is left when there are fewest of them is what is kept.
    """
    least = _memory_bytes(server)
    for _ in range(_LOOKS):
        load.wait_for_answers(-(-requests // _LOOKS), 600)
        least = min(least, _memory_bytes(server))
    return least


def _growth(server: Server, before: Holdings, requests: int) -> Growth:
    """Looks until nothing is more than it was, or for so long that it is what it is."""
    end_s = time.monotonic() + _SETTLE_S
    while (after := holdings(server)).larger_than(before) and time.monotonic() < end_s:
        time.sleep(_POLL_S)
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
