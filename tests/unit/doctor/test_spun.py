"""What spins for --keep-warm on is no other load."""

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
    ticks = os.sysconf("SC_CLK_TCK") // 2
    before, after = {"proc/stat": stat(10)}, {"proc/stat": stat(10 + ticks)}
    for cpu in range(8):
        folder = f"proc/{900 + cpu}"
        before[f"{folder}/comm"] = name
        before[f"{folder}/task/{900 + cpu}/status"] = f"Cpus_allowed_list:\t{cpu}\n"
        for files, spent in ((before, 0), (after, ticks)):
            files[f"{folder}/stat"] = f"1 (x) R 1 0 0 0 0 0 0 0 0 0 {spent} 0 0 0 0"
    machine = Machine(files=before, later=after, running=True)
    assert machine.finding(composed, "other-load").status is status
