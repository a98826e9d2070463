"""What people see of a server while it runs: the metrics endpoint, traces, the access log."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from prometheus_client.samples import Exemplar

from corral.metrics import counters
from corral.metrics.http import MetricsServer
from corral.metrics.page import Metrics
from corral.metrics.telemetry_families import TelemetryCounts
from corral.security import tls
from corral.settings import Settings, TelemetrySettings
from corral.supervisor.exposure import make_access
from corral.supervisor.supervisor import Supervisor
from corral.system import cpu_time, procfs, rapl
from corral.telemetry.collector import Collector


class Observation:
    """What is told of requests, for as long as the server lives; see ``observing``.

    Args:
        settings: what is asked for.

    Raises:
        ConfigError: the access log cannot be opened.
    """

    def __init__(self, settings: TelemetrySettings) -> None:
        asked = settings.otlp_endpoint is not None or settings.access_log is not None
        self._supervisor: Supervisor | None = None
        self._collector = (
            Collector(settings, self._cores, counters.TIME_BUCKETS_S) if asked else None
        )

    @property
    def fd(self) -> int:
        """Where frontends tell of requests that have ended; -1: nobody wants to know."""
        return -1 if self._collector is None else self._collector.fd

    def _cores(self) -> Mapping[int, int]:
        if self._supervisor is None:
            return {}
        cells = self._supervisor.deployment.plan.cells
        return {worker.id: worker.cores for cell in cells for worker in cell.workers}

    def counts(self) -> TelemetryCounts:
        """What became of traces and log lines, for the metrics."""
        if self._collector is None:
            return TelemetryCounts()
        log, exporter = self._collector.log, self._collector.exporter
        return TelemetryCounts(
            sent=None if exporter is None else exporter.sent,
            refused=0 if exporter is None else exporter.refused,
            overflowed=0 if exporter is None else exporter.overflowed,
            lines=None if log is None else log.written,
            lines_dropped=0 if log is None else log.dropped,
        )

    def exemplars(self) -> list[Exemplar | None]:
        """Traced requests, by bucket of ``corral_request_seconds``."""
        if self._collector is None:
            return []
        return [
            found and Exemplar({"trace_id": found.trace_id}, found.seconds, found.unix_s)
            for found in self._collector.exemplars.by_bucket()
        ]

    @contextlib.contextmanager
    def metrics(
        self, settings: Settings, supervisor: Supervisor, pages: counters.Pages
    ) -> Iterator[None]:
        """The metrics endpoint: the first thing that is there, and the last that goes."""
        self._supervisor = supervisor
        board = supervisor.board
        metrics = Metrics(
            board,
            pages,
            lambda: supervisor.deployment.plan,
            procfs.throttling,
            steal=cpu_time.steal,
            joules=rapl.Meter().joules,
            telemetry=self.counts,
            exemplars=self.exemplars,
        )
        endpoint = MetricsServer(
            settings.listen.metrics_host,
            settings.listen.metrics_port,
            metrics.render,
            lambda: board.current().ready,
            openmetrics=metrics.render_openmetrics,
            access=make_access(settings.security),
            files=tls.watch(
                settings.security.tls_cert,
                settings.security.tls_key,
                settings.security.tls_client_ca,
            ),
        )
        endpoint.start()
        try:
            yield
        finally:
            endpoint.stop()

    def close(self) -> None:
        """Writes and sends what frontends have told, once they are gone."""
        if self._collector is not None:
            self._collector.close()


@contextlib.contextmanager
def observing(settings: TelemetrySettings) -> Iterator[Observation]:
    """An observation that is closed at the end.

    Raises:
        ConfigError: see Observation.
    """
    observation = Observation(settings)
    try:
        yield observation
    finally:
        observation.close()
