"""The supervisor's life: start, ready, and every way to stop. With the fake frontend."""

import os
import re
import signal
import socket
import time
from pathlib import Path

import psutil
import pytest
from support.running_server import StartSupervisor, wait_until
from support.scenarios.end import family, gone


def test_serves_when_every_cell_has_a_proven_worker(supervisor: StartSupervisor) -> None:
    with supervisor(cells=2, workers=1) as s:
        s.wait_for_line("frontend 0: open")
        s.wait_for_line("frontend 1: open")
        s.wait_for_line("ready +after")
        assert len(s.workers()) == len(s.frontends()) == 2
        assert s.stop() == 0


def test_only_workers_command_lines_say_so_and_which(supervisor: StartSupervisor) -> None:
    with supervisor(workers=2) as s:
        lines = [" ".join(child.cmdline()) for child in s.children()]
        workers = [line for line in lines if re.search(r"\bworker\b", line)]
        assert len(lines) == 3
        assert sorted(re.findall(r"corral\.worker\.process (\d)", line)[0] for line in workers) == [
            "0",
            "1",
        ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_everything_in_order(
    supervisor: StartSupervisor, number: signal.Signals
) -> None:
    with supervisor(cells=2) as s:
        processes = family(s)
        s.signal(number)
        assert s.wait() == 0
        assert gone(processes)
        assert "killed by" not in s.stderr


def test_a_signal_while_starting_ends_the_start(supervisor: StartSupervisor) -> None:
    with supervisor(ready=False, null_batch_ms=60_000) as s:
        wait_until(lambda: len(s.children()) == 3, "the children to be there")
        processes = family(s)
        assert s.stop() == 0
        assert gone(processes)


def test_it_is_ready_when_its_frontends_say_so(supervisor: StartSupervisor) -> None:
    with supervisor(weights="never-opens", ready=False) as s:
        s.wait_for_line("frontend 0: open")
        # It may take requests by now: they are answered before the end.
        assert s.stop() == 0
        assert "ready in" not in s.stderr
        assert "draining" in s.stderr


def test_a_second_signal_ends_at_once(supervisor: StartSupervisor) -> None:
    with supervisor(weights="never-drains", grace_s=60) as s:
        processes = family(s)
        s.signal(signal.SIGINT)
        s.wait_for_line("draining")
        # At once it would be the first one, delivered twice.
        time.sleep(0.1)
        began_s = time.monotonic()
        s.signal(signal.SIGINT)
        assert s.wait() == 130
        assert time.monotonic() - began_s < 10
        assert gone(processes)


def test_the_grace_time_is_the_deadline_even_with_a_hung_worker(
    supervisor: StartSupervisor,
) -> None:
    with supervisor(weights="never-drains", grace_s=0.5) as s:
        processes = family(s)
        os.kill(s.workers()[0], signal.SIGSTOP)
        began_s = time.monotonic()
        assert s.stop() == 0
        assert 0.5 <= time.monotonic() - began_s < 10
        assert gone(processes)


@pytest.mark.parametrize("ready", [True, False])
def test_no_orphan_outlives_a_killed_supervisor(supervisor: StartSupervisor, ready: bool) -> None:
    with supervisor(cells=2, ready=ready) as s:
        wait_until(lambda: len(s.children()) == 6, "the children to be there")
        children = s.children()
        s.signal(signal.SIGKILL)
        wait_until(lambda: gone(children), "the children to be gone")


def test_ctrl_c_reaches_the_supervisor_alone(supervisor: StartSupervisor) -> None:
    with supervisor() as s:
        groups = {os.getpgid(child.pid) for child in s.children()}
        assert groups == {child.pid for child in s.children()}


def test_a_port_in_use_is_one_line_and_exit_2(supervisor: StartSupervisor) -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as other:
        port = other.getsockname()[1]
        free = {"port": 0, "http_port": 0, "metrics_port": 0}
        for setting in free:
            with supervisor(ready=False, **{**free, setting: port}) as s:
                assert s.wait() == 2
                option = setting.replace("_", "-")
                assert s.lines == [
                    f"corral: --{option} {port}: cannot listen on 127.0.0.1: address already in use"
                ]


def test_a_second_server_is_refused_before_the_first_is_ready(supervisor: StartSupervisor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    with supervisor(cells=2, ready=False, port=port, null_batch_ms=5000) as first:
        wait_until(first.children, "the first to have its port")
        with supervisor(cells=2, ready=False, port=port) as second:
            assert second.wait() == 2
            assert "in use" in second.stderr


def test_children_find_their_settings_and_nothing_of_ours(supervisor: StartSupervisor) -> None:
    env = {"OMP_NUM_THREADS": "3", "KMP_BLOCKTIME": "1"}
    with supervisor(workers=1, worker={"env": env}) as s:
        (pid,) = s.workers()
        environ = psutil.Process(pid).environ()
        assert environ.items() >= env.items()
        assert "COLUMNS" not in environ
        assert "CORRAL_OFFLINE" not in environ
        status = Path(f"/proc/{pid}/status").read_text()
        assert "NoNewPrivs:\t1" in status


def test_every_thread_of_a_worker_is_pinned(supervisor: StartSupervisor) -> None:
    cpu = max(os.sched_getaffinity(0))
    with supervisor(workers=1, worker={"cpus": [cpu]}) as s:
        (pid,) = s.workers()
        for task in Path(f"/proc/{pid}/task").iterdir():
            assert f"Cpus_allowed_list:\t{cpu}\n" in (task / "status").read_text()


def test_a_refused_memory_policy_is_one_warning_in_all(supervisor: StartSupervisor) -> None:
    with supervisor(workers=2, worker={"memory_node": 1000}) as s:
        s.wait_for_line("ready +after")
        warnings = [line for line in s.lines if "WARNING" in line and "memory policy" in line]
        assert len(warnings) == 1
        assert len([line for line in s.lines if line.startswith("! NUMA memory policy")]) == 1
