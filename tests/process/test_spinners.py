"""--keep-warm on keeps CPUs from halting: in nobody's way, for a while, until the server ends."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

import psutil
import pytest
from support.counted_load import closed_loop
from support.running_server import BUSY_S, Server, StartServer, wait_until
from support.scenarios.cgroup import Group, control_group
from support.scenarios.end import gone
from support.scenarios.reload import status_of
from support.server_counters import Scrape

from corral.system import procfs
from corral.system.spun import NAME, between, spun_seconds

_METRIC = "corral_keep_warm_spin_seconds_total"
_ON = ("--keep-warm", "on", "--keep-warm-spin-s", "60", "--null-batch-ms", "1")


def _parents(server: Server) -> list[psutil.Process]:
    return server.children(r"corral\.launch\.spinner")


def _spinners(server: Server) -> dict[int, psutil.Process]:
    """What spins, by the CPU that it is bound to."""
    found = {}
    for parent in _parents(server):
        with contextlib.suppress(psutil.NoSuchProcess, ValueError):
            for child in parent.children():
                (cpu,) = os.sched_getaffinity(child.pid)
                if os.sched_getscheduler(child.pid) == os.SCHED_IDLE:
                    found[cpu] = child
    return found


def _all_spinners(server: Server) -> dict[int, psutil.Process]:
    """Once there is one on every CPU that the server uses."""
    status = status_of(server)
    cpus = {cpu for one in status.cells for cpu in one.cpus}
    cpus |= {cpu for one in status.workers for cpu in one.cpus}
    wait_until(lambda: _spinners(server).keys() == cpus, "a spinner on each CPU")
    return _spinners(server)


def _seconds(spinners: dict[int, psutil.Process]) -> float:
    return sum(procfs.process_cpu_seconds(one.pid) for one in spinners.values())


def _ask(server: Server) -> None:
    with closed_loop(server.port, clients=1) as load:
        load.wait_for_answers(1)


# What spins gets what nobody else wants: with other tests beside it, that may be nothing.
@pytest.mark.timing
def test_every_cpu_has_one_that_gives_way_and_is_told_of(server: StartServer) -> None:
    with server(*_ON) as s:
        spinners = _all_spinners(s)
        for cpu, one in spinners.items():
            assert os.sched_getscheduler(one.pid) == os.SCHED_IDLE
            assert os.sched_getaffinity(one.pid) == {cpu}
            assert one.name() == NAME
        wait_until(lambda: Scrape(s.metrics_port).total(_METRIC) > 0.1, "time to be told")
        spin = status_of(s).spin
        assert spin is not None
        assert (spin.cpus, spin.pid) == (sorted(spinners), _parents(s)[0].pid)
        assert spin.cpu_s > 0.1
        assert between({}, spun_seconds()).keys() >= spinners.keys()
        s.wait_for_line(r"spin +CPUs .* for 60 s after a request")
        everyone = [*_parents(s), *spinners.values()]
        assert s.stop() == 0
        assert gone(everyone), "they end before the server does"


@pytest.mark.parametrize("asked", ["auto", "on"])
def test_none_is_there_unless_it_is_asked_for(server: StartServer, asked: str) -> None:
    with server("--keep-warm", asked) as s:
        assert not _parents(s)
        assert status_of(s).spin is None
        assert s.stop() == 0


def test_they_end_with_a_supervisor_that_is_killed(server: StartServer) -> None:
    with server(*_ON) as s:
        everyone = [*_all_spinners(s).values(), *_parents(s)]
        s.signal(signal.SIGKILL)
        s.wait()
        wait_until(lambda: gone(everyone), "them to be gone", 5 + BUSY_S)


def test_they_end_when_the_server_drains(server: StartServer) -> None:
    with server(*_ON, "--drain-delay-s", "20") as s:
        everyone = [*_all_spinners(s).values(), *_parents(s)]
        s.signal(signal.SIGTERM)
        wait_until(lambda: gone(everyone), "them to be gone", 5 + BUSY_S)
        assert s.frontends(), "the server is still there"


def test_a_silence_is_spun_for_a_while_and_a_request_begins_another(server: StartServer) -> None:
    with server(*_ON, "--keep-warm-spin-s", "0.5") as s:
        spinners = _all_spinners(s)

        def rests() -> bool:
            before_s = _seconds(spinners)
            with contextlib.suppress(psutil.TimeoutExpired):
                next(iter(spinners.values())).wait(0.5)
            return _seconds(spinners) - before_s < 0.02

        wait_until(rests, "the while to be over")
        before_s = _seconds(spinners)

        def spins_again() -> bool:
            # On a machine that is busy with others nothing is left to spin with; so it is asked
            # for another silence.
            _ask(s)
            with contextlib.suppress(psutil.TimeoutExpired):
                next(iter(spinners.values())).wait(0.3)
            return _seconds(spinners) - before_s >= 0.05

        wait_until(spins_again, "another silence", 60.0)
        wait_until(rests, "that to be over, too")
        assert s.stop() == 0


def test_one_that_dies_is_replaced_with_all_others(server: StartServer) -> None:
    with server(*_ON) as s:
        before = _all_spinners(s)
        next(iter(before.values())).kill()
        s.wait_for_line(r"--keep-warm on: CPUs halt again: .* ended \(was killed by SIGKILL\)")
        wait_until(lambda: gone(list(before.values())), "the others to be gone")
        after = _all_spinners(s)
        assert not {one.pid for one in before.values()} & {one.pid for one in after.values()}
        assert s.stop() == 0


@pytest.mark.timing
def test_what_they_took_is_told_though_nobody_asked_before_they_ended(server: StartServer) -> None:
    with server(*_ON) as s:
        spinners = _all_spinners(s)
        wait_until(lambda: _seconds(spinners) > 0.5, "time to be told")
        next(iter(spinners.values())).kill()
        s.wait_for_line("--keep-warm on: CPUs halt again: one of what spins ended")
        spin = status_of(s).spin
        assert spin is not None
        # What comes after them starts seconds later.
        assert spin.cpu_s > 0.5


def test_they_stand_still_while_a_worker_starts(server: StartServer) -> None:
    """What a worker measures of its batches is its own."""
    with server(*_ON, "--workers", "1") as s:
        spinners = _all_spinners(s)
        (worker,) = s.workers()
        seen: set[str] = set()

        def is_back() -> bool:
            seen.update(one.status() for one in spinners.values())
            (status,) = status_of(s).workers
            return status.pid not in (worker, None) and status.state == "verified"

        os.kill(worker, signal.SIGKILL)
        wait_until(is_back, "another worker")
        assert psutil.STATUS_STOPPED in seen
        wait_until(
            lambda: all(one.status() != psutil.STATUS_STOPPED for one in spinners.values()),
            "them to go on",
        )
        assert s.stop() == 0


@pytest.fixture
def quota() -> Iterator[Group]:
    with control_group("cpu") as group:
        if group is None:
            pytest.skip("no control group with cpu can be made here; it takes root")
        yield group


def test_a_quota_is_not_spun_away(quota: Group, server: StartServer) -> None:
    with server(*_ON, "--cores-per-worker", "1") as s:
        everyone = [*_all_spinners(s).values(), *_parents(s)]
        quota.take(s)
        quota.set_quota(1.0)
        s.wait_for_line("--keep-warm on: no CPU is kept from halting, .* the quota of 1 CPUs")
        wait_until(lambda: gone(everyone), "them to be gone")
        assert not _parents(s)
        assert status_of(s).spin is None
        assert s.stop() == 0
