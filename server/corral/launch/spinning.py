"""Which CPUs are spun on, and the start of the process that does."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import msgspec

from corral.ipc import channel
from corral.launch.spawn import Child, Process, inherited, spawn
from corral.metrics.counters import Layout
from corral.planning.machine import Machine
from corral.planning.plan import Plan
from corral.settings import KeepWarm, Settings
from corral.tensors import View

_MODULE = "corral.launch.spinner"


class SpinPlace(msgspec.Struct, frozen=True, kw_only=True):
    """One CPU, and where the requests are counted that it is kept awake for.

    Attributes:
        cpu: by number.
        received: indexes of 64-bit numbers in the counter memory: requests received.
        inflight: the same of requests that are not answered.
    """

    cpu: int
    received: list[int]
    inflight: list[int]


class SpinnerBoot(msgspec.Struct, frozen=True, kw_only=True):
    """What the spinners are told.

    Attributes:
        counters_fd: the counter memory.
        bytes: its size.
        while_s: how long a silence is spun for, in seconds.
        places: a process each.
    """

    counters_fd: int
    bytes: int
    while_s: float
    places: list[SpinPlace]


def wants_spinning(settings: Settings) -> bool:
    """Whether somebody asks for it; ``auto`` does not, for it takes whole cores."""
    lifecycle = settings.lifecycle
    return lifecycle.keep_warm is KeepWarm.ON and lifecycle.keep_warm_spin_s > 0


def refusal(settings: Settings, machine: Machine) -> str:
    """Why CPUs are not spun on although somebody asks for it; empty where they are, or nobody does.

    Args:
        settings: what is asked for.
        machine: whose CPUs; a quota as large as they are cannot be used up.
    """
    quota = machine.cpu_quota
    theirs = machine.online_cpus if machine.cpuset_cpus is None else machine.cpuset_cpus
    if not wants_spinning(settings) or quota is None or quota >= len(theirs):
        return ""
    return (
        f"--keep-warm on: no CPU is kept from halting, for spinning would use up the quota of "
        f"{quota:g} CPUs, and the workers would be stopped for it"
    )


def spun_cpus(plan: Plan) -> list[int]:
    """The CPUs of frontends and workers."""
    return sorted({cpu for cell in plan.cells for cpu in cell.frontend_cpus} | _workers_cpus(plan))


def _workers_cpus(plan: Plan) -> set[int]:
    return {cpu for cell in plan.cells for worker in cell.workers for cpu in worker.cpus}


def spinner_boot(settings: Settings, plan: Plan, layout: Layout, counters_fd: int) -> SpinnerBoot:
    """What the spinners of a plan are told; each goes by the requests of the cells on its CPU.

    Args:
        settings: how long.
        plan: who is where.
        layout: of the counter memory's pages, one a cell.
        counters_fd: the counter memory.
    """
    places = []
    for cpu in spun_cpus(plan):
        starts = [
            cell * layout.page_bytes // 8
            for cell, planned in enumerate(plan.cells)
            if cpu in planned.frontend_cpus or any(cpu in one.cpus for one in planned.workers)
        ]
        received, inflight = (
            [start + layout.index[f"view/{view}/{name}"] for start in starts for view in View]
            for name in ("received", "inflight")
        )
        places.append(SpinPlace(cpu=cpu, received=received, inflight=inflight))
    return SpinnerBoot(
        counters_fd=counters_fd,
        bytes=layout.page_bytes * len(plan.cells),
        while_s=settings.lifecycle.keep_warm_spin_s,
        places=places,
    )


def start_spinners(boot: SpinnerBoot, environ: Mapping[str, str]) -> Process:
    """Starts them. Call it from the main thread: they die with the thread.

    Args:
        boot: what they are told.
        environ: this process's environment; they get the harmless part.

    Raises:
        OSError: no process, memory or descriptor to be had; nothing stays open.
    """
    child = Child(
        kind="spinner",
        number=0,
        module=_MODULE,
        cpus=[place.cpu for place in boot.places],
        memory_node=None,
        env=inherited(environ),
        drop=True,
    )
    with contextlib.ExitStack() as undo:
        ours, theirs = channel.pair()
        undo.callback(ours.close)
        with theirs:
            process = spawn(child, boot, ours, [boot.counters_fd])
        undo.pop_all()
    return process
