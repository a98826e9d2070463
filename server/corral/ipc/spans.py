"""A request's moments, as a frontend writes them into memory that the supervisor gave it."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator, Sequence

#: batch number, worker, items of the batch, items of the request; then nanoseconds of MOMENTS
SPAN = struct.Struct("<QIII4x9q")
#: on the monotonic clock, which all processes of a machine share, in the order of a request's life
MOMENTS = (
    "begun",
    "received",
    "queued",
    "formed",
    "sent",
    "started",
    "ended",
    "collected",
    "answered",
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RequestSpan:
    """One request that was answered.

    Attributes:
        cell: whose frontend answered it.
        batch: number of the batch that it ran in (the last, if it ran in several).
        worker: that ran the batch.
        batch_items: items of the batch.
        items: of the request.
        at_s: seconds by moment, see MOMENTS.
    """

    cell: int
    batch: int
    worker: int
    batch_items: int
    items: int
    at_s: dict[str, float]


def pack_into(
    memory: memoryview,
    place: int,
    head: tuple[int, int, int, int],
    moments_s: Sequence[float],
) -> None:
    """Writes a request's record.

    Args:
        memory: of all records.
        place: its number.
        head: batch number, worker, items of the batch and of the request.
        moments_s: by MOMENTS.
    """
    stamps = (int(moment * 1e9) for moment in moments_s)
    SPAN.pack_into(memory, place * SPAN.size, *head, *stamps)


def unpack(cell: int, records: bytes) -> Iterator[RequestSpan]:
    """The requests of a cell's records."""
    for batch, worker, batch_items, items, *stamps in SPAN.iter_unpack(records):
        yield RequestSpan(
            cell=cell,
            batch=batch,
            worker=worker,
            batch_items=batch_items,
            items=items,
            at_s={name: ns / 1e9 for name, ns in zip(MOMENTS, stamps, strict=True)},
        )
