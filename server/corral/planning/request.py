"""The plan that settings ask for."""

from __future__ import annotations

import msgspec

from corral.planning import placement
from corral.planning.front import Figures
from corral.planning.machine import Machine
from corral.planning.plan import Plan
from corral.settings import PlacementSettings, Settings

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
            mode=settings.model.mode,
            workers=settings.placement.workers,
            cores_per_worker=settings.placement.cores_per_worker,
            cells=settings.placement.cells,
            oversubscribe=settings.placement.oversubscribe,
            siblings_as_cores=settings.placement.siblings_as_cores,
            figures=_as_asked(settings.placement, measured),
            # Regions of memory and a unix socket belong to one frontend.
            one_front=settings.listen.client_shared_memory
            or settings.listen.unix_socket is not None,
        ),
    )


def _as_asked(placement: PlacementSettings, figures: Figures) -> Figures:
    if placement.front_us is not None:
        figures = msgspec.structs.replace(
            figures, front_us=placement.front_us, front_source="--front-us"
        )
    if placement.images_per_core_s is not None:
        figures = msgspec.structs.replace(
            figures,
            images_per_core_s=placement.images_per_core_s,
            images_source="--images-per-core-s",
        )
    return figures
