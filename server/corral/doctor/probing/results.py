"""What the probes measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, kw_only=True)
class Waits:
    """A distribution of waits, microseconds."""

    p50_us: float
    p99_us: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Probed:
    """All of it; what could not be measured is empty, and ``why_not`` says why.

    Attributes:
        bandwidth: GB/s of copies, reads and writes together, by node.
        threads: threads that copied, by node.
        frequency_ghz: with every worker's CPU busy, by CPU.
        wake_up: from a message sent to a worker's CPU that is idle, to the thread that reads it.
        front_per_s: messages of ``front_bytes`` that a loop on the frontend's CPUs takes a second.
        front_bytes: their size.
        why_not: by probe.
    """

    bandwidth: Mapping[int, float] = dataclasses.field(default_factory=dict)
    threads: Mapping[int, int] = dataclasses.field(default_factory=dict)
    frequency_ghz: Mapping[int, float] = dataclasses.field(default_factory=dict)
    wake_up: Waits | None = None
    front_per_s: float | None = None
    front_bytes: int = 0
    why_not: Mapping[str, str] = dataclasses.field(default_factory=dict)
