"""Servers of our own under open-loop load: what requests took, and what workers did meanwhile."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from corral.errors import CorralError, StartError
from corral.ipc.messages import ServedModel
from corral.ipc.spans import RequestSpan, unpack
from corral.protocol.rest.sample import sample_request
from corral.slo.service import Batch, Served
from corral.slo.space import Configuration
from corral.supervisor import admin
from corral.supervisor.child_server import ChildServer, asking_ours, options_of, status_of
from corral.supervisor.tracing import MOST_SECONDS
from corral.system import procfs
from corral.system.rapl import Meter

#: latencies in seconds, None without an answer; by how much each was sent late; the sender's CPU
#: seconds; what was traced
_Answers = tuple[list[float | None], list[float], float, list[RequestSpan]]

#: what a trace lasts beyond the last request
_TRACE_ON_S = 0.3


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of one configuration at one rate."""

    rate: float
    offsets_s: list[float]
    #: of each request, from when it was meant to be sent; infinite without an answer
    latencies_s: list[float]
    #: by which the generator was late, the 99th percentile
    late_s: float = 0.0
    #: what it says of servers
    served: Served
    #: what the machine's processors consumed, in all; None where nothing tells
    joules: float | None = None
    #: the share of the CPUs' time that others took meanwhile
    other_load: float = 0.0

    @property
    def refused(self) -> float:
        """The share of the requests that got no answer."""
        return sum(map(math.isinf, self.latencies_s)) / len(self.latencies_s)

    @property
    def answered(self) -> int:
        """How many requests got an answer."""
        return sum(map(math.isfinite, self.latencies_s))


