import io
from typing import Any

import pytest
from rich.console import Console
from support import status_cases

from corral.ipc.status import (
    BoundStatus,
    ServerStatus,
    SpinStatus,
    State,
    StatusBoard,
    WarmStatus,
    WorkerStatus,
)
from corral.supervisor.views import StartupView, render_startup, render_status

#: what a worker of these has, beside what every one has
_MEASURED = {
    "cpus": [2, 3, 4, 8],
    "cores": 2,
    "engine": {"engine": "openvino", "version": "2026.4", "precision": "int8"},
    "checks": {"allocator": "libtcmalloc_minimal.so.4", "affinity": "2-4,8"},
    "costs_s": {"FP32:1": 0.020, "FP32:2": 0.030, "FP32:4": 0.050, "UINT8:1": 0.021},
}


def worker(number: int, **changes: Any) -> WorkerStatus:
    return status_cases.worker(number, **{**_MEASURED, **changes})


def status(**changes: Any) -> ServerStatus:
    return status_cases.status(**{"cells": [], "workers": [worker(0)], **changes})


def text(**changes: Any) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(render_startup(status(**changes)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_worker_is_shown_with_what_took_hold_and_what_it_costs() -> None:
    row = next(line for line in text().splitlines() if "4711" in line)
    assert "openvino 2026.4 int8" in text()
    for shown in (" tcmalloc ", "2-4,8"):
        assert shown in row
    for shown in ("20.0 ms", "80/s at 4", "250 MB"):
        assert shown in row


def test_a_worker_that_never_reported_is_shown_as_such() -> None:
    unborn = worker(1, state=State.WAITING, pid=None, costs_s={}, checks={}, engine={})
    assert "waiting" in text(workers=[worker(0), unborn])


def test_a_preloaded_openmp_is_shown_with_the_workers_that_mapped_it() -> None:
    on_openmp = worker(0, checks={"openmp": "libiomp5.so"})
    shown = text(workers=[on_openmp, worker(1)])
    assert "libiomp5.so, mapped by 1 of 2 workers" in shown
    assert "OpenMP" not in text()


def test_where_to_ask() -> None:
    shown = text()
    assert "127.0.0.1:8001" in shown
    assert "http://[::1]:8002/metrics" in shown
    assert "after 1.2 s" in shown


def test_synthetic_weights_cannot_be_overlooked() -> None:
    assert "SYNTHETIC" in text(synthetic=True)
    assert "WARNING" in text(synthetic=True)
    assert "SYNTHETIC" not in text()


def test_warnings_stand_below() -> None:
    assert "! memory policy refused" in text(warnings=["memory policy refused"])


def test_the_doctor_has_a_line_where_it_has_something_to_say() -> None:
    examined = "1 warning (Swap); 50 of 51 checks are well"
    console = Console(file=io.StringIO(), width=200)
    view = StartupView(console, lambda status: f"{examined} of {status.model}")
    view.complete(StatusBoard(status()))
    assert isinstance(console.file, io.StringIO)
    assert f"doctor    {examined} of resnet50" in console.file.getvalue()
    assert "doctor" not in text()


@pytest.mark.parametrize(
    ("keeps_per_s", "cap", "said"),
    [
        (None, None, "p99 <= 50 ms is asked for; up to which rate is not known yet; now 7.5/s"),
        (0.0, 1, "keeps p99 <= 50 ms at no rate; now 7.5/s"),
        (21.4, None, "keeps p99 <= 50 ms up to 21.4/s; now 7.5/s"),
        (21.4, 2, "keeps p99 <= 50 ms up to 21.4/s; now 7.5/s, in batches of at most 2"),
    ],
)
def test_a_latency_bound_is_told(keeps_per_s: float | None, cap: int | None, said: str) -> None:
    bound = BoundStatus(p99_ms=50.0, keeps_per_s=keeps_per_s, now_per_s=7.5, batch_cap=cap)
    lines = render_status(status(bound=bound), 10.0).renderables[1]
    assert f"latency   {said}" in str(lines).splitlines()
    assert "p99" not in str(render_status(status(), 10.0).renderables[1])


def test_what_warm_workers_cost_is_told() -> None:
    console = Console(file=io.StringIO(), width=200)
    warm = WarmStatus(every_s=2.5, share=0.01)
    console.print(render_status(status(warm=warm), 0.0))
    console.print(render_status(status(), 0.0))
    assert isinstance(console.file, io.StringIO)
    line = "warm      a request to itself every 2.5 s for each idle worker, 1.0% of its time"
    assert console.file.getvalue().count("warm ") == 1
    assert line in console.file.getvalue()


def test_what_keeps_cpus_from_halting_is_told_with_its_cost() -> None:
    spin = SpinStatus(cpus=[2, 3, 4], while_s=60.0, pid=7, cpu_s=12.34)
    console = Console(file=io.StringIO(), width=200)
    console.print(render_status(status(spin=spin), 0.0))
    assert isinstance(console.file, io.StringIO)
    line = "spin      CPUs 2-4 are kept busy for 60 s after a request: 3 CPUs' time"
    assert f"{line}; 12.3 CPU s so far" in console.file.getvalue()
    assert line in text(spin=spin)
    assert "kept busy" not in text()


def test_one_cpu_that_is_kept_from_halting_is_told_as_one() -> None:
    spin = SpinStatus(cpus=[2], while_s=60.0, pid=7)
    assert "CPU 2 is kept busy for 60 s after a request: 1 CPU's time" in text(spin=spin)


@pytest.mark.parametrize(("hidden", "said"), [(False, True), (True, False)])
def test_that_nothing_spins_now_is_said_where_it_is_known(hidden: bool, said: bool) -> None:
    """What spins has ended, or is in a PID namespace that whoever asks does not see."""
    spin = SpinStatus(cpus=[2, 3], while_s=60.0, pid=None, cpu_s=1.0)
    console = Console(file=io.StringIO(), width=200)
    console.print(render_status(status(spin=spin, pids_hidden=hidden), 0.0))
    assert isinstance(console.file, io.StringIO)
    assert ("CPU s so far, but not now" in console.file.getvalue()) is said
