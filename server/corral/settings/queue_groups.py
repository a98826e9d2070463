"""How requests wait and become batches, and the null backend's times: groups of settings.

None means: the mode, the plan or a measurement decides.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from corral.settings.kinds import (
    BatchItems,
    BulkHold,
    BulkShare,
    Count,
    NullDuration,
    QueueDelay,
    QueueTimeout,
    RequestItems,
    Wait,
)
from corral.settings.option import Group, option


class QueueSettings(Group, frozen=True, kw_only=True):
    """What may wait, and how it becomes batches."""

    TITLE: ClassVar[str] = "queue and batches"

    max_batch: Annotated[
        BatchItems | None,
        option(
            "most items that one execution takes, 1 for never more than one",
            live=True,
            metavar="N",
            unit="items",
            default="what pays by the measured cost curve",
        ),
    ] = None
    p99_ms: Annotated[
        Wait | None,
        option(
            "the latency that 99 % of the requests are to stay within: batches are capped so that "
            "it is kept at the rate that comes, and corral status says up to which rate it is; "
            "corral tune looks for the settings that keep it at the highest rate",
            live=True,
            metavar="MS",
            unit="ms",
            default="no bound",
        ),
    ] = None
    max_queue_delay_ms: Annotated[
        QueueDelay,
        option(
            "longest wait of a request for others to share its batch",
            live=True,
            metavar="MS",
            unit="ms",
        ),
    ] = 0.0
    queue_timeout_ms: Annotated[
        QueueTimeout,
        option(
            "refuse a request that no worker has begun after so long, 0 for never; a request's "
            "parameter timeout (in us) shortens it",
            live=True, metavar="MS", unit="ms",
        ),
    ] = 0.0  # fmt: skip
    max_queue: Annotated[
        Count | None,
        option(
            "items that may wait in a cell",
            live=True,
            metavar="N",
            unit="items",
            default="64 for each worker; for throughput 64 of its largest batches",
        ),
    ] = None
    bulk_share: Annotated[
        BulkShare,
        option(
            "share of the workers' time that bulk requests get while interactive ones wait, too",
            live=True,
            metavar="SHARE",
        ),
    ] = 0.1
    bulk_hold_ms: Annotated[
        BulkHold,
        option(
            "how long after an interactive request bulk leaves a worker to the next one",
            live=True,
            metavar="MS",
            unit="ms",
        ),
    ] = 1000.0
    max_items: Annotated[
        RequestItems, option("items in one request", metavar="N", unit="items")
    ] = 32
    max_image_bytes: Annotated[
        Count, option("size of one encoded picture", metavar="BYTES", unit="bytes")
    ] = 16 * 2**20
    max_image_pixels: Annotated[
        Count,
        option("pixels of one encoded picture", live=True, metavar="PIXELS", unit="pixels"),
    ] = 50_000_000


class NullSettings(Group, frozen=True, kw_only=True):
    """How the null backend behaves."""

    TITLE: ClassVar[str] = "the null backend"
    PREFIX: ClassVar[str] = "null_"

    batch_ms: Annotated[
        NullDuration, option("time of a batch", live=True, metavar="MS", unit="ms")
    ] = 0.0
    item_ms: Annotated[
        NullDuration,
        option("time of each item, besides the batch's", live=True, metavar="MS", unit="ms"),
    ] = 0.0
    spin: Annotated[bool, option("compute for that time instead of sleeping", live=True)] = False
