"""Reads the evidence: the machine's files, those of the server's processes, and what moves."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from corral.doctor.evidence import CPU_FOLDER, NODE_FOLDER, Evidence, Look
from corral.doctor.layout import Layout
from corral.planning.machine import Machine
from corral.system import amx, cgroups, procfs
from corral.system.spun import spun_seconds
from corral.system.tree import matching, read_texts

#: of each CPU that a process of ours may run on
_OF_CPUS = (
    "cpufreq/scaling_governor",
    "cpufreq/scaling_driver",
    "cpufreq/energy_performance_preference",
    "cpufreq/scaling_max_freq",
    "cpufreq/cpuinfo_max_freq",
    "cpufreq/base_frequency",
    "power/energy_perf_bias",
)
_OF_MACHINE = (
    f"{CPU_FOLDER}/intel_pstate/no_turbo",
    f"{CPU_FOLDER}/cpufreq/boost",
    f"{CPU_FOLDER}/cpuidle/current_driver",
    f"{CPU_FOLDER}/smt/control",
    f"{CPU_FOLDER}/isolated",
    f"{CPU_FOLDER}/nohz_full",
    "sys/kernel/mm/transparent_hugepage/enabled",
    "sys/kernel/mm/transparent_hugepage/defrag",
    "sys/devices/system/clocksource/clocksource0/current_clocksource",
    "proc/sys/kernel/numa_balancing",
    "proc/sys/kernel/osrelease",
    "proc/sys/vm/zone_reclaim_mode",
    "proc/sys/vm/swappiness",
    "proc/swaps",
    "proc/version",
    "proc/cmdline",
    "proc/cpuinfo",
    "proc/pressure/cpu",
    "proc/self/limits",
)
_PATTERNS = (
    f"{CPU_FOLDER}/intel_uncore_frequency/*/*_khz",
    f"{CPU_FOLDER}/vulnerabilities/*",
    "sys/class/powercap/*/constraint_0_*_uw",
    "sys/devices/system/edac/mc/mc*/dimm*/size",
    "sys/devices/system/edac/mc/mc*/dimm*/dimm_location",
    "sys/class/net/*/speed",
    "sys/class/net/*/device/numa_node",
    "sys/class/dmi/id/sys_vendor",
    "sys/class/dmi/id/product_name",
)
_IDLE = ("name", "latency", "disable")
_THROTTLES = ("core_throttle_count", "package_throttle_count", "count")
_OF_PROCESSES = ("status", "maps", "limits", "environ")
#: a pass over every page of the process
_SLOW_OF_PROCESSES = ("smaps_rollup", "numa_maps")
#: states of a CPU that are looked at
_MOST_IDLE_STATES = 12
_DAEMON = "irqbalance"
_GROUP = {
    "group/memory.max": ("memory", ("memory.max", "memory.limit_in_bytes")),
    "group/memory.current": ("memory", ("memory.current", "memory.usage_in_bytes")),
    "group/pids.max": ("pids", ("pids.max",)),
    "group/pids.current": ("pids", ("pids.current",)),
}


def gather(
    root: Path,
    machine: Machine,
    layout: Layout,
    *,
    live: bool,
    interval_s: float = 0.0,
    thorough: bool = True,
    sleep: Callable[[float], None] = time.sleep,
) -> Evidence:
    """Reads everything that the checks look at.

    Args:
        root: the folder that holds ``sys`` and ``proc``.
        machine: as read there.
        layout: whose CPUs and processes are looked at.
        live: whether it is the machine that we run on.
        interval_s: between two looks at what moves; 0 for one look.
        thorough: also what takes milliseconds a process, and asks the kernel for AMX.
        sleep: waits between the looks.
    """
    first = _look(root, machine, layout)
    texts, refused = read_texts(root, _paths(root, layout, thorough=thorough))
    _add_processes(root, layout, texts, thorough=thorough)
    _add_group(root, layout, texts)
    asked = live and thorough and "amx_tile" in machine.isa
    second = None
    if interval_s:
        sleep(max(0.0, interval_s - (time.monotonic() - first.at_s)))
        second = _look(root, machine, layout)
    return Evidence(
        machine=machine,
        layout=layout,
        texts=texts,
        refused=refused,
        first=first,
        second=second,
        live=live,
        amx_allowed=amx.request() if asked else None,
    )


def _paths(root: Path, layout: Layout, *, thorough: bool) -> Iterable[str]:
    yield from _OF_MACHINE
    for cpu in layout.all_cpus:
        folder = f"{CPU_FOLDER}/cpu{cpu}"
        yield from (f"{folder}/{name}" for name in _OF_CPUS)
    for cpu in layout.worker_cpus:
        folder = f"{CPU_FOLDER}/cpu{cpu}/cpuidle"
        for state in range(_MOST_IDLE_STATES):
            if not (root / folder / f"state{state}").is_dir():
                break
            yield from (f"{folder}/state{state}/{name}" for name in _IDLE)
    for pattern in _PATTERNS:
        yield from matching(root, pattern)
    names = (*_OF_PROCESSES, *(_SLOW_OF_PROCESSES if thorough else ()))
    for pid in layout.pids:
        yield from (f"proc/{pid}/{name}" for name in names)


def _look(root: Path, machine: Machine, layout: Layout) -> Look:
    at_s = time.monotonic()
    paths = ["proc/stat", "proc/interrupts"]
    paths += [f"{NODE_FOLDER}/node{node.id}/numastat" for node in machine.nodes]
    for cpu in layout.all_cpus:
        paths += [f"{CPU_FOLDER}/cpu{cpu}/thermal_throttle/{name}" for name in _THROTTLES]
    texts, _ = read_texts(root, paths)
    throttled = cgroups.read_throttling(root, _process(layout))
    if throttled is not None:
        texts["throttling"] = f"{throttled.periods} {throttled.throttled_periods}"
    cpu_s = {}
    for pid in layout.pids:
        with contextlib.suppress(OSError, LookupError, ValueError):
            cpu_s[pid] = procfs.process_cpu_seconds(pid, root)
    spun_s = spun_seconds(root, gives_way_to=layout.pids or [os.getpid()])
    return Look(at_s=at_s, texts=texts, cpu_s=cpu_s, spun_s=spun_s)


def _add_processes(root: Path, layout: Layout, texts: dict[str, str], *, thorough: bool) -> None:
    """Masks of the workers' threads, a line each, and whether irqbalance runs."""
    for pid in layout.pids:
        # Variables are parted by zeros, which read as blanks; none of ours has a blank in it.
        environ = texts.get(f"proc/{pid}/environ")
        if environ is not None:
            texts[f"proc/{pid}/environ"] = "\n".join(environ.split(" "))
        with contextlib.suppress(OSError, KeyError, ValueError):
            masks = procfs.thread_affinities(pid, root).values()
            texts[f"proc/{pid}/masks"] = "\n".join(",".join(map(str, mask)) for mask in masks)
    names = read_texts(root, matching(root, "proc/[0-9]*/comm"))[0] if thorough else {}
    if names:
        texts["found/irqbalance"] = "yes" if _DAEMON in names.values() else "no"


def _process(layout: Layout) -> str:
    """Whose control groups are looked at: the server's, where one runs."""
    return "self" if layout.supervisor is None else str(layout.supervisor)


def _add_group(root: Path, layout: Layout, texts: dict[str, str]) -> None:
    """What the control group allows and uses; of a limit the smallest of its ancestors'."""
    for key, (controller, names) in _GROUP.items():
        for name in names:
            number = cgroups.read_number(root, controller, name, _process(layout))
            if number is not None:
                texts[key] = str(number)
                break
