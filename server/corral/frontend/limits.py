"""How much of what a cell takes at once."""

from __future__ import annotations

from corral.batching.policy import Policy
from corral.settings import LimitSettings, Mode, Settings
from corral.tensors import Signature

#: what all unanswered requests of a cell may hold
_MAX_HELD_BYTES = 512 * 2**20
#: room in a message for everything but the tensor
_ENVELOPE_BYTES = 64 * 2**10
#: What messages under way may hold: so many of the largest are received at a time. 100 that stop
#: in the middle must leave room for others.
_MAX_ARRIVING_BYTES = 2 * 2**30
_LEAST_ARRIVING = 16
#: calls whose message waits to be received, or is, besides those that the queue has room for
_SPARE_ARRIVALS = 256
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


def arrival_limits(settings: Settings, signature: Signature, max_queue: int) -> tuple[int, int]:
    """Messages that are received at a time, and how many more may wait for that."""
    most = max_queue + _SPARE_ARRIVALS
    at_once = max(_LEAST_ARRIVING, _MAX_ARRIVING_BYTES // message_limit(settings, signature))
    return min(at_once, most), max(0, most - at_once)


def max_requests(limits: LimitSettings, max_queue: int) -> int:
    """How many requests may be under way in a cell, their messages still arriving included."""
    return limits.max_requests or max_queue + _SPARE_REQUESTS