class Servers:
    """Servers that are up at the same time, one of them under load; a context manager.

    Args:
        settings: option names and values of all of them, beside the configurations'.
        served: the model.
        boot_timeout_s: for one to get ready.
        meter: of the processors' energy.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        served: ServedModel,
        boot_timeout_s: float,
        meter: Meter | None = None,
    ) -> None:
        self._settings = settings
        self._served = served
        self._boot_timeout_s = boot_timeout_s
        self._meter = meter or Meter()
        self._running: dict[Configuration, ChildServer] = {}

    def __enter__(self) -> Servers:
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._running.values():
            server.ask_to_end()
        for one in list(self._running):
            self.end(one)

    def start(
        self, wanted: Sequence[Configuration], within_s: float = math.inf
    ) -> dict[Configuration, str]:
        """Starts servers at the same time; those that run stay.

        Args:
            wanted: which.
            within_s: for all of them together to get ready; those that are not are ended.

        Returns:
            why some did not get ready.
        """
        new = [one for one in wanted if one not in self._running]
        failed = {}
        for one in new:
            settings = {**self._settings, **one.settings()}
            self._running[one] = ChildServer([*options_of(settings)])
        until_s = time.monotonic() + within_s
        for one in new:
            left_s = max(0.0, until_s - time.monotonic())
            try:
                self._running[one].wait_until_ready(min(self._boot_timeout_s, left_s))
            except StartError as error:
                failed[one] = str(error)
                self.end(one)
        return failed

    def runs(self, one: Configuration) -> bool:
        """Whether it was started, and not ended."""
        return one in self._running

    def end(self, one: Configuration) -> None:
        """Ends a server, if it runs."""
        server = self._running.pop(one, None)
        if server is not None:
            server.end()

    def measure(self, one: Configuration, rate: float, offsets_s: Sequence[float]) -> Round:
        """Sends a schedule to a server that runs.

        Raises:
            StartError: the server is gone.
        """
        before = self._meter.total()
        began_s = self._beside_s(one)
        with asking_ours():
            latencies_s, late_s, sender_s, spans = self._ask(one, offsets_s)
        after = self._meter.total()
        ended_s = self._beside_s(one)
        beside_s = sender_s
        if began_s is not None and ended_s is not None:
            beside_s += max(0.0, ended_s - began_s)
        found = round_of(rate, offsets_s, latencies_s, late_s, spans, beside_s=beside_s)
        joules = None if before is None or after is None else after - before
        return msgspec.structs.replace(found, joules=joules)

    def _beside_s(self, one: Configuration) -> float | None:
        """CPU seconds that a server has used, without workers and spinners; None if unknown."""
        server = self._running[one]
        try:
            status = status_of(server.socket)
            workers_s = sum(
                procfs.process_cpu_seconds(worker.pid)
                for worker in status.workers
                if worker.pid is not None
            )
            spun_s = 0.0 if status.spin is None else status.spin.cpu_s
            return procfs.tree_cpu_seconds(server.pid) - workers_s - spun_s
        except (OSError, CorralError):
            return None

    def _ask(self, one: Configuration, offsets_s: Sequence[float]) -> _Answers:
        socket = self._running[one].socket
        port = status_of(socket).http_port
        message = sample_request(self._served, f"127.0.0.1:{port}")
        order = {"port": port, "length": len(message), "offsets": list(offsets_s)}
        with subprocess.Popen(
            [sys.executable, "-S", str(Path(__file__).with_name("load.py"))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            # Ctrl-C is for whoever measures.
            process_group=0,
        ) as load:  # fmt: skip
            try:
                return _under_load(load, order, message, socket, offsets_s)
            # Whatever happens, Ctrl-C included, it must not go on asking.
            except BaseException:
                load.kill()
                raise


def _under_load(
    load: subprocess.Popen[bytes],
    order: Mapping[str, Any],
    message: bytes,
    socket: Path,
    offsets_s: Sequence[float],
) -> _Answers:
    assert load.stdin
    assert load.stdout
    load.stdin.write(json.dumps(order).encode() + b"\n" + message)
    load.stdin.flush()
    if load.stdout.readline() != b"ready\n":
        raise StartError("the load generator did not start")
    load.stdin.write(b"go\n")
    load.stdin.flush()
    seconds = min(MOST_SECONDS, offsets_s[-1] + _TRACE_ON_S)
    reply = admin.ask(socket, admin.Request(command="trace", seconds=seconds))
    if reply.trace is None:
        raise StartError(reply.text)
    spans = [span for cell in reply.trace for span in unpack(cell.cell, cell.records)]
    output, _ = load.communicate()
    if not output:
        raise StartError("the load generator ended before its time")
    latencies_s, late_s, sender_s = json.loads(output)
    return latencies_s, late_s, sender_s, spans


def round_of(
    rate: float,
    offsets_s: Sequence[float],
    latencies_s: Sequence[float | None],
    late_s: Sequence[float],
    spans: Sequence[RequestSpan],
    *,
    beside_s: float = 0.0,
) -> Round:
    """What a round says.

    Args:
        rate: that was offered.
        offsets_s: of the requests.
        latencies_s: of each; None without an answer.
        late_s: by which each was sent late.
        spans: of requests that were traced meanwhile.
        beside_s: CPU seconds of frontends, supervisor and clients.
    """
    answered_s = [spent_s for spent_s in latencies_s if spent_s is not None]
    inside_s = [span.at_s["collected"] - span.at_s["queued"] for span in spans]
    overhead_s = _mean(answered_s) - _mean(inside_s) if answered_s and inside_s else 0.0
    ordered = sorted(late_s)
    return Round(
        rate=rate,
        offsets_s=list(offsets_s),
        latencies_s=[math.inf if spent_s is None else spent_s for spent_s in latencies_s],
        late_s=ordered[int(0.99 * (len(ordered) - 1))],
        served=Served(
            rate=_carried(offsets_s, latencies_s),
            batches=_batches(spans, _began_s(offsets_s, late_s, spans)),
            overhead_s=max(0.0, overhead_s),
            beside_s=beside_s / len(offsets_s),
        ),
    )


def _carried(offsets_s: Sequence[float], latencies_s: Sequence[float | None]) -> float:
    """Answers a second: of a server that is overloaded, fewer than requests."""
    ends_s = [
        begun_s + spent_s
        for begun_s, spent_s in zip(offsets_s, latencies_s, strict=True)
        if spent_s is not None
    ]
    if not ends_s:
        return len(offsets_s) / offsets_s[-1]
    return len(ends_s) / max(*ends_s, offsets_s[-1])


def _began_s(
    offsets_s: Sequence[float], late_s: Sequence[float], spans: Sequence[RequestSpan]
) -> float:
    """The first moment of a schedule on the clock of spans.

    A request begins a little after it was sent, which is less than a stall takes; the n-th span is
    not always the n-th request's, and their middle does not mind.
    """
    sent_s = sorted(map(sum, zip(offsets_s, late_s, strict=True)))
    begun_s = sorted(span.at_s["begun"] for span in spans)
    apart_s = [begun - sent for begun, sent in zip(begun_s, sent_s, strict=False)]
    return statistics.median(apart_s) if apart_s else 0.0


def _batches(spans: Sequence[RequestSpan], began_s: float) -> list[Batch]:
    """The batches of requests, each with the share of the other workers that were busy then."""
    found = {(span.cell, span.batch): span for span in spans}
    by_cell: dict[int, list[RequestSpan]] = {}
    for span in sorted(found.values(), key=lambda span: span.at_s["formed"]):
        by_cell.setdefault(span.cell, []).append(span)
    batches = []
    for of_cell in by_cell.values():
        others = len({span.worker for span in of_cell}) - 1
        until_s: dict[int, float] = {}
        for span in of_cell:
            formed_s, collected_s = span.at_s["formed"], span.at_s["collected"]
            busy = sum(end_s > formed_s for who, end_s in until_s.items() if who != span.worker)
            until_s[span.worker] = collected_s
            batches.append(
                Batch(
                    size=span.batch_items,
                    spent_s=collected_s - formed_s,
                    company=busy / others if others else 1.0,
                    begun_s=formed_s - began_s,
                    worker=span.worker,
                    cell=span.cell,
                )
            )
    return batches


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
