"""What a queue may hold, and by which rules it empties."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from corral.settings import Mode, Settings

#: what all unanswered requests of a cell may hold
_MAX_HELD_BYTES = 512 * 2**20


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
        batch_cap: the most items of a batch, whatever is compiled; None for no cap. It follows
            the rate where a latency bound is to be kept.
    """

    max_queue: int
    max_bytes: int
    max_delay_s: float = 0.0
    real_time: bool = False
    bulk_share: float = 0.1
    bulk_hold_s: float = 1.0
    batch_cap: int | None = None

    def capped(self, sizes: Sequence[int]) -> list[int]:
        """Those of some ascending sizes, from 1, that the cap allows."""
        cap = self.batch_cap
        return list(sizes) if cap is None else [size for size in sizes if size <= max(1, cap)]


def queue_policy(settings: Settings, slots: int, region_batch: int) -> Policy:
    """The queue's limits: 64 items a worker, or 64 of its largest batches for throughput."""
    deep = 64 * slots * (region_batch if settings.model.mode is Mode.THROUGHPUT else 1)
    return Policy(
        max_queue=settings.queue.max_queue or deep,
        max_bytes=_MAX_HELD_BYTES,
        max_delay_s=settings.queue.max_queue_delay_ms / 1000,
        real_time=settings.model.mode is Mode.RTI,
        bulk_share=settings.queue.bulk_share,
        bulk_hold_s=settings.queue.bulk_hold_ms / 1000,
    )
