"""The supervisor's end: takes what frontends tell of requests, and makes traces and lines of it."""

from __future__ import annotations

import importlib.util
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from corral import extras
from corral.errors import ConfigError
from corral.settings import TelemetrySettings
from corral.system.background import step_back
from corral.telemetry import access_log, report
from corral.telemetry.access_log import AccessLog
from corral.telemetry.exemplars import Example, Exemplars
from corral.telemetry.report import RequestReport

if TYPE_CHECKING:
    from corral.telemetry.exporter import TraceExporter

logger = logging.getLogger(__name__)

#: how long the last reports may take, when the server ends
_LAST_S = 4.0


def check(settings: TelemetrySettings) -> None:
    """Makes sure that the settings can be met.

    Raises:
        ConfigError: they cannot.
    """
    if settings.otlp_endpoint is None:
        return
    missing = [name for name in ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
               if not _is_there(name)]  # fmt: skip
    if missing:
        raise ConfigError(
            f"--otlp-endpoint needs {missing[0]}, which is not installed: {extras.install('trace')}"
        )


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def try_out(asked: TelemetrySettings) -> None:
    """Looks whether log and traces can be begun; leaves nothing behind, and sends nothing.

    Raises:
        ConfigError: a Collector would refuse it.
    """
    if asked.access_log is not None:
        access_log.try_out(asked.access_log)
    if asked.otlp_endpoint is not None:
        _begin(asked.otlp_endpoint, dict).close()


def _begin(endpoint: str, cores: Callable[[], Mapping[int, int]]) -> TraceExporter:
    # Only where it is wanted: it may not be installed, and takes memory.
    from corral.telemetry.exporter import TraceExporter

    try:
        return TraceExporter(endpoint, cores)
    # What OpenTelemetry reads in the environment, and what a credential provider raises.
    except Exception as error:
        raise ConfigError(
            f"--otlp-endpoint: OpenTelemetry refuses its variables, $OTEL_…: {error}"
        ) from None


class Collector:
    """Log, traces and exemplars of one server; make it where ``check`` has passed.

    Args:
        settings: what is asked for.
        cores: says how many cores a worker has, by its id; any thread may ask.
        bounds_s: of the buckets that exemplars are for.

    Raises:
        ConfigError: the access log cannot be opened, or OpenTelemetry refuses its environment.

    Attributes:
        log: the access log, if there is one.
        exporter: of traces, if they are sent.
        exemplars: for the metrics.
    """

    def __init__(
        self,
        settings: TelemetrySettings,
        cores: Callable[[], Mapping[int, int]],
        bounds_s: Sequence[float],
    ) -> None:
        self.log = AccessLog(settings.access_log) if settings.access_log is not None else None
        self.exporter: TraceExporter | None = None
        if settings.otlp_endpoint is not None:
            self.exporter = _begin(settings.otlp_endpoint, cores)
        self.exemplars = Exemplars(bounds_s)
        self._ours, self._theirs = report.pair()
        self._thread = threading.Thread(target=self._read_all, name="telemetry", daemon=True)
        self._thread.start()

    @property
    def fd(self) -> int:
        """The frontends' end of the socket."""
        return self._theirs.fileno()

    def close(self) -> None:
        """Writes and sends what frontends have told, when they are gone; bounded in time."""
        # The reader takes what lies in the socket, and then finds its end.
        self._theirs.shutdown(socket.SHUT_WR)
        self._thread.join(_LAST_S)
        self._theirs.close()

    def _read_all(self) -> None:
        step_back()
        while packet := self._ours.recv(report.PACKET_BYTES):
            try:
                told = report.decode(packet)
            except msgspec.DecodeError:
                # A frontend reads what strangers send: it is not believed.
                logger.exception("not a report of requests")
                continue
            unix_offset_s = time.time() - time.monotonic()
            for one in told:
                self._take(one, unix_offset_s)
        if self.log is not None:
            self.log.close()
        if self.exporter is not None:
            self.exporter.close()
        self._ours.close()

    def _take(self, told: RequestReport, unix_offset_s: float) -> None:
        if self.log is not None and told.is_logged:
            self.log.add(access_log.line(told, unix_offset_s))
        trace = told.trace
        if self.exporter is None or trace is None or not trace.wanted:
            return
        try:
            self.exporter.add(told, trace, unix_offset_s)
        except ValueError:
            logger.exception("a request without proper ids")
            return
        if told.answered_s:
            seconds = told.answered_s - told.received_s
            self.exemplars.note(Example(trace.trace_id, seconds, told.answered_s + unix_offset_s))
