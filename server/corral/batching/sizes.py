"""Which batch sizes a worker compiles."""

from __future__ import annotations

import dataclasses

from corral.batching.cost_curve import (
    SEARCHES,
    CostCurve,
    candidate_sizes,
    sizes_up_to,
)
from corral.settings import Settings


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchSizes:
    """Which batch sizes a worker compiles.

    Attributes:
        sizes: ascending, from 1.
        find_knee: the worker stops where batching stops paying.
        known_s: what is known of their costs: seconds by "DATATYPE:count".
    """

    sizes: list[int]
    find_knee: bool
    known_s: dict[str, float] = dataclasses.field(default_factory=dict, compare=False)


def batch_sizes(settings: Settings, curve: CostCurve | None) -> BatchSizes:
    """What is to be compiled: what was asked for, else what pays by the measured cost curve.

    Args:
        settings: mode and max-batch.
        curve: what an earlier start measured, or None.
    """
    if settings.queue.max_batch is not None:
        return BatchSizes(sizes=candidate_sizes(settings.queue.max_batch), find_knee=False)
    candidates = candidate_sizes(SEARCHES[settings.model.mode].largest)
    if curve is None:
        return BatchSizes(sizes=candidates, find_knee=True)
    # The curve holds what was kept, so its largest batch is the knee: looking for the knee in it
    # again would allow the 3 % twice.
    largest = max(size for _, size in curve.costs_s)
    return BatchSizes(
        sizes=sizes_up_to(largest, candidates), find_knee=False, known_s=curve.names()
    )
