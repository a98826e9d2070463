"""Promises about faults of workers, in their short form; ``make soak`` runs the long one.

The table of promises is in docs/behaviour.md; each test is named after its promise. Times are
asserted with room for a machine that is busy with others; ``make soak`` asserts the promised ones.
"""

from __future__ import annotations

import os
import re
import signal

import pytest
from support.counted_load import ask, fixed_rate
from support.running_server import WITH_FAULTS, StartServer, StartSupervisor, wait_until
from support.scenarios.cgroup import control_group
from support.scenarios.fault import (
    FOUR_WORKERS,
    TWO_WORKERS,
    check_counts,
    hang_workers,
    is_back,
    kill_all_workers,
    kill_workers,
    poison_workers,
    wait_for_workers,
)
from support.server_counters import CounterWatch, Scrape

#: what keeps a Python from starting at all
NO_PYTHON = {"env": {"PYTHONHOME": "/nonexistent"}}
#: batches so short that a worker's warm-up is, too; where other tests take the CPUs a load waits,
#: and is refused to nobody
QUICK = ("--null-batch-ms", "10", "--max-queue", "2000")
#: first elements of requests, see null_faults/corral_null_faults.py
SEGMENTATION_FAULT, ABORT = 252, 253


def test_r1_workers_that_die_under_load_cost_no_request(server: StartServer) -> None:
    with server(*FOUR_WORKERS, *QUICK) as s:
        outcome = kill_workers(s, 2.0, every_s=0.5, per_s=200.0)
        assert outcome.faults >= 4
        assert outcome.slowest_return_s < 5


def test_r1_a_worker_that_the_kernel_kills_for_its_memory_costs_no_request(
    server: StartServer,
) -> None:
    with server(*TWO_WORKERS, *QUICK) as s, control_group("memory") as group:
        if group is None:
            pytest.skip("no control group with memory can be made here; it takes root")
        wait_for_workers(s, 2)
        group.set_memory(128 * 2**20)
        with fixed_rate(s.port, 50.0) as load:
            load.wait_for_answers(10)
            worker, pid = sorted(s.workers_by_id().items())[0]
            group.take_one(pid)
            os.kill(pid, signal.SIGRTMIN)
            wait_until(lambda: is_back(s, worker, pid), "the worker to be back", 5.0)
            load.wait_for_answers(10)
        assert group.kills() == 1
        assert "was killed by SIGKILL" in s.stderr
        check_counts(s, load.counted)


def test_r2_all_workers_killed_at_once_are_waited_for(server: StartServer) -> None:
    with server(*TWO_WORKERS, *QUICK) as s:
        (told_s,) = kill_all_workers(s, 1)
        assert told_s < 1


def test_r3_workers_that_hang_are_killed_and_cost_no_request(server: StartServer) -> None:
    with server(*TWO_WORKERS, *QUICK, "--hang-floor-s", "1") as s:
        noticed_s = hang_workers(s, 2, floor_s=1.0, per_s=20.0)
        assert max(noticed_s) < 6


def test_r3_a_worker_that_hangs_while_idle_is_noticed_with_its_next_batch(
    server: StartServer,
) -> None:
    with server("--workers", "1", "--hang-floor-s", "0.5") as s:
        (pid,) = s.workers()
        os.kill(pid, signal.SIGSTOP)
        assert ask(s.port, 1, 2) == "OK"
        assert pid not in s.workers()
        assert Scrape(s.metrics_port).total("corral_worker_restarts_total", cause="hang") == 1


def test_r4_a_request_that_kills_its_workers_takes_nobody_along(server: StartServer) -> None:
    batches = ("--mode", "throughput", "--max-batch", "4", "--workers", "2", "--oversubscribe")
    with server(*batches, *QUICK, WITH_FAULTS) as s:
        poison_workers(s, (SEGMENTATION_FAULT,))


def test_r5_workers_that_cannot_boot_back_off_and_then_it_is_exit_1(
    supervisor: StartSupervisor,
) -> None:
    with supervisor(
        workers=1,
        worker=NO_PYTHON,
        ready=False,
        boot_timeout_s=4,
        restart_backoff_s=0.25,
        restart_backoff_max_s=0.5,
    ) as s:
        assert s.wait() == 1
        waits_s = [float(x) for x in re.findall(r"starting another in (\S+) s", s.stderr)]
        assert waits_s[:3] == [0.25, 0.5, 0.5]
        last = s.lines[-1]
        assert last.startswith("corral: not ready after --boot-timeout-s 4: worker 0 exited")
        assert "encodings" in last
        assert "Traceback" not in s.stderr


def test_r5_a_warm_up_that_takes_too_long_is_exit_1(server: StartServer) -> None:
    with server("--null-batch-ms", "60000", "--boot-timeout-s", "1", ready=False) as s:
        assert s.wait() == 1
        assert s.lines[-1].endswith("--boot-timeout-s 1: no worker has finished its warm-up")


def test_r5_a_reported_failure_is_exit_2_at_once(supervisor: StartSupervisor) -> None:
    # This supervisor prepares nothing, and the engine says what it lacks.
    with supervisor(ready=False, backend="onnxruntime", boot_timeout_s=60) as s:
        assert s.wait() == 2
        assert "the onnxruntime backend needs an artefact" in s.lines[-1]
        assert "Traceback" not in s.stderr


def test_r14_counters_equal_what_clients_counted(server: StartServer) -> None:
    with server(*TWO_WORKERS, *QUICK) as s:
        with CounterWatch(s.metrics_port) as watch, fixed_rate(s.port, 25.0) as load:
            for number in (signal.SIGKILL, signal.SIGSEGV):
                load.wait_for_answers(20)
                os.kill(s.workers()[0], number)
            assert ask(s.port, first=ABORT) == "INTERNAL"
            load.wait_for_answers(20)
        check_counts(s, load.counted, failed=1)
        assert watch.scrapes > 5
        assert not watch.went_down
        # Every series is there from the start, and stays.
        wait_until(lambda: len(s.workers()) == 2, "all workers")
        assert Scrape(s.metrics_port).series() >= watch.last.series()
