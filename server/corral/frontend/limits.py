"""How much of what a cell takes at once."""

from __future__ import annotations

from corral.batching.policy import Policy
from corral.settings import LimitSettings, Mode, Settings
from corral.tensors import Signature

#: what all unanswered requests of a cell may hold
_MAX_HELD_BYTES = 512 * 2**20
#: room in a message for everything but the tensor
_ENVELOPE_BYTES = 64 * 2**10
#: What messages may hold that are there in part; see ``Incoming`` for what may be above it.
ARRIVING_BYTES = 256 * 2**20
#: room for requests about the server itself when the queue is full
_SPARE_REQUESTS = 1024


def message_limit(settings: Settings, signature: Signature) -> int:
    """The largest message: a full request of tensors, or one of the largest pictures."""
    if settings.limits.max_message_bytes is not None:
        return settings.limits.max_message_bytes
    tensors = settings.queue.max_items * max(signature.input_bytes.values())
    return max(tensors, settings.queue.max_image_bytes) + _ENVELOPE_BYTES


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


def max_requests(limits: LimitSettings, max_queue: int) -> int:
    """How many requests may be under way in a cell; as many more may wait for their client."""
    return limits.max_requests or max_queue + _SPARE_REQUESTS
