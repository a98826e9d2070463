"""The plan that settings ask for."""

from __future__ import annotations

from corral.planning import placement
from corral.planning.machine import Machine
from corral.planning.plan import Plan
from corral.settings import Settings


def plan_for(settings: Settings, machine: Machine) -> Plan:
    """The plan that these settings ask for.

    Raises:
        ConfigError: they do not fit the machine.
    """
    return placement.make_plan(
        machine,
        placement.PlanRequest(
            mode=settings.mode,
            workers=settings.workers,
            cores_per_worker=settings.cores_per_worker,
            cells=settings.cells,
            oversubscribe=settings.oversubscribe,
            backend=settings.backend,
        ),
    )
