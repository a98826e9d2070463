"""Changed CPUs and throttling, noticed."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from corral.planning import topology
from corral.supervisor.admin import Reply
from corral.supervisor.cpu_watch import (
    REPORT_S,
    AllowedCpus,
    AllowedCpusWatch,
    CpuWatch,
    ThrottlingReport,
)
from corral.supervisor.lifecycle import Backoff
from corral.system.cgroups import Throttling


def cpus(*numbers: int, quota: float | None = None) -> AllowedCpus:
    return AllowedCpus(cpus=numbers, quota=quota)


def test_nothing_changed() -> None:
    watch = AllowedCpusWatch(cpus(0, 1))
    assert watch.look(cpus(0, 1), 0.0) is None
    assert watch.look(cpus(0, 1), 1.0) is None


@pytest.mark.parametrize("now", [cpus(0), cpus(0, 1, 2), cpus(0, 1, quota=1.5)])
def test_a_change_that_has_settled_is_told_until_it_is_planned_for(now: AllowedCpus) -> None:
    watch = AllowedCpusWatch(cpus(0, 1))
    assert watch.look(now, 0.0) is None
    assert watch.look(now, 1.0) == now
    assert watch.look(now, 2.0) == now, "nobody had the time for it, a second ago"
    watch.planned(now)
    assert watch.look(now, 3.0) is None


def test_what_passes_is_not_told() -> None:
    watch = AllowedCpusWatch(cpus(0, 1))
    assert watch.look(cpus(0), 0.0) is None
    assert watch.look(cpus(1), 1.0) is None
    assert watch.look(cpus(0, 1), 2.0) is None
    assert watch.look(cpus(0, 1), 3.0) is None


def test_the_way_back_is_a_change_too() -> None:
    watch = AllowedCpusWatch(cpus(0, 1))
    watch.look(cpus(0), 0.0)
    assert watch.look(cpus(0), 1.0)
    watch.planned(cpus(0))
    watch.look(cpus(0, 1), 2.0)
    assert watch.look(cpus(0, 1), 3.0) == cpus(0, 1)


def test_a_plan_that_failed_is_tried_again_later_each_time() -> None:
    watch = AllowedCpusWatch(cpus(0, 1))
    watch.look(cpus(0), 0.0)
    waits_s, now_s = [], 1.0
    for _ in range(9):
        failed_s = now_s
        watch.failed(cpus(0), failed_s)
        while watch.look(cpus(0), now_s) is None:
            now_s += 1.0
        waits_s.append(now_s - failed_s)
    assert waits_s == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0, 300.0]
    # Another one is worth a try at once, and so is the first one after it.
    watch.failed(cpus(0), now_s)
    watch.look(cpus(1), now_s)
    assert watch.look(cpus(1), now_s) == cpus(1)
    watch.failed(cpus(1), now_s)
    watch.look(cpus(0), now_s)
    assert watch.look(cpus(0), now_s) == cpus(0)


def one_task(reply: Reply | Exception) -> asyncio.Task[Reply]:
    async def act() -> Reply:
        if isinstance(reply, Exception):
            raise reply
        return reply

    return asyncio.get_running_loop().create_task(act())


async def test_a_change_waits_until_there_is_time_for_it_and_fails_until_it_succeeds(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("corral.supervisor.cpu_watch.RETRY", Backoff(0.0, 0.0))
    now, told = cpus(0, 1), list[AllowedCpus]()
    replies: list[Reply | Exception] = [
        Reply(text="no", exit_code=1),
        ValueError("a fault"),
        Reply(text="yes"),
    ]
    starting = True

    def on_allowed_cpus(allowed_cpus: AllowedCpus) -> asyncio.Task[Reply] | None:
        if starting:
            return None
        told.append(allowed_cpus)
        return one_task(replies.pop(0))

    cpu_watch = CpuWatch(lambda: now, on_allowed_cpus, lambda sentence: None)
    now = cpus(0)
    for _ in range(3):
        cpu_watch.look()
    assert not told
    starting = False
    for times in (1, 2, 3, 3):
        cpu_watch.look()
        cpu_watch.look()
        assert told == [cpus(0)] * times, "one at a time"
        # The task, and then its callback.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    cpu_watch.stop()
    assert not replies
    assert caplog.text.count("a fault") == 1


def test_an_allowance_reads_well() -> None:
    assert str(cpus(0, 2, quota=1.5)) == "CPUs 0,2, quota 1.5"


def stat(periods: int, throttled: int, seconds: float) -> Throttling:
    return Throttling(periods, throttled, seconds)


def test_throttling_is_reported_now_and_then() -> None:
    report = ThrottlingReport(stat(100, 7, 1.0), 0.0)
    assert report.look(stat(110, 7, 1.0), 1.0) is None
    sentence = report.look(stat(120, 12, 1.5), 2.0)
    assert sentence
    assert sentence.startswith("the CPU quota stopped threads in 5 of 20 periods, for 0.5 s")
    assert report.look(stat(130, 22, 2.5), 3.0) is None, "not every second"
    sentence = report.look(stat(220, 112, 9.5), 3.0 + REPORT_S)
    assert sentence
    assert "100 of 100 periods, for 8.0 s" in sentence


def test_a_stop_in_a_thousand_periods_is_no_news() -> None:
    report = ThrottlingReport(stat(0, 0, 0.0), 0.0)
    assert report.look(stat(1000, 1, 0.01), 100.0) is None


def test_where_nothing_is_told_nothing_is_reported() -> None:
    report = ThrottlingReport(None, 0.0)
    assert report.look(None, 1.0) is None
    assert report.look(stat(100, 100, 10.0), 2.0) is None, "what was before we looked"
    assert report.look(stat(200, 200, 20.0), 3.0)


def test_the_allowance_is_read_without_the_rest_of_the_machine(tmp_path: Path) -> None:
    proc, group = tmp_path / "proc/self", tmp_path / "sys/fs/cgroup"
    proc.mkdir(parents=True)
    group.mkdir(parents=True)
    (proc / "status").write_text("Cpus_allowed_list:\t0-5\n")
    (proc / "cgroup").write_text("0::/\n")
    (proc / "mountinfo").write_text("30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    (group / "cpuset.cpus.effective").write_text("2-7\n")
    (group / "cpu.max").write_text("150000 100000\n")
    assert topology.read_allowed(tmp_path, live=False) == ((2, 3, 4, 5), 1.5)
    (group / "cpu.max").write_text("max 100000\n")
    (group / "cpuset.cpus.effective").write_text("0-3\n")
    assert topology.read_allowed(tmp_path, live=False) == ((0, 1, 2, 3), None)


def test_what_is_allowed_here_is_what_the_plan_says() -> None:
    allowed, quota = topology.read_allowed()
    machine = topology.read_machine()
    assert allowed == machine.allowed_cpus
    assert quota == machine.cpu_quota
    assert set(allowed) <= os.sched_getaffinity(0)
