"""The text of /metrics: Triton's names, corral's own, and the supervisor's process.

Everything is read at the moment of the scrape: the counter pages (the dead frontends' too), the
supervisor's latest snapshot, cpu.stat.
"""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from corral import __version__
from corral.ipc.status import ServerStatus, StatusBoard
from corral.metrics import corral_families, triton_families
from corral.metrics.counters import Counts, Pages
from corral.metrics.telemetry_families import TelemetryCounts, telemetry_families
from corral.planning.plan import Plan

#: the busy ratio looks back at least this far, if the server is that old
BUSY_WINDOW_S = 10.0
_SAMPLE_SPACING_S = 1.0


class BusyWindow:
    """Busy fractions over the last seconds, whoever scrapes and however often.

    A fraction "since the last scrape" would be wrong as soon as two scrape. Samples are taken at
    scrapes, at most one a second, and dropped once a younger one is old enough.
    """

    def __init__(self, now_s: float, busy_ns: dict[int, int]) -> None:
        self._samples = collections.deque([(now_s, busy_ns)])

    def __len__(self) -> int:
        """Samples that are kept."""
        return len(self._samples)

    def ratios(self, now_s: float, busy_ns: dict[int, int]) -> dict[int, float]:
        """Adds a reading of each worker's busy time; returns each one's fraction, 0 to 1."""
        samples = self._samples
        while len(samples) > 1 and now_s - samples[1][0] >= BUSY_WINDOW_S:
            samples.popleft()
        then_s, before_ns = samples[0]
        if now_s - samples[-1][0] >= _SAMPLE_SPACING_S:
            samples.append((now_s, busy_ns))
        elapsed_ns = (now_s - then_s) * 1e9
        if elapsed_ns <= 0:
            return dict.fromkeys(busy_ns, 0.0)
        # A batch is counted when it ends, so one that began before the window can overfill it.
        return {
            worker: min(1.0, (busy - before_ns.get(worker, 0)) / elapsed_ns)
            for worker, busy in busy_ns.items()
        }


class Metrics:
    """Renders /metrics. Any thread may call ``render``; one at a time does.

    Args:
        board: the supervisor's snapshots.
        pages: the counter memory.
        plan: says what is planned now.
        throttling: reads (periods, seconds) that the CPU quota stopped us, or None where there
            is nothing to read.
        clock: monotonic seconds.
        steal: reads (seconds, CPUs): what a hypervisor gave to others, or None.
        joules: reads what each package consumed; empty where nothing says.
        telemetry: what became of traces and log lines.
        exemplars: traced requests, by bucket of ``corral_request_seconds``.
    """

    def __init__(
        self,
        board: StatusBoard,
        pages: Pages,
        plan: Callable[[], Plan],
        throttling: Callable[[], tuple[int, float] | None],
        clock: Callable[[], float] = time.monotonic,
        *,
        steal: Callable[[], tuple[float, int] | None] = lambda: None,
        joules: Callable[[], Mapping[str, float]] = dict,
        telemetry: Callable[[], TelemetryCounts] = TelemetryCounts,
        exemplars: Callable[[], Sequence[Exemplar | None]] = tuple,
    ) -> None:
        self._board = board
        self._pages = pages
        self._plan = plan
        self._throttling = throttling
        self._steal = steal
        self._joules = joules
        self._telemetry = telemetry
        self._exemplars = exemplars
        self._clock = clock
        self._lock = threading.Lock()
        self._window = BusyWindow(clock(), _busy_ns(pages.snapshot(), board.current()))
        # No registry: what a library puts into the default one stays out.
        self._process = ProcessCollector(registry=None)

    def render(self) -> bytes:
        """The page, in Prometheus' text format 0.0.4."""
        with self._lock:
            counts, status = self._pages.snapshot(), self._board.current()
            families = _Gathered([*self._families(counts, status), *self._process.collect()])
            return triton_families.render(counts, status.model) + generate_latest(families)

    def render_openmetrics(self) -> bytes:
        """The same as OpenMetrics 1.0.0, with exemplars where requests are traced."""
        with self._lock:
            counts, status = self._pages.snapshot(), self._board.current()
            families = _Gathered(
                [
                    *triton_families.openmetrics_families(counts, status.model),
                    *self._families(counts, status),
                    *self._process.collect(),
                ]
            )
            page: bytes = openmetrics.generate_latest(families)  # type: ignore[no-untyped-call]
            return page

    def _families(self, counts: Counts, status: ServerStatus) -> Iterator[Metric]:
        yield from corral_families.server_families(status, self._plan(), __version__)
        yield from corral_families.request_families(counts, status.model)
        yield from corral_families.histogram_families(counts, self._exemplars())
        ratios = self._window.ratios(self._clock(), _busy_ns(counts, status))
        yield from corral_families.worker_families(counts, status, ratios)
        yield from corral_families.cell_families(counts, status)
        yield from telemetry_families(counts, self._telemetry())
        throttled = self._throttling()
        if throttled is not None:
            yield from corral_families.throttling_families(*throttled)
        stolen = self._steal()
        if stolen is not None:
            yield from corral_families.steal_families(*stolen)
        if status.spin is not None:
            yield from corral_families.spin_families(status.spin)
        joules = self._joules()
        if joules:
            yield from corral_families.energy_families(joules)


class _Gathered(Collector):
    """Families that were collected already."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def _busy_ns(counts: Counts, status: ServerStatus) -> dict[int, int]:
    """Each worker's busy time, from its slot in its cell's page."""
    return {
        worker.id: counts.read(f"slot/{worker.slot}/busy_ns", worker.cell)
        for worker in status.workers
    }
