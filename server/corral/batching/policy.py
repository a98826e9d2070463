"""What a queue may hold, and by which rules it empties."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Policy:
    """What a queue may hold, and how its workers are shared.

    Attributes:
        max_queue: items that may wait.
        max_bytes: what all unanswered requests may hold in memory.
        max_delay_s: how long the oldest item waits for company; 0 for not at all.
        real_time: a batch is formed only where that answers the backlog sooner; else every free
            worker takes its fair share.
        bulk_share: of the workers' time that bulk gets while interactive requests wait, too.
        bulk_hold_s: how long after an interactive request bulk leaves a worker to the next one.
    """

    max_queue: int
    max_bytes: int
    max_delay_s: float = 0.0
    real_time: bool = False
    bulk_share: float = 0.1
    bulk_hold_s: float = 1.0
