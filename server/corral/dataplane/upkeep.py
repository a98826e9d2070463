"""How a cell looks after its workers."""

from __future__ import annotations

import dataclasses

from corral.settings import KeepWarm, Mode, Settings

#: of a worker's time, where people ask for warm workers, and where they do not
_WARM_SHARE = 0.05
_CHEAP_WARM_SHARE = 0.01
#: a worker is not kept warmer than by a run each
WARM_S = 0.5


@dataclasses.dataclass(frozen=True, slots=True)
class Upkeep:
    """How a cell looks after its workers.

    Attributes:
        hang_floor_s: no worker hangs before it has had a batch for so long.
        warm_share: how much of its time a worker without batches may run what lies in its region,
            so that its caches and its cores' clock are a busy one's; 0 for nothing.
    """

    hang_floor_s: float
    warm_share: float = 0.0


def warm_share(settings: Settings) -> float:
    """How much of an idle worker's time goes into keeping it warm; 0: it is not kept so."""
    match settings.lifecycle.keep_warm:
        case KeepWarm.ON:
            return _WARM_SHARE
        case KeepWarm.AUTO if settings.model.mode is Mode.RTI:
            return _CHEAP_WARM_SHARE
        case _:
            return 0.0


def warm_every_s(took_s: float, share: float) -> float:
    """Seconds from one batch that nobody asked for to the next.

    Args:
        took_s: what one takes.
        share: of the worker's time, above 0.
    """
    return max(WARM_S, took_s / share)
