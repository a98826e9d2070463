"""How a cell looks after its workers."""

from __future__ import annotations

import dataclasses


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
