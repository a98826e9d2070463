"""When a CPU is kept from halting, by what its frontends count, and who is told of which CPUs."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
import time

import msgspec
import pytest

from corral.launch import spinner, spinning
from corral.launch.spinner import SILENT_S, Counters, Silence, Step
from corral.metrics.counters import make_layout
from corral.planning.machine import Core, Machine
from corral.planning.plan import MachineSummary, Plan, PlannedCell, PlannedWorker
from corral.settings import KeepWarm, Mode, Settings
from corral.system import spun

_ON = Settings.flat(keep_warm=KeepWarm.ON, keep_warm_spin_s=60.0)


def _worker(number: int, *cpus: int) -> PlannedWorker:
    return PlannedWorker(id=number, cpus=list(cpus), cores=len(cpus), memory_node=0, env={})


_PLAN = Plan(
    mode="rti",
    machine=MachineSummary(packages=1, nodes=2, cores=8, cpus=8),
    allowed_cpus=list(range(8)),
    cpu_budget=8,
    cells=[
        PlannedCell(node=0, frontend_cpus=[0], workers=[_worker(0, 1, 2)]),
        PlannedCell(node=1, frontend_cpus=[4], workers=[_worker(1, 4, 5)]),
    ],
    idle_cpus=[3, 6, 7],
    reasons=[],
    warnings=[],
)


def test_a_silence_is_spun_for_from_its_last_request() -> None:
    silence = Silence(while_s=60.0, received=5, since_s=100.0)
    assert silence.look(5, 0, 100.0 + SILENT_S / 2) is Step.WAIT
    assert silence.look(5, 0, 100.0 + 1.5 * SILENT_S) is Step.SPIN
    assert silence.look(5, 0, 159.9) is Step.SPIN
    assert silence.look(5, 0, 160.0) is Step.REST
    assert silence.look(6, 0, 300.0) is Step.WAIT
    assert silence.look(6, 0, 301.0) is Step.SPIN


def test_a_request_under_way_is_no_silence() -> None:
    silence = Silence(while_s=60.0, received=5, since_s=100.0)
    assert [silence.look(5, 1, now_s) for now_s in (101.0, 102.0)] == [Step.WAIT] * 2
    assert silence.look(5, 0, 102.0 + SILENT_S / 2) is Step.WAIT
    assert silence.look(5, 0, 103.0) is Step.SPIN


def test_a_while_that_is_shorter_than_a_silence_is_not_spun_for() -> None:
    silence = Silence(while_s=SILENT_S / 2, received=0, since_s=0.0)
    found = {silence.look(0, 0, tick * SILENT_S / 10) for tick in range(50)}
    assert found == {Step.WAIT, Step.REST}


def test_it_spins_until_a_request_comes() -> None:
    memory = [7, 0, 0]
    counters = Counters(memory, [0, 1], [2])
    began_s = time.monotonic()
    timer = threading.Timer(0.05, memory.__setitem__, (1, 1))
    timer.start()
    counters.spin(began_s + 30.0)
    assert time.monotonic() - began_s < 30.0
    assert (counters.received(), counters.inflight()) == (8, 0)


def test_it_spins_until_the_while_is_over() -> None:
    until_s = time.monotonic() + 0.02
    Counters([7], [0], []).spin(until_s)
    assert time.monotonic() >= until_s


def test_who_waits_longer_spins_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop: it waits, spins up to the end of the while, and rests from then on."""
    now_s = itertools.count(0.0, SILENT_S)
    slept: list[float] = []
    spun_until: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.monotonic", lambda: next(now_s))
    monkeypatch.setattr("time.sleep", sleep)
    monkeypatch.setattr(Counters, "spin", lambda _, until_s: spun_until.append(until_s))
    with pytest.raises(KeyboardInterrupt):
        spinner._keep_awake(Counters([0, 0], [0], [1]), 3.5 * SILENT_S)
    assert set(spun_until) == {3.5 * SILENT_S}
    assert slept == [spinner._REST_S] * 5


