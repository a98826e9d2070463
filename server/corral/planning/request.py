"""The plan that settings ask for."""

from __future__ import annotations

import msgspec

from corral.planning import placement
from corral.planning.front import Figures
from corral.planning.machine import Machine
from corral.planning.plan import Plan
from corral.settings import Settings

_UNKNOWN = Figures()


def plan_for(settings: Settings, machine: Machine, measured: Figures = _UNKNOWN) -> Plan:
    """The plan that these settings ask for.

    Args:
        settings: what they say of the figures goes before what was measured.
        machine: to plan for.
        measured: what is known of the frontend's cost and of the workers' rate.

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
            figures=_as_asked(settings, measured),
            # Regions of memory and a unix socket belong to one frontend.
            one_front=settings.client_shared_memory or settings.unix_socket is not None,
        ),
    )


def _as_asked(settings: Settings, figures: Figures) -> Figures:
    if settings.front_us is not None:
        figures = msgspec.structs.replace(
            figures, front_us=settings.front_us, front_source="--front-us"
        )
    if settings.images_per_core_s is not None:
        figures = msgspec.structs.replace(
            figures,
            images_per_core_s=settings.images_per_core_s,
            images_source="--images-per-core-s",
        )
    return figures
