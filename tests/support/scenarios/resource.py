"""What clients that break leave behind in the server: the promise R11.

``make soak`` runs the same code with more of them.
"""

from __future__ import annotations

import dataclasses
import time

from support.broken_clients import (
    CrashingClients,
    crash_connections,
    half_sent,
    held_open,
    idle_connection,
)
from support.counted_load import Counted, closed_loop
from support.process_use import Use, use_of
from support.running_server import Server, wait_until
from support.server_counters import Scrape

#: two workers of 5 ms: those who crash take little of what they can do
BUSY = ("--workers", "2", "--oversubscribe", "--null-batch-ms", "5")
_PACE_S = 0.005
#: what the promise allows
_RETURN_S = 5.0
#: what the allocator may keep beyond what it kept of the same load before
_SLACK_BYTES = 12 * 2**20


@dataclasses.dataclass(frozen=True)
class Breakage:
    """What broken clients did to the others, and left behind.

    Attributes:
        counted: what the others saw.
        quiet_p99_s: of the others' latencies before.
        p99_s: of those meanwhile.
        before: what the frontend held before.
        after: what it held at most ``_RETURN_S`` after.
        return_s: how soon it was back at that.
    """

    counted: Counted
    quiet_p99_s: float
    p99_s: float
    before: Use
    after: Use
    return_s: float


def break_clients(
    server: Server,
    *,
    crashes: int,
    idle: int,
    half: int,
    processes: int,
    quiet_s: float,
    warm_up: bool = False,
) -> Breakage:
    """Idle connections, half-sent messages and crashing clients, beside a good client's load.

    Args:
        server: with ``BUSY``.
        crashes: clients that crash in mid-request.
        idle: connections that say nothing.
        half: messages that stop in the middle.
        processes: how many of them are real clients in processes that are killed.
        quiet_s: how long to look at the good client alone.
        warm_up: the memory need not come back yet: glibc keeps what a first such load needed
            (40 MB of 62), and no more after a second and a third.
    """
    frontend = server.frontends()[0]
    with closed_loop(server.port, clients=1, connections=1) as load:
        load.wait_for_answers(4)
        crashing = CrashingClients(server.port, processes)
        before = use_of(frontend)
        load.run_for(quiet_s)
        began_s = time.monotonic()
        connections = [idle_connection(server.port) for _ in range(idle)]
        connections += [half_sent(server.port) for _ in range(half)]
        with held_open(connections):
            wait_until(
                lambda: use_of(frontend).descriptors >= before.descriptors + idle + half,
                "all connections to be accepted",
            )
            crash_connections(server.port, crashes - processes, _PACE_S)
            crashing.crash()
        ended_s = time.monotonic()
        after = wait_until(
            lambda: _back(use_of(frontend), before, warm_up), f"no more than {before}", _RETURN_S
        )
        return_s = time.monotonic() - ended_s
    wait_until(
        lambda: Scrape(server.metrics_port).total("corral_requests_inflight") == 0,
        "no request to be left",
    )
    return Breakage(
        counted=load.counted,
        quiet_p99_s=load.counted.latency_s(0.99, until_s=began_s),
        p99_s=load.counted.latency_s(0.99, since_s=began_s, until_s=ended_s),
        before=before,
        after=after,
        return_s=return_s,
    )


def _back(now: Use, before: Use, warm_up: bool) -> Use | None:
    at_baseline = (
        now.descriptors <= before.descriptors
        and now.threads <= before.threads + 2
        and (warm_up or now.memory_bytes <= before.memory_bytes + _SLACK_BYTES)
    )
    return now if at_baseline else None
