"""What spins for --keep-warm on is no other load, and waits for nobody's CPU."""

from __future__ import annotations

import os

import pytest
from support.doctor_cases import Machine, stat
from support.machines import ComposedRoot

from corral.doctor.finding import Status
from corral.system.spun import NAME


@pytest.mark.parametrize(("name", "status"), [(NAME, Status.OK), ("python", Status.WARNING)])
def test_spinners_are_no_other_load(name: str, status: Status, composed: ComposedRoot) -> None:
    """Each of the machine's CPUs is half busy, by a process that is bound to it."""
    assert _half_busy(name, running=True).finding(composed, "other-load").status is status


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize(("name", "says"), [(NAME, True), ("python", False)])
def test_spinners_that_wait_for_a_cpu_are_told(
    name: str, says: bool, running: bool, composed: ComposedRoot
) -> None:
    """The kernel counts them as waiting, though they are there to wait: of two servers' on a CPU,
    one always does."""
    finding = _half_busy(name, running=running).finding(composed, "cpu-pressure")
    assert ("what spins for --keep-warm on" in finding.found) is says
    assert finding.status is (Status.INFO if says or running else Status.WARNING)


def _half_busy(name: str, *, running: bool) -> Machine:
    ticks = os.sysconf("SC_CLK_TCK") // 2
    before, after = {"proc/stat": stat(10)}, {"proc/stat": stat(10 + ticks)}
    for cpu in range(8):
        folder = f"proc/{900 + cpu}"
        before[f"{folder}/comm"] = name
        before[f"{folder}/task/{900 + cpu}/status"] = f"Cpus_allowed_list:\t{cpu}\n"
        for files, spent in ((before, 0), (after, ticks)):
            files[f"{folder}/stat"] = f"1 (x) R 1 0 0 0 0 0 0 0 0 0 {spent} 0 0 0 0"
    before["proc/pressure/cpu"] = "some avg10=40.00 avg60=0 avg300=0 total=1"
    return Machine(files=before, later=after, running=running)
