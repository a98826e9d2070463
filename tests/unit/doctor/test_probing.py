"""The probes' small parts on this machine: what they give is of the right order."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from corral.doctor.layout import Layout, SeenFrontend, SeenWorker
from corral.doctor.probing import compute, hand_over
from corral.doctor.probing.run import node_cpus, probe
from corral.planning.machine import Core, Machine
from corral.system import machine_code

CPU = min(os.sched_getaffinity(0))


def test_a_thread_runs_on_each_cpu_and_nowhere_else() -> None:
    found = {}
    compute.on_each([CPU], lambda cpu: found.update({cpu: os.sched_getaffinity(0)}))
    assert found == {CPU: {CPU}}


def test_a_cpu_that_is_not_ours_is_an_error() -> None:
    with pytest.raises(OSError, match="nvalid"):
        compute.on_each([4095], lambda cpu: None)


@pytest.mark.skipif(not machine_code.available(), reason="the loops are x86-64's")
def test_multiplications_take_three_cycles() -> None:
    # Whatever else runs here: no CPU of the last ten years is slower or faster than this.
    ghz = compute.frequency_ghz([CPU], 0.05)[CPU]
    assert 0.5 < ghz < 7


def test_a_copy_is_counted_in_both_directions() -> None:
    rate, threads = compute.bandwidth([CPU], 0.05)
    assert threads == 1
    assert 0.1 < rate < 2000


def test_a_sleeping_process_wakes_up() -> None:
    waits = hand_over.wake_up(CPU, CPU, times=5)
    assert 0 < waits.p50_us <= waits.p99_us


def test_a_server_on_cpus_that_the_asker_may_not_use_is_not_measured(
    capfd: pytest.CaptureFixture[str],
) -> None:
    there = Machine(cores=(Core(cpus=(4095,), package=0, node=0, l3=None),), affinity_cpus=(4095,))
    worker = SeenWorker(id=0, cell=0, cpus=(4095,), cores=1, memory_node=None)
    layout = Layout(mode="rti", workers=(worker,), frontends=(SeenFrontend(cell=0, cpus=(4095,)),))
    before = os.sched_getaffinity(0)
    found = probe(there, layout)
    assert set(found.why_not) == {"bandwidth", "frequency", "wake-up", "front"}
    for reason in found.why_not.values():
        assert reason.startswith("whoever asks may not run on these CPUs")
    assert capfd.readouterr() == ("", "")
    assert os.sched_getaffinity(0) == before


def test_a_terminals_ctrl_c_reaches_the_command_alone() -> None:
    """Of a process group, as a terminal sends it."""
    code = (
        "import os, signal, sys, threading\n"
        "from corral.doctor.probing.hand_over import front_per_s, wake_up\n"
        "threading.Timer(0.5, os.killpg, (0, signal.SIGINT)).start()\n"
        "try:\n"
        "    while True: {call}\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(7)\n"
    )
    for call in (f"wake_up({CPU}, {CPU}, 50)", f"front_per_s([{CPU}], 0.5)"):
        done = subprocess.run(
            [sys.executable, "-c", code.format(call=call)],
            check=False, capture_output=True, text=True, timeout=30, process_group=0,
        )  # fmt: skip
        assert done.returncode == 7, done.stderr
        assert "sleeper.py" not in done.stderr
        assert "sender.py" not in done.stderr


def test_a_loop_takes_messages() -> None:
    assert hand_over.front_per_s([CPU], 0.1) > 1


def test_one_cpu_of_each_core_that_is_ours() -> None:
    cores = tuple(Core(cpus=(n, n + 4), package=0, node=n // 2, l3=None) for n in range(4))
    machine = Machine(cores=cores, affinity_cpus=(0, 5, 2, 6))
    assert node_cpus(machine) == {0: [0, 5], 1: [2]}
