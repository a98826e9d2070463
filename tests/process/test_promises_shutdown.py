"""Promises about the end of a server or of its parts, in their short form.

The table of promises is in docs/behaviour.md; each test is named after its promise. Times are
asserted with room for a machine that is busy with others; ``make soak`` asserts the promised ones.
"""

from __future__ import annotations

import os
import signal
import time

from support.counted_load import closed_loop
from support.running_server import BUSY_S, StartServer
from support.scenarios.end import family, gone, kill_frontend, kill_supervisor, terminate
from support.scenarios.fault import wait_for_workers

TWO_SLOW_WORKERS = ("--workers", "2", "--oversubscribe", "--null-batch-ms", "50")


def test_r6_sigterm_under_load_answers_what_was_accepted(server: StartServer) -> None:
    with server(*TWO_SLOW_WORKERS, "--grace-s", "10") as s:
        told_s, ended_s = terminate(s)
        assert told_s < 1
        assert ended_s < 10


def test_r6_a_worker_that_hangs_during_the_drain_costs_no_request(server: StartServer) -> None:
    with server(*TWO_SLOW_WORKERS, "--grace-s", "15", "--hang-floor-s", "1") as s:
        wait_for_workers(s, 2)
        told_s, ended_s = terminate(s, stopped_worker=True)
        assert told_s < 1
        # With the others' batches and the hang's notice, and far from the grace time's end.
        assert ended_s < 12
        assert "hangs: its batch is run elsewhere" in s.stderr


def test_r6_a_hung_worker_delays_the_end_by_two_seconds_at_most(server: StartServer) -> None:
    with server(*TWO_SLOW_WORKERS, "--grace-s", "0.5", "--hang-floor-s", "60") as s:
        processes = family(s)
        with closed_loop(s.port, 4, deadline_s=20.0) as load:
            load.wait_for_answers(4)
            os.kill(s.workers()[0], signal.SIGSTOP)
            load.wait_for_answers(4)
            began_s = time.monotonic()
            assert s.stop() == 0
            assert time.monotonic() - began_s < 0.5 + 2 + BUSY_S
        assert gone(processes)


def test_r6_a_second_signal_ends_at_once(server: StartServer) -> None:
    with server(*TWO_SLOW_WORKERS, "--grace-s", "60", "--hang-floor-s", "60") as s:
        processes = family(s)
        with closed_loop(s.port, 4, deadline_s=20.0) as load:
            load.wait_for_answers(4)
            os.kill(s.workers()[0], signal.SIGSTOP)
            load.wait_for_answers(4)
            s.signal(signal.SIGTERM)
            s.wait_for_line("draining")
            # At once it would be the first one, delivered twice.
            time.sleep(0.1)
            began_s = time.monotonic()
            s.signal(signal.SIGTERM)
            assert s.wait() == 128 + signal.SIGTERM
            assert time.monotonic() - began_s < 2 + BUSY_S
        assert gone(processes)


def test_r7_a_killed_supervisor_leaves_nothing_behind(server: StartServer) -> None:
    with server(*TWO_SLOW_WORKERS, "--cells", "2") as s:
        assert kill_supervisor(s) < 5


def test_r7_a_killed_frontend_comes_back_and_the_other_cell_goes_on(server: StartServer) -> None:
    with server("--workers", "2", "--cells", "2", "--oversubscribe", "--null-batch-ms", "20") as s:
        wait_for_workers(s, 2)
        counted = kill_frontend(s)
        assert counted.answered