@pytest.mark.parametrize(
    ("keep_warm", "while_s", "quota", "spins", "says"),
    [
        (KeepWarm.ON, 60.0, None, True, ""),
        (KeepWarm.ON, 60.0, 2.0, True, "quota of 2 CPUs"),
        (KeepWarm.ON, 60.0, 3.5, True, "quota of 3.5 CPUs"),
        # It cannot be used up.
        (KeepWarm.ON, 60.0, 4.0, True, ""),
        (KeepWarm.ON, 0.0, 2.0, False, ""),
        (KeepWarm.AUTO, 60.0, 2.0, False, ""),
        (KeepWarm.OFF, 60.0, None, False, ""),
    ],
)
def test_who_spins_and_who_is_refused(
    keep_warm: KeepWarm, while_s: float, quota: float | None, spins: bool, says: str
) -> None:
    settings = Settings.flat(keep_warm=keep_warm, keep_warm_spin_s=while_s, mode=Mode.RTI)
    assert spinning.wants_spinning(settings) is spins
    cores = tuple(Core(cpus=(cpu,), package=0, node=0, l3=None) for cpu in range(4))
    refusal = spinning.refusal(settings, Machine(cores=cores, cpu_quota=quota))
    assert says in refusal
    assert bool(refusal) is bool(says)


def test_every_cpu_goes_by_the_requests_of_its_own_cells() -> None:
    layout = make_layout(3)
    settings = _ON.replace(keep_warm_spin_s=7.0)
    boot = spinning.spinner_boot(settings, _PLAN, layout, 9)
    assert (boot.counters_fd, boot.while_s, boot.bytes) == (9, 7.0, 2 * layout.page_bytes)
    assert [place.cpu for place in boot.places] == [0, 1, 2, 4, 5]
    first, *_, last = boot.places
    numbers = layout.page_bytes // 8
    assert set(first.received) == {
        layout.index[f"view/{view}/received"] for view in ("tensor", "uint8", "image")
    }
    assert last.received == [at + numbers for at in first.received]
    assert last.inflight == [at + numbers for at in first.inflight]


def test_a_cpu_that_cells_share_goes_by_all_of_them() -> None:
    cells = [msgspec.structs.replace(cell, frontend_cpus=[0]) for cell in _PLAN.cells]
    plan = msgspec.structs.replace(_PLAN, cells=cells)
    (first, *others) = spinning.spinner_boot(_ON, plan, make_layout(3), 9).places
    assert first.cpu == 0
    assert all(2 * len(place.received) == len(first.received) for place in others)


def test_what_is_looked_for_is_what_it_is_called() -> None:
    assert spinner.NAME == spun.NAME
    assert len(spinner.NAME) <= 15  # the kernel keeps no more


def test_it_loads_nothing_but_the_standard_library() -> None:
    program = "import sys, json, corral.launch.spinner; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-P", "-c", program], stdout=subprocess.PIPE, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert not loaded & {"numpy", "msgspec", "asyncio", "h2corn", "rich"}
    ours = {name for name in json.loads(done.stdout) if name.startswith("corral")}
    assert ours <= {"corral", "corral.launch", "corral.launch.spinner"}


def test_a_cpu_that_is_not_to_be_had_is_told_in_a_line() -> None:
    number = 2**20 - 1  # no machine has it
    fd = os.memfd_create("counters")
    os.ftruncate(fd, 4096)
    place = {"cpu": number, "received": [0], "inflight": [1]}
    boot = os.memfd_create("boot")
    told = {"counters_fd": fd, "bytes": 4096, "while_s": 1.0, "places": [place]}
    os.write(boot, json.dumps(told).encode())
    os.lseek(boot, 0, os.SEEK_SET)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "corral.launch.spinner", "0", str(boot)],
        stderr=subprocess.PIPE, text=True, check=False, pass_fds=(fd, boot), timeout=60,
    )  # fmt: skip
    os.close(fd)
    os.close(boot)
    assert done.stderr == f"corral-spinner: CPU {number}: Invalid argument\n"
    assert done.returncode == 1
