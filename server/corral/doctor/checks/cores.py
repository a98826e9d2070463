"""How soon cores wake, and which of their threads compute."""

from __future__ import annotations

from collections.abc import Iterable

from corral.doctor.checks.frequency import PERFSPECT
from corral.doctor.evidence import CPU_FOLDER, Evidence
from corral.doctor.finding import Outcome, Status, check, info, ok, unknown
from corral.planning.machine import CpuKind
from corral.settings import Mode
from corral.system.cpu_list import format_cpus

#: a core that sleeps deeper needs longer to wake than a request's hand-over takes
_WAKE_US = 50


def deep_states(seen: Evidence) -> tuple[dict[int, tuple[int, str]], bool]:
    """The enabled states that take too long to leave.

    Returns:
        Of each worker's CPU that has one the deepest, as (µs, name); whether any state was shown.
    """
    deep: dict[int, tuple[int, str]] = {}
    shown = False
    for cpu in seen.layout.worker_cpus:
        states = seen.below(f"{CPU_FOLDER}/cpu{cpu}/cpuidle")
        for path, name in states.items():
            folder, _, leaf = path.partition("/")
            if leaf != "name" or states.get(f"{folder}/disable", "0") != "0":
                continue
            latency_us = int(states.get(f"{folder}/latency") or 0)
            shown = True
            if latency_us > _WAKE_US:
                deep[cpu] = max(deep.get(cpu, (0, "")), (latency_us, name))
    return deep, shown


def without_deep_states(cpus: Iterable[int]) -> str:
    """The command that disables them on these CPUs."""
    return f"sudo cpupower --cpu {format_cpus(cpus)} idle-set --disable-by-latency {_WAKE_US}"


@check(
    "idle-states",
    "Idle states",
    wanted=f"for real-time inference none that takes longer than {_WAKE_US} µs to leave",
    why="The first request after a pause waits until its core is awake. For throughput deep "
    "states are welcome: idle cores leave their power to busy ones.",
    source="corral: docs/latency-under-load.md; kernel: pm/cpuidle.rst",
)
def idle_states(seen: Evidence) -> Outcome:
    """The deepest state that is enabled, of each CPU."""
    deep, shown = deep_states(seen)
    if not shown:
        path = f"{CPU_FOLDER}/cpu{next(iter(seen.layout.worker_cpus), 0)}/cpuidle/state0/name"
        driver_name = seen.text(f"{CPU_FOLDER}/cpuidle/current_driver")
        named = f" (driver {driver_name})" if driver_name else ""
        return unknown(seen.missing(path) + named)
    if not deep:
        return ok(f"none deeper than {_WAKE_US} µs")
    latency_us, name = max(deep.values())
    found = f"{name} takes {latency_us} µs to leave, on CPUs {format_cpus(deep)}"
    if seen.layout.mode != Mode.RTI.value:
        return ok(f"{found}, which is fine for throughput")
    return Outcome(
        status=Status.WARNING,
        found=found,
        fix=without_deep_states(deep),
        cpus=tuple(deep),
    )


@check(
    "smt",
    "Hardware threads (SMT)",
    wanted="either: corral computes on one hardware thread a core",
    why="Two computing threads on a core share its arithmetic. PerfSpect says to turn SMT on; for "
    "workers on cores of their own it changes nothing, and the second threads serve the rest.",
    source=f"{PERFSPECT}; Intel's guide for AI: bind to physical cores",
)
def smt(seen: Evidence) -> Outcome:
    """Whether cores have two threads, and whether two of ours compute on one."""
    core_of = {cpu: core.cpus for core in seen.machine.cores for cpu in core.cpus}
    doubled = [
        cpu
        for worker in seen.layout.workers
        for cpu in worker.cpus
        if len(set(core_of.get(cpu, (cpu,))).intersection(worker.cpus)) > 1
    ]
    active = any(len(core.cpus) > 1 for core in seen.machine.cores)
    control = seen.text(f"{CPU_FOLDER}/smt/control")
    found = ("on" if active else "off") + (f" ({control})" if control else "")
    if not doubled:
        return ok(f"{found}; one computing thread a core")
    return Outcome(
        status=Status.WARNING,
        found=f"{found}; CPUs {format_cpus(doubled)} compute beside a sibling",
        fix="corral reload",
        cpus=tuple(doubled),
    )


@check(
    "core-kinds",
    "Kinds of cores",
    wanted="workers on performance cores",
    why="A worker on slower cores answers later than its neighbours, and the queue cannot know "
    "which one a request will get.",
    source="kernel: cpu_capacity",
)
def core_kinds(seen: Evidence) -> Outcome:
    """Workers on efficiency cores."""
    kind_of = {cpu: core.kind for core in seen.machine.cores for cpu in core.cpus}
    slow = tuple(
        cpu
        for cpu in seen.layout.worker_cpus
        if kind_of.get(cpu, CpuKind.PERFORMANCE) is not CpuKind.PERFORMANCE
    )
    if not slow:
        return ok("all of one kind" if len(set(kind_of.values())) <= 1 else "performance cores")
    fast = [cpu for cpu, kind in kind_of.items() if kind is CpuKind.PERFORMANCE]
    return info(
        f"workers on slower cores: CPUs {format_cpus(slow)}",
        f"taskset --cpu-list {format_cpus(fast)} corral serve",
        cpus=slow,
    )
