"""Promises about CPUs that change under a running server, in their short form."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from support.counted_load import closed_loop
from support.running_server import StartServer, wait_until
from support.scenarios.cgroup import (
    Group,
    change_cpus,
    control_group,
    inside,
    most_runnable,
    set_affinity,
    throttle,
)
from support.server_counters import Scrape

needs_two_cpus = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="there is one CPU: none can be taken away"
)


def _group(controller: str) -> Iterator[Group]:
    with control_group(controller) as group:
        if group is None:
            pytest.skip(f"no control group with {controller} can be made here; it takes root")
        yield group


@pytest.fixture
def cpuset() -> Iterator[Group]:
    yield from _group("cpuset")


@pytest.fixture
def quota() -> Iterator[Group]:
    yield from _group("cpu")


@needs_two_cpus
def test_r15_workers_follow_the_affinity_mask(server: StartServer) -> None:
    with server("--null-batch-ms", "1") as s:
        change_cpus(s, lambda cpus: set_affinity(s, cpus))
        s.wait_for_line("the server may use CPUs .* now: plan anew: . workers? replaced")
        assert s.stop() == 0


@needs_two_cpus
def test_r15_cpus_that_change_while_it_starts_are_followed(server: StartServer) -> None:
    with server("--null-batch-ms", "1", "--log-level", "debug", ready=False) as s:
        (frontend,) = wait_until(s.frontends, "the frontend")
        # Nothing is ready without it.
        os.kill(frontend, signal.SIGSTOP)
        left = {max(os.sched_getaffinity(0))}
        set_affinity(s, left)
        s.wait_for_line("the server may use CPUs .* now: not while it is starting")
        os.kill(frontend, signal.SIGCONT)
        s.wait_until_ready()
        wait_until(lambda: inside(s, left, 1), "the workers to be inside what is left")
        assert s.stop() == 0


@needs_two_cpus
def test_r15_workers_follow_the_cpuset(cpuset: Group, server: StartServer) -> None:
    with server("--null-batch-ms", "1") as s:
        cpuset.take(s)
        change_cpus(s, cpuset.set_cpus)
        assert s.stop() == 0


@needs_two_cpus
def test_r15_workers_that_do_not_fit_any_more_become_fewer(server: StartServer) -> None:
    two = ("--workers", "2", "--cores-per-worker", "1")
    with server("--null-batch-ms", "1", *two) as s:
        left = {min(os.sched_getaffinity(0))}
        set_affinity(s, left)
        s.wait_for_line("planned without the wished number and width of workers")
        status = wait_until(lambda: inside(s, left, 1), "one worker on the CPU that is left")
        assert len(status.workers) == 1
        assert s.stop() == 0


@needs_two_cpus
def test_r15_a_quota_is_a_smaller_plan(quota: Group, server: StartServer) -> None:
    with server("--null-batch-ms", "10", "--null-spin", "--cores-per-worker", "1") as s:
        quota.take(s)
        with closed_loop(s.port, clients=8) as load:
            load.wait_for_answers(20)
            # Otherwise there would be nothing that the smaller plan could take away.
            wait_until(lambda: most_runnable(s) > 1, "two workers at work at a time")
            quota.set_quota(1.0)
            s.wait_for_line("quota 1 now: plan anew")
            wait_until(lambda: inside(s, os.sched_getaffinity(0), 1), "one thread's worth")
            load.wait_for_answers(20)
            assert most_runnable(s) <= 1
        assert not load.counted.lost, str(load.counted)
        assert s.stop() == 0


def test_r15_throttling_is_reported(quota: Group, server: StartServer) -> None:
    spinning = ("--workers", "1", "--null-batch-ms", "10", "--null-spin")
    with server(*spinning) as s:
        before = Scrape(s.metrics_port).total("corral_cpu_throttled_periods_total")
        used = throttle(s, quota, 1.5, cpus=0.5)
        assert used < 0.75
        scrape = Scrape(s.metrics_port)
        assert scrape.total("corral_cpu_throttled_periods_total") > before
        assert scrape.total("corral_cpu_throttled_seconds_total") > 0
        assert s.stop() == 0
