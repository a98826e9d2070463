"""What a frontend counts, written into its page of the counter memory."""

from __future__ import annotations

import bisect
import dataclasses
import time

from corral.batching.jobs import Batch
from corral.dataplane.worker_link import Request
from corral.metrics.counters import BATCH_BUCKETS, FAILURES, MOST_ITEMS, TIME_BUCKETS_S, Pages
from corral.telemetry.timeline import Run
from corral.tensors import View


@dataclasses.dataclass(slots=True, frozen=True)
class _ViewSlots:
    """Slot numbers of one view's counters, named as in counters.py."""

    received: int
    admitted: int
    succeeded: int
    inferences: int
    executions: int
    success_ns: int
    fail_ns: int
    queue_ns: int
    compute_input_ns: int
    compute_infer_ns: int
    compute_output_ns: int
    last_inference_ms: int
    pending: int
    pending_items: int
    inflight: int
    failures: dict[str, int]


def _view_slots(index: dict[str, int], view: str) -> _ViewSlots:
    names = [field.name for field in dataclasses.fields(_ViewSlots) if field.name != "failures"]
    return _ViewSlots(
        **{name: index[f"view/{view}/{name}"] for name in names},
        failures={reason: index[f"view/{view}/failure_{reason}"] for reason in FAILURES},
    )


