"""The probes' small parts on this machine: what they give is of the right order."""

from __future__ import annotations

import os

import pytest

from corral.doctor.probing import compute, hand_over
from corral.doctor.probing.run import node_cpus
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


def test_a_loop_takes_messages() -> None:
    assert hand_over.front_per_s([CPU], 0.1) > 1


def test_one_cpu_of_each_core_that_is_ours() -> None:
    cores = tuple(Core(cpus=(n, n + 4), package=0, node=n // 2, l3=None) for n in range(4))
    machine = Machine(cores=cores, affinity_cpus=(0, 5, 2, 6))
    assert node_cpus(machine) == {0: [0, 5], 1: [2]}
