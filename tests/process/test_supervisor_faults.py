"""Children that die, hang or cannot start. With the fake frontend."""

import os
import signal
import time

from support.running_server import Server, StartSupervisor, wait_until


def kill_worker(server: Server) -> None:
    """Kills the oldest worker and waits until another has taken its place."""
    before = server.workers()
    os.kill(before[0], signal.SIGKILL)
    wait_until(
        lambda: len(server.workers()) == len(before) and before[0] not in server.workers(),
        "another worker",
    )


def wait_for_ready(server: Server, times: int) -> None:
    """Waits until workers have been ready that often, in all."""
    wait_until(lambda: server.stderr.count("is ready after") == times, "workers to be ready")


def fds(server: Server) -> int:
    return len(os.listdir(f"/proc/{server.pid}/fd"))  # noqa: PTH208


def test_a_killed_worker_is_started_again_at_once(supervisor: StartSupervisor) -> None:
    with supervisor(workers=1, restart_backoff_s=60, log_level="debug") as s:
        began_s = time.monotonic()
        kill_worker(s)
        s.wait_for_line(r"worker 0 was killed by SIGKILL; starting another at once")
        wait_for_ready(s, 2)
        assert time.monotonic() - began_s < 20
        assert s.stop() == 0


def test_all_workers_killed_at_once_come_back(supervisor: StartSupervisor) -> None:
    with supervisor(workers=3, log_level="debug") as s:
        wait_for_ready(s, 3)
        for pid in s.workers():
            os.kill(pid, signal.SIGKILL)
        wait_for_ready(s, 6)
        assert s.stop() == 0


def test_descriptors_stay_flat_over_restarts(supervisor: StartSupervisor) -> None:
    with supervisor(workers=2, log_level="debug") as s:
        wait_for_ready(s, 2)
        kill_worker(s)
        wait_for_ready(s, 3)
        before = fds(s)
        for round_ in range(4):
            for pid in s.workers():
                os.kill(pid, signal.SIGKILL)
            ready = 5 + 2 * round_
            wait_for_ready(s, ready)
        # A worker that has just got ready may not have been handed over yet, then and now.
        wait_until(lambda: fds(s) <= before, "the descriptors to be as before")
        assert len(os.listdir(f"/proc/{s.frontends()[0]}/fd")) < 30  # noqa: PTH208
        assert s.stop() == 0


def test_a_frontend_that_cannot_boot_is_the_reason_given(supervisor: StartSupervisor) -> None:
    with supervisor(ready=False, weights="frontend-dies", boot_timeout_s=4) as s:
        assert s.wait() == 1
        assert "frontend 0 exited with code 1 before it was ready: no luck today" in s.lines[-1]


def test_a_frontend_that_reports_a_failure_is_exit_2_at_once(supervisor: StartSupervisor) -> None:
    with supervisor(ready=False, weights="frontend-fails") as s:
        assert s.wait() == 2
        assert s.lines[-1] == "corral: the port is haunted"


def test_a_killed_frontend_comes_back_and_its_workers_with_it(supervisor: StartSupervisor) -> None:
    with supervisor(cells=2, workers=1, log_level="debug") as s:
        s.wait_for_line("frontend 0: open")
        s.wait_for_line("frontend 1: open")
        # By their numbers: those that start in one tick of the clock have no other order.
        (frontend,) = s.children(r"frontend 0 ")
        (other,) = s.children(r"frontend 1 ")
        (other_worker,) = s.children(r"worker\.process 1 ")
        frontend.kill()
        wait_until(lambda: s.stderr.count("frontend 0: open") == 2, "it to be open again")
        s.wait_for_line("worker 0 exited with code 0; starting another at once")
        assert other.pid in s.frontends()
        assert other_worker.pid in s.workers()
        assert s.stop() == 0


def test_a_hung_worker_does_not_outlive_its_frontend(supervisor: StartSupervisor) -> None:
    with supervisor(workers=1) as s:
        s.wait_for_line("frontend 0: open")
        (worker,) = s.workers()
        os.kill(worker, signal.SIGSTOP)
        os.kill(s.frontends()[0], signal.SIGKILL)
        s.wait_for_line("worker 0 does not leave: killed")
        wait_until(lambda: s.stderr.count("frontend 0: open") == 2, "it to be open again", 8)
        assert s.stop() == 0


def test_a_worker_that_dies_during_the_drain_is_replaced(supervisor: StartSupervisor) -> None:
    with supervisor(workers=1, weights="never-drains", log_level="debug") as s:
        s.signal(signal.SIGTERM)
        s.wait_for_line("draining")
        kill_worker(s)
        wait_for_ready(s, 2)
        s.signal(signal.SIGTERM)
        assert s.wait() == 143


def test_a_worker_that_hangs_while_it_boots_is_killed(supervisor: StartSupervisor) -> None:
    with supervisor(workers=2, boot_timeout_s=8, restart_backoff_s=0.1, log_level="debug") as s:
        wait_for_ready(s, 2)
        before = set(s.workers())
        os.kill(s.workers()[0], signal.SIGKILL)
        (young,) = wait_until(lambda: set(s.workers()) - before, "another worker")
        os.kill(young, signal.SIGSTOP)
        s.wait_for_line(r"worker \d is not ready after 8 s: killed")
        wait_for_ready(s, 3)
        assert s.stop() == 0