class Recorder:
    """The only writer of one cell's page.

    Args:
        pages: the counter memory.
        cell: whose page.
    """

    def __init__(self, pages: Pages, cell: int) -> None:
        pages.reset_gauges(cell)
        index = pages.layout.index
        self._page = pages.page(cell)
        self._index = index
        self._views: dict[str, _ViewSlots] = {view: _view_slots(index, view) for view in View}
        self._histograms = {
            name: (index[f"hist/{name}/0"], index[f"hist/{name}/sum_ns"])
            for name in ("request_seconds", "queue_seconds", "inference_seconds")
        }
        #: admitted requests whose moments are noted
        self.watched = 0
        self._batch_histogram = (index["hist/batch_size/0"], index["hist/batch_size/sum"])
        self._batches = (index["cell/batches"], index["cell/batch_items"])
        self._slots = [
            (index[f"slot/{n}/batches"], index[f"slot/{n}/items"], index[f"slot/{n}/busy_ns"])
            for n in range(pages.layout.slots)
        ]
        self._sizes = [
            (index[f"size/{count}/executions"], index[f"size/{count}/infer_ns"])
            for count in range(1, MOST_ITEMS + 1)
        ]

    def received(self, view: str) -> None:
        """A request that names this view came in, and gets no place; see ``admitted``."""
        self._page[self._views[view].received] += 1

    def admitted(self, request: Request) -> None:
        """A request came in and got its place in the queue."""
        page, slots = self._page, self._views[request.view]
        request.waiting = request.count
        if request.timeline is not None:
            self.watched += 1
        page[slots.received] += 1
        page[slots.admitted] += 1
        page[slots.pending] += 1
        page[slots.pending_items] += request.count
        page[slots.inflight] += 1

    def batch_formed(self, batch: Batch[Request]) -> None:
        """A worker gets a batch: its items wait no more, nor do the requests that they begin."""
        page = self._page
        for span in batch.spans:
            request, items = span.job, span.stop - span.start
            slots = self._views[request.view]
            if request.waiting == request.count:
                page[slots.pending] -= 1
            request.waiting -= items
            page[slots.pending_items] -= items
            if not request.started_s:
                request.started_s = batch.formed_s
                self._time("queue_seconds", batch.formed_s - request.arrived_s)

    def waiting_again(self, request: Request, items: int) -> None:
        """Items whose worker died are queued again."""
        slots = self._views[request.view]
        request.waiting += items
        self._page[slots.pending_items] += items
        if request.waiting == request.count:
            self._page[slots.pending] += 1
        self._page[self._index["cell/retried_items"]] += items

    def ran(self, batch: Batch[Request], run: Run) -> None:
        """A batch came back, and its results are copied."""
        for span in batch.spans:
            if span.job.timeline is not None:
                span.job.timeline.runs.append(run)

    def batch_done(
        self, batch: Batch[Request], slot: int, copy_s: float, engine_s: float, out_s: float
    ) -> None:
        """A batch came back with results."""
        page = self._page
        engine_ns = int(engine_s * 1e9)
        seen: set[str] = set()
        for span in batch.spans:
            request = span.job
            # The last batch of a request is the one that it is answered with.
            request.spent_s = (copy_s, batch.formed_s - request.started_s + engine_s, out_s)
            if request.view not in seen:
                seen.add(request.view)
                slots = self._views[request.view]
                page[slots.executions] += 1
                page[slots.last_inference_ms] = time.time_ns() // 1_000_000
        batches, items = self._batches
        page[batches] += 1
        page[items] += batch.count
        batches, items, busy_ns = self._slots[slot]
        page[batches] += 1
        page[items] += batch.count
        page[busy_ns] += engine_ns
        executions, infer_ns = self._sizes[batch.count - 1]
        page[executions] += 1
        page[infer_ns] += engine_ns
        first, total = self._batch_histogram
        page[first + bisect.bisect_left(BATCH_BUCKETS, batch.count)] += 1
        page[total] += batch.count
        self._time("inference_seconds", engine_s)

    def succeeded(self, request: Request, now_s: float) -> None:
        """A request is answered with a result."""
        page, slots = self._page, self._views[request.view]
        copy_s, engine_s, out_s = request.spent_s
        page[slots.inflight] -= 1
        page[slots.succeeded] += 1
        page[slots.inferences] += request.count
        page[slots.success_ns] += int((now_s - request.arrived_s) * 1e9)
        page[slots.queue_ns] += max(0, int((request.started_s - request.arrived_s) * 1e9))
        page[slots.compute_input_ns] += int(copy_s * 1e9)
        page[slots.compute_infer_ns] += max(0, int(engine_s * 1e9))
        page[slots.compute_output_ns] += int(out_s * 1e9)
        self._time("request_seconds", now_s - request.arrived_s)
        if request.timeline is not None:
            self._watched(request, "succeeded")
            request.timeline.answered_s = now_s

    def refused(self, view: str, reason: str, seconds: float) -> None:
        """A request ends at the door, for one of counters.FAILURES."""
        slots = self._views[view]
        self._page[slots.failures[reason]] += 1
        self._page[slots.fail_ns] += int(seconds * 1e9)

    def failed(self, request: Request, reason: str, now_s: float) -> None:
        """An admitted request ends without a result, for one of counters.FAILURES."""
        slots = self._views[request.view]
        self._page[slots.inflight] -= 1
        if request.waiting == request.count:
            self._page[slots.pending] -= 1
        self._page[slots.pending_items] -= request.waiting
        request.waiting = 0
        if request.timeline is not None:
            self._watched(request, reason)
        self.refused(request.view, reason, now_s - request.arrived_s)

    def _watched(self, request: Request, outcome: str) -> None:
        self.watched -= 1
        assert request.timeline is not None
        request.timeline.outcome = outcome

    def report_dropped(self, *, traced: bool, logged: bool) -> None:
        """What was to be told of a request found no room."""
        self._page[self._index["cell/traces_dropped"]] += traced
        self._page[self._index["cell/log_lines_dropped"]] += logged

    def worker(self, slot: int, *, attached: bool, lost: bool = True) -> None:
        """A worker came, or went; ``lost``: without being asked to."""
        self._page[self._index[f"slot/{slot}/attached"]] = int(attached)
        if not attached and lost:
            self._page[self._index["cell/lost_workers"]] += 1

    def serving(self, *, serves: bool) -> None:
        """Whether the cell answers requests."""
        self._page[self._index["cell/serving"]] = int(serves)

    def _time(self, histogram: str, seconds: float) -> None:
        first, total = self._histograms[histogram]
        self._page[first + bisect.bisect_left(TIME_BUCKETS_S, seconds)] += 1
        self._page[total] += max(0, int(seconds * 1e9))
