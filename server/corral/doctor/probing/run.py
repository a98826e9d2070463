"""All probes, one after another; what cannot be measured says why."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TypeVar

from corral.doctor.layout import Layout
from corral.doctor.probing import compute, hand_over
from corral.doctor.probing.results import Probed
from corral.errors import os_reason
from corral.planning.machine import Machine

T = TypeVar("T")
#: a cpuset, unlike a mask, lets nobody out
_NOT_THERE = (
    "whoever asks may not run on these CPUs; ask from inside the server's container or unit"
)


def probe(machine: Machine, layout: Layout) -> Probed:
    """Measures for about three seconds; a server that runs meanwhile is disturbed, and disturbs."""
    why_not: dict[str, str] = {}

    def attempt(name: str, measure: Callable[[], T]) -> T | None:
        try:
            return measure()
        except OSError as error:
            why_not[name] = _NOT_THERE if error.errno == errno.EINVAL else os_reason(error)
            return None

    bandwidth, threads = {}, {}
    for node, cpus in sorted(node_cpus(machine).items()):
        found = attempt("bandwidth", lambda cpus=cpus: compute.bandwidth(cpus))  # type: ignore[misc]
        if found is not None:
            bandwidth[node], threads[node] = found
    workers, fronts = layout.worker_cpus, layout.frontend_cpus
    # On other CPUs than the worker's where there are any, as the frontend's hand-over is.
    apart = [cpu for cpu in fronts if cpu != workers[0]] or [workers[0]]
    return Probed(
        bandwidth=bandwidth,
        threads=threads,
        frequency_ghz=attempt("frequency", lambda: compute.frequency_ghz(workers)) or {},
        wake_up=attempt("wake-up", lambda: hand_over.wake_up(apart[-1], workers[0])),
        front_per_s=attempt("front", lambda: hand_over.front_per_s(fronts)),
        front_bytes=hand_over.FRONT_BYTES,
        why_not=why_not,
    )


def node_cpus(machine: Machine) -> dict[int, list[int]]:
    """A CPU of each of our cores, by node."""
    allowed, found = set(machine.allowed_cpus), dict[int, list[int]]()
    for core in machine.cores:
        ours = [cpu for cpu in core.cpus if cpu in allowed]
        if ours:
            found.setdefault(core.node, []).append(ours[0])
    return found
