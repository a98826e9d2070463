"""What a measurement found, and its JSON form.

Latencies of open loops count from the time a request was meant to be sent, those of closed loops
from the time it was sent. Units are in the names; ``requests`` are RPCs, ``items`` what they hold.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from corral_loadtest.specification import Specification

SCHEMA_VERSION = 1


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Percentiles of one kind of answer, from an HdrHistogram of three digits."""

    count: int
    mean_ms: float
    min_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """One window of the timeline.

    Attributes:
        at_s: its start, from the first request; negative values do not occur.
        measured: it lies in the measured part.
        sent: requests meant for it.
        answered: answers "OK" that arrived in it.
        errors: other answers that arrived in it, by status.
        p50_ms: of the answers "OK" to requests meant for it; None without any.
        p99_ms: likewise.
        max_ms: likewise.
    """

    at_s: float
    measured: bool
    sent: int
    answered: int
    errors: dict[str, int]
    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None


class Generator(msgspec.Struct, frozen=True, kw_only=True):
    """What the load cost to make, and whether the tool itself was in the way.

    Attributes:
        processes: that generated.
        connections: over all of them.
        cpu_s_per_request: of the generators.
        cpu_share: the busiest process's CPU time by elapsed time; 1 is one core filled.
        lag_p99_ms: how late requests were sent; 0 in closed loops.
        limit: why the tool and not the server may have set the figures; None if it did not.
    """

    processes: int
    connections: int
    cpu_s_per_request: float
    cpu_share: float
    lag_p99_ms: float
    limit: str | None


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """The server, as it calls itself, and what it used.

    Attributes:
        name: from ServerMetadata, or empty.
        version: likewise.
        cpu_s_per_request: user and system time of its process tree, dead children included;
            None without ``server_pid``.
        cpu_cores: that time by elapsed time.
        memory_mib: proportional set size of the tree at the end.
    """

    name: str
    version: str
    cpu_s_per_request: float | None = None
    cpu_cores: float | None = None
    memory_mib: float | None = None


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where the generators ran."""

    cpu: str
    cpus: int
    kernel: str
    python: str
    grpcio: str

    @property
    def slug(self) -> str:
        """The CPU's name as part of a file's name: "amd-epyc-7r13"."""
        plain = re.sub(r"\((r|tm)\)", "", self.cpu.lower())
        return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


class QueueFloor(msgspec.Struct, frozen=True, kw_only=True):
    """What queueing alone costs at the same arrivals, simulated with no overhead.

    Attributes:
        workers: that serve one request each at a time, from one shared queue.
        service_ms: each.
        load: offered, as a share of what the workers can carry.
        p50_ms: sojourn (waiting and service).
        p99_ms: likewise.
        ratio_p99: measured by simulated.
    """

    workers: int
    service_ms: float
    load: float
    p50_ms: float
    p99_ms: float
    ratio_p99: float | None


class Result(msgspec.Struct, frozen=True, kw_only=True, tag="measurement"):
    """One measurement.

    Attributes:
        schema: of this structure.
        started_at: ISO 8601, UTC.
        specification: what was asked for.
        machine: of the generators.
        server: measured.
        generator: that measured.
        complete: False if it was interrupted; the figures are of what was measured until then.
        steady: the warm-up ended because windows agreed.
        warm_up_s: sent before the measured part.
        measured_s: length of the measured part.
        offered_per_s: requests meant for the measured part, by its length.
        requests_per_s: answers "OK" in it, by its length.
        items_per_s: the same, times items a request.
        sent: requests meant for the measured part.
        statuses: how they were answered, by gRPC status; "UNANSWERED" beside gRPC's own.
        error_share: of ``sent``, what was not answered "OK".
        stolen_share: of the CPU time meanwhile, what the hypervisor gave to others; 0 to 1.
        valid: usable as a figure.
        remarks: why not, or what to keep in mind.
        latency: of answers "OK"; None without any.
        latency_by_status: of every kind of answer.
        percentiles: (percentile, ms) of answers "OK", for the curve.
        histogram: of answers "OK" in microseconds, as HdrHistogram encodes it (base64).
        timeline: windows, the warm-up's too.
        floor: simulated queue; None unless asked for.
    """

    schema: int = SCHEMA_VERSION
    started_at: str
    specification: Specification
    machine: Machine
    server: Server
    generator: Generator
    complete: bool
    steady: bool
    warm_up_s: float
    measured_s: float
    offered_per_s: float
    requests_per_s: float
    items_per_s: float
    sent: int
    statuses: dict[str, int]
    error_share: float
    stolen_share: float = 0.0
    valid: bool
    remarks: tuple[str, ...]
    latency: Latency | None
    latency_by_status: dict[str, Latency]
    percentiles: tuple[tuple[float, float], ...]
    histogram: str
    timeline: tuple[Interval, ...]
    floor: QueueFloor | None = None


class Ramp(msgspec.Struct, frozen=True, kw_only=True, tag="ramp"):
    """Measurements at rising load.

    Attributes:
        schema: of this structure.
        steps: in the order they were taken.
        capacity_per_s: the most requests answered "OK" a second in a valid step; 0 without one.
        reached: the ramp ended because more load brought no more, and not at its last step.
    """

    schema: int = SCHEMA_VERSION
    steps: tuple[Result, ...]
    capacity_per_s: float
    reached: bool


def encode(found: object) -> bytes:
    """A structure, a measurement or a report of several, as indented JSON with a newline."""
    return msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n"


def decode(text: bytes) -> Result | Ramp:
    """What ``encode`` wrote.

    Raises:
        msgspec.ValidationError: it is none.
    """
    return msgspec.json.decode(text, type=Result | Ramp)


def json_schema() -> dict[str, Any]:
    """JSON Schema of what ``encode`` writes."""
    return msgspec.json.schema(Result | Ramp)
