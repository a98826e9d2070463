"""Every check there is, in the order of the report."""

from __future__ import annotations

from collections.abc import Iterable

from corral.doctor.checks import (
    cores,
    cpu_time,
    engine,
    frequency,
    huge_pages,
    kernel,
    measured,
    memory,
)
from corral.doctor.evidence import Evidence
from corral.doctor.finding import Check, MachineFacts, Report, count
from corral.errors import printable

#: of a kernel's release
_MOST_CHARACTERS = 100

CHECKS: tuple[Check, ...] = (
    cpu_time.quota,
    cpu_time.throttling,
    cpu_time.cpuset,
    cpu_time.whole_cores,
    cpu_time.other_load,
    cpu_time.steal,
    cpu_time.pressure,
    frequency.governor,
    frequency.driver,
    frequency.energy_preference,
    frequency.energy_bias,
    frequency.turbo,
    frequency.ceiling,
    frequency.thermal,
    frequency.power_limit,
    frequency.uncore,
    cores.idle_states,
    cores.smt,
    cores.core_kinds,
    huge_pages.huge_pages,
    huge_pages.defrag,
    huge_pages.huge_pages_got,
    memory.numa_balancing,
    memory.zone_reclaim,
    memory.memory_node,
    memory.numa_misses,
    memory.node_clustering,
    memory.memory_channels,
    memory.swap,
    memory.swapped_workers,
    memory.memory_limit,
    kernel.interrupts,
    kernel.irqbalance,
    kernel.kernel,
    kernel.mitigations,
    kernel.clocksource,
    kernel.isolation,
    kernel.open_files,
    kernel.locked_memory,
    kernel.processes,
    kernel.network,
    kernel.hypervisor,
    engine.isa,
    engine.amx_permission,
    engine.engine_isa,
    engine.allocator,
    engine.openmp,
    engine.thread_affinity,
    engine.server_warnings,
    measured.bandwidth,
    measured.frequency,
    measured.wake_up,
    measured.front,
)


def examine(seen: Evidence, checks: Iterable[Check] = CHECKS) -> Report:
    """Puts the evidence before every check. Pure."""
    findings = [found.find(seen) for found in checks]
    machine, layout = seen.machine, seen.layout
    others = cpu_time.others_percent(seen)
    return Report(
        machine=MachineFacts(
            cpu=machine.model_name,
            packages=len(machine.packages),
            nodes=len(machine.nodes),
            cores=len(machine.cores),
            cpus=len(machine.online_cpus),
            features=list(machine.features),
            kernel=printable(seen.kernel)[:_MOST_CHARACTERS],
            virtual=seen.virtual,
            mode=layout.mode,
            workers=len(layout.workers),
            looked_at="running server" if layout.running else "plan",
            busy_percent=None if others is None else round(max(others.values(), default=0.0), 1),
        ),
        checks=findings,
        summary=count(findings),
    )
