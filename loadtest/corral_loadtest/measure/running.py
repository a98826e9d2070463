"""Runs a measurement: warm up until steady, measure, wait for what is in flight, sum up."""

from __future__ import annotations

import contextlib
import datetime
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import msgspec

from corral_loadtest.generator import arrivals, channel, histograms, payload
from corral_loadtest.generator.fleet import Fleet
from corral_loadtest.generator.process import Report
from corral_loadtest.generator.windows import OK, Windows
from corral_loadtest.measure import steady
from corral_loadtest.measure.summary import Usage, sum_up
from corral_loadtest.result import Result, Server
from corral_loadtest.servers import machine, process_tree
from corral_loadtest.specification import (
    ArrivalKind,
    ClosedLoop,
    OpenLoop,
    Specification,
    WrongInput,
)

#: of an offset, while a schedule is made
_SCHEDULED_BYTES = 24
#: of a request that is on its way, in the generator and below it
_COPIES = 3
_SETTLE_S = 0.3  # what generators report late, so that a window is whole when it is judged


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Where a measurement stands, for the live line.

    Attributes:
        phase: "warm-up", "measuring" or "waiting" for the last answers.
        at_s: since the first request.
        of_s: when sending ends; None while that is not known.
        requests_per_s: answered "OK" in the last whole window.
        p99_ms: of requests meant for it; None without answers.
        errors: other answers so far, by status.
        in_flight: unanswered requests.
    """

    phase: str
    at_s: float
    of_s: float | None
    requests_per_s: float
    p99_ms: float | None
    errors: dict[str, int]
    in_flight: int


Listener = Callable[[Progress], None]


def run(specification: Specification, listener: Listener | None = None) -> Result:
    """Measures; on Ctrl-C returns what was measured so far, with ``complete`` False.

    Args:
        specification: what to measure.
        listener: told where it stands, about four times a second for each generator.

    Raises:
        WrongInput: it cannot be measured as asked.
        RuntimeError: a generator failed.
    """
    processes, connections = division(specification)
    if specification.server_pid:
        process_tree.cpu_s(specification.server_pid)  # says at once that there is no such process
    target = specification.target
    opened = channel.open_channel(target)
    try:
        channel.wait_connected(opened, target)
        page = channel.model_metadata(opened, target)
        messages = payload.messages(page, specification.payload, target)
        if isinstance(specification.load, ClosedLoop):
            # Each client's request is on its way at once.
            clients, largest = specification.load.clients, max(map(len, messages))
            payload.check_memory(
                clients * largest, f"--clients {clients} with {largest} bytes each"
            )
        for message in messages:
            channel.try_request(opened, target, message)
        name, version = channel.server_name(opened, target)
    finally:
        opened.close()
    measurement = _Measurement(specification, processes, connections, listener)
    with Fleet(
        specification,
        messages,
        processes=processes,
        connections=connections,
        horizon_s=measurement.horizon_s,
    ) as fleet:
        measurement.follow(fleet)
    return measurement.result(Server(name=name, version=version))


def division(specification: Specification) -> tuple[int, int]:
    """How many generators and connections.

    Raises:
        WrongInput: there are fewer connections than generators, or fewer clients than either.
    """
    load = specification.load
    most = specification.connections or 8
    if isinstance(load, ClosedLoop):
        most = min(most, load.clients)
    processes = specification.processes or min(most, max(1, len(os.sched_getaffinity(0)) // 4))
    connections = specification.connections or processes
    if connections < processes:
        raise WrongInput(f"{processes} generators need a connection each; there are {connections}")
    if isinstance(load, ClosedLoop) and connections > load.clients:
        raise WrongInput(f"{load.clients} clients cannot use {connections} connections")
    return processes, connections


@contextlib.contextmanager
def _interruption() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets, instead of an exception that may come up in a destructor."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.signal(signal.SIGINT, lambda *_: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)


class _Measurement:
    """The windows as they come in, and when the measured part begins and ends."""

    def __init__(
        self,
        specification: Specification,
        processes: int,
        connections: int,
        listener: Listener | None,
    ) -> None:
        self._specification = specification
        self._listener = listener
        self._windows = Windows(specification.window_s)
        self._heard: dict[int, Report] = {}
        self._processes = processes
        self._connections = connections
        self._started_at = datetime.datetime.now(datetime.UTC)
        self._judged = 0
        self._first: int | None = None
        self._last: int | None = None
        self._steady = False
        self._complete = False
        self._usage: dict[str, Usage] = {}
        self._server_cpu_s = 0.0
        load = specification.load
        self._trace = isinstance(load, OpenLoop) and load.arrivals is ArrivalKind.TRACE
        self.horizon_s = self._horizon_s()

    def _horizon_s(self) -> float:
        wanted = self._specification
        load = wanted.load
        if isinstance(load, OpenLoop):
            # Also says at once that a schedule cannot be made.
            offsets = arrivals.schedule(load, 1.0)
            if self._trace:
                return float(offsets[-1]) + wanted.window_s
        warm_up_s = max(wanted.warm_up_s, wanted.warm_up_limit_s)
        horizon_s = warm_up_s + wanted.duration_s + 4 * wanted.window_s + 2.0
        if isinstance(load, OpenLoop) and load.rate_per_s:
            # Every generator has the whole schedule for a moment, and its own part.
            needed = int(load.rate_per_s * horizon_s) * _SCHEDULED_BYTES * self._processes
            payload.check_memory(needed, f"--rate {load.rate_per_s:g} for {horizon_s:g} s")
        return horizon_s

    def follow(self, fleet: Fleet) -> None:
        """Hears the generators until all have ended, or the user has had enough."""
        fleet.begin()
        if self._trace:
            self._begin_measured(math.ceil(self._specification.warm_up_s / self._window_s), fleet)
        with _interruption() as interrupted:
            for index, report in fleet.reports():
                self._heard[index] = report
                self._windows.add(report.deltas)
                if interrupted.is_set():
                    self._interrupted()
                    return
                self._advance(fleet)
                self._tell()
        self._complete = True

    @property
    def _window_s(self) -> float:
        return self._specification.window_s

    def _at_s(self) -> float:
        """Until when all generators have reported."""
        if len(self._heard) < self._processes:
            return 0.0
        return min(report.at_s for report in self._heard.values())

    def _advance(self, fleet: Fleet) -> None:
        at_s = self._at_s()
        if self._first is None:
            whole = int(max(0.0, at_s - _SETTLE_S) / self._window_s)
            if whole > self._judged:
                self._judged = whole
                self._judge(whole, fleet)
        elif "begin" not in self._usage and at_s >= self._first * self._window_s:
            self._usage["begin"] = self._measure_usage()
        elif self._last and "end" not in self._usage and at_s >= self._last * self._window_s:
            self._usage["end"] = self._measure_usage()

    def _judge(self, whole: int, fleet: Fleet) -> None:
        """Ends the warm-up once the last windows agree, or when it has lasted long enough."""
        wanted = self._specification
        if whole * self._window_s < wanted.warm_up_s:
            return
        recent = [self._windows[n] for n in range(max(0, whole - steady.AGREEING), whole)]
        counts = [window.arrived.total() for window in recent]
        means = [
            histograms.merged(
                part for parts in window.latencies.values() for part in parts
            ).get_mean_value()
            / 1000
            for window in recent
        ]
        self._steady = steady.is_steady(counts, means, wanted.stability)
        if self._steady or whole * self._window_s >= wanted.warm_up_limit_s:
            # The next window that no generator has reached yet.
            ahead_s = time.monotonic() - fleet.start_s
            self._begin_measured(math.ceil(ahead_s / self._window_s), fleet)

    def _begin_measured(self, first: int, fleet: Fleet) -> None:
        self._first = first
        length_s = self._specification.duration_s
        if self._trace:
            length_s = max(self._window_s, self.horizon_s - first * self._window_s)
            self._steady = True
        self._last = first + max(1, round(length_s / self._window_s))
        if not self._trace:
            fleet.end(self._last * self._window_s)

    def _interrupted(self) -> None:
        """What was measured until now: from the measured part, or else from the beginning."""
        whole = int(self._at_s() / self._window_s)
        if self._first is None or whole <= self._first:
            self._first, self._steady = 0, False
        self._last = min(self._last or whole, max(whole, self._first + 1))

    def _measure_usage(self) -> Usage:
        if pid := self._specification.server_pid:
            # A server that dies under load is a finding, and no reason to lose the figures.
            with contextlib.suppress(WrongInput):
                self._server_cpu_s = process_tree.cpu_s(pid)
        return Usage(
            at_s=time.monotonic(),
            server_cpu_s=self._server_cpu_s,
            answered=sum(self._windows[n].arrived.total() for n in range(len(self._windows))),
            stolen_s=machine.stolen_s(),
            generator_cpu_s=[report.cpu_s for report in self._heard.values()],
        )

    def _tell(self) -> None:
        if self._listener is None:
            return
        at_s = self._at_s()
        window = self._windows[max(0, int((at_s - _SETTLE_S) / self._window_s) - 1)]
        latencies = histograms.merged(window.latencies.get(OK, []))
        whole = self._windows.total(0, len(self._windows))
        end_s = self._last * self._window_s if self._last else None
        phase = "warm-up" if self._first is None else "measuring"
        self._listener(
            Progress(
                phase="waiting" if end_s and at_s > end_s else phase,
                at_s=at_s,
                of_s=end_s,
                requests_per_s=window.arrived[OK] / self._window_s,
                p99_ms=histograms.percentile_ms(latencies, 99)
                if latencies.get_total_count()
                else None,
                errors={s: n for s, n in whole.arrived.items() if s != OK},
                in_flight=sum(report.in_flight for report in self._heard.values()),
            )
        )

    def result(self, server: Server) -> Result:
        """The sum of it."""
        assert self._first is not None
        assert self._last is not None
        begin = self._usage.get("begin", Usage())
        end = self._usage.get("end") or self._measure_usage()
        return sum_up(
            self._specification,
            self._windows,
            (self._first, self._last),
            started_at=self._started_at.isoformat(timespec="seconds"),
            machine=machine.describe(),
            server=server,
            division=(self._processes, self._connections),
            usage=(begin, end),
            complete=self._complete,
            steady=self._steady,
        )
