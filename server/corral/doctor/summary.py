"""One line for the start-up table: what a quick look says of the machine and the processes."""

from __future__ import annotations

from pathlib import Path

from corral.doctor.catalog import examine
from corral.doctor.finding import sentence
from corral.doctor.gather import gather
from corral.doctor.layout import running
from corral.ipc.status import ServerStatus
from corral.planning.machine import Machine
from corral.settings import PlacementSettings


def summary(machine: Machine, placement: PlacementSettings, status: ServerStatus) -> str:
    """Looks once, without what takes milliseconds a process; see docs/doctor.md for its cost.

    Args:
        machine: as it was read when the server started.
        placement: what the workers were asked to have.
        status: whose processes are looked at.

    Returns:
        the sentence; empty where nothing can be looked at.
    """
    layout = running(status, huge_pages=placement.huge_pages)
    if not layout.workers or not layout.frontends:
        return ""
    seen = gather(Path("/"), machine, layout, live=True, thorough=False)
    return sentence(examine(seen).checks)
