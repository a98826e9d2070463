"""How many workers of how many cores this machine may have: plans to choose from. Pure."""

from __future__ import annotations

import contextlib
from collections.abc import Collection

from corral.errors import ConfigError
from corral.planning.machine import Machine
from corral.planning.plan import Plan
from corral.planning.request import plan_for
from corral.settings import Settings
from corral.slo.space import Shape

#: cores of a worker that are tried, where they were not named
_WIDTHS = (1, 2, 3, 4, 6, 8, "node")


def plans(settings: Settings, machine: Machine, given: Collection[str]) -> dict[Shape, Plan]:
    """The plans that differ, by shape, the widest workers first.

    One worker fewer than would fit leaves its cores to the frontend.

    Args:
        settings: what they name of the placement stays.
        machine: to plan for.
        given: flat names of the settings that were named.

    Raises:
        ConfigError: what is named fits in no way.
    """
    widths = _WIDTHS if "cores_per_worker" not in given else (settings.placement.cores_per_worker,)
    found: dict[Shape, Plan] = {}
    refusal: ConfigError | None = None
    for width in widths:
        asked = settings.replace(cores_per_worker=width)
        try:
            plan = plan_for(asked, machine)
        except ConfigError as error:
            refusal = refusal or error
            continue
        shape = _add(found, plan)
        if "workers" not in given and shape.workers > 1:
            with contextlib.suppress(ConfigError):
                _add(found, plan_for(asked.replace(workers=shape.workers - 1), machine))
    if not found:
        raise refusal or ConfigError("no worker fits this machine")
    return dict(sorted(found.items(), key=lambda pair: (-pair[0].cores, -pair[0].workers)))


def _add(found: dict[Shape, Plan], plan: Plan) -> Shape:
    workers = sum(len(cell.workers) for cell in plan.cells)
    shape = Shape(workers=workers, cores=plan.first_worker.cores)
    found.setdefault(shape, plan)
    return shape
