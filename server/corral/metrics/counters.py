"""Counter pages: 64-bit slots in the supervisor's shared memory, one page a frontend.

Each page has one writer, the cell's frontend, and any reader. The memory outlives the writer, so
what a dead frontend counted is still there, and its successor counts on.
"""

from __future__ import annotations

import dataclasses
import mmap

from corral.system import memfd
from corral.tensors import View

#: upper bounds in seconds of the time histograms; +Inf is implied
TIME_BUCKETS_S = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
#: upper bounds in items of the batch-size histogram; +Inf is implied
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

#: items that a batch may hold
MOST_ITEMS = 256

#: why a request was not answered with a result
FAILURES = ("invalid", "refused", "expired", "cancelled", "failed", "unavailable")

_PER_VIEW = (
    "received",  # requests that named this view
    "admitted",  # requests that got a place in the queue
    "succeeded",
    *(f"failure_{reason}" for reason in FAILURES),
    "inferences",  # items answered with a result
    "executions",  # batches in which this view had an item
    "success_ns",  # sum over succeeded requests, arrival to answer
    "fail_ns",  # sum over the others
    # Sums over succeeded requests. One that took several batches: from the start of the first to
    # the end of the last, whose copies are shown.
    "queue_ns",  # arrival to the start of its first batch
    "compute_input_ns",  # its batch's copy into the region
    "compute_infer_ns",  # its batch's engine time
    "compute_output_ns",  # its batch's way out
    "last_inference_ms",  # gauge: unix time of the last execution
    "pending",  # gauge: requests admitted of which no worker has anything yet
    "pending_items",  # gauge: items admitted and not yet given to a worker
    "inflight",  # gauge: requests admitted and not yet answered
)
_PER_CELL = (
    "batches",
    "batch_items",
    "retried_items",  # items run again: their worker died, or their weights changed
    "lost_workers",
    "traces_dropped",  # requests whose trace found no room on its way to the supervisor
    "log_lines_dropped",  # the same of the access log
    "serving",  # gauge, 0 or 1
)
_GAUGES = {"last_inference_ms", "pending", "pending_items", "inflight", "serving"}
_PER_SLOT = ("batches", "items", "busy_ns", "attached")
_SLOT_GAUGES = {"attached"}
_HISTOGRAMS = {
    "request_seconds": TIME_BUCKETS_S,
    "queue_seconds": TIME_BUCKETS_S,
    "inference_seconds": TIME_BUCKETS_S,
    "batch_size": BATCH_BUCKETS,
}


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where each number lies in a page, by slot index; the same in every process.

    Keys: "view/<view>/<name>", "cell/<name>", "slot/<n>/<name>",
    "hist/<name>/<bucket index>" and "hist/<name>/sum_ns" (batch_size: "sum").
    The bucket indexes are not cumulative; the last one is +Inf.
    """

    index: dict[str, int]
    gauges: frozenset[str]
    slots: int

    @property
    def page_bytes(self) -> int:
        """Bytes of one page, a multiple of the machine's page size."""
        size = len(self.index) * 8
        return (size + mmap.PAGESIZE - 1) // mmap.PAGESIZE * mmap.PAGESIZE


def make_layout(slots: int) -> Layout:
    """The layout for cells of up to ``slots`` workers."""
    names: list[str] = []
    gauges: set[str] = set()
    for view in View:
        names += [f"view/{view}/{name}" for name in _PER_VIEW]
        gauges |= {f"view/{view}/{name}" for name in _PER_VIEW if name in _GAUGES}
    names += [f"cell/{name}" for name in _PER_CELL]
    gauges |= {f"cell/{name}" for name in _PER_CELL if name in _GAUGES}
    for slot in range(slots):
        names += [f"slot/{slot}/{name}" for name in _PER_SLOT]
        gauges |= {f"slot/{slot}/{name}" for name in _SLOT_GAUGES}
    for histogram, bounds in _HISTOGRAMS.items():
        names += [f"hist/{histogram}/{i}" for i in range(len(bounds) + 1)]
        names.append(f"hist/{histogram}/sum" + ("" if histogram == "batch_size" else "_ns"))
    # Exact counts of batch sizes: ModelStatistics wants each size apart.
    sizes = range(1, MOST_ITEMS + 1)
    names += [f"size/{n}/{what}" for n in sizes for what in ("executions", "infer_ns")]
    return Layout({name: i for i, name in enumerate(names)}, frozenset(gauges), slots)


def create_memory(layout: Layout, cells: int) -> int:
    """Makes the zeroed memory of all pages, sealed against resizing; returns the memfd."""
    # A frontend reads what strangers send; whatever becomes of it, who reads its page lives on.
    return memfd.create("counters", layout.page_bytes * cells)


class Counts:
    """All pages as they were at one moment: cheap to read many numbers of."""

    def __init__(self, index: dict[str, int], pages: list[list[int]]) -> None:
        self._index = index
        self._pages = pages

    def read(self, key: str, cell: int | None = None) -> int:
        """One number, of one cell or summed over all."""
        at = self._index[key]
        return sum(page[at] for page in self._pages) if cell is None else self._pages[cell][at]

    def queued(self, cell: int) -> int:
        """Items that wait in a cell's queue."""
        return sum(self.read(f"view/{view}/pending_items", cell) for view in View)

    def latest(self, key: str) -> int:
        """The largest of the cells' numbers: for times, which do not add up."""
        at = self._index[key]
        return max(page[at] for page in self._pages)


class Pages:
    """All pages, mapped; ``page(n)`` is cell n's slots as a memoryview of uint64."""

    def __init__(self, fd: int, layout: Layout, cells: int) -> None:
        self.layout = layout
        self.cells = cells
        self._memory = memoryview(mmap.mmap(fd, layout.page_bytes * cells))

    def page(self, cell: int) -> memoryview:
        """The page of a cell, writable; write only your own."""
        size = self.layout.page_bytes
        return self._memory[cell * size : (cell + 1) * size].cast("Q")

    def reset_gauges(self, cell: int) -> None:
        """Zeroes what a dead frontend left in its gauges; its counters stay."""
        page = self.page(cell)
        for name in self.layout.gauges:
            page[self.layout.index[name]] = 0

    def snapshot(self) -> Counts:
        """Copies all pages."""
        numbers = len(self.layout.index)
        return Counts(
            self.layout.index, [self.page(cell)[:numbers].tolist() for cell in range(self.cells)]
        )

    def read(self, key: str, cell: int | None = None) -> int:
        """One number, of one cell or summed over all."""
        at = self.layout.index[key]
        cells = range(self.cells) if cell is None else (cell,)
        return sum(self.page(c)[at] for c in cells)
