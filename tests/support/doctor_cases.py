"""A made-up machine for every check of the doctor, once in order and once not."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from corral.doctor.catalog import examine
from corral.doctor.evidence import Evidence
from corral.doctor.finding import Finding
from corral.doctor.gather import gather
from corral.doctor.layout import Layout, SeenFrontend, SeenWorker
from corral.doctor.probing.results import Probed, Waits
from corral.planning.machine import Core
from corral.planning.topology import read_machine
from support.machines import ComposedRoot

CPU = "sys/devices/system/cpu"
NODE = "sys/devices/system/node"
THP = "sys/kernel/mm/transparent_hugepage"
NET = "sys/class/net/eth0"
EDAC = "sys/devices/system/edac/mc"
FLAGS = "avx2 avx512f avx512_vnni amx_tile amx_int8 amx_bf16"
PIDS = (4711, 4712)
FRONT_PID = 4710

Files = Mapping[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """What is written, and what is different at the second look.

    Attributes:
        files: below the root.
        later: written between the looks; None: there is one look.
        running: whether a server runs.
        layout: changes of the layout.
        evidence: changes of the evidence.
        cores: of the machine, in place of the usual.
    """

    files: Files = dataclasses.field(default_factory=dict)
    later: Files | None = None
    running: bool = False
    layout: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    evidence: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    cores: tuple[Core, ...] = ()

    def seen(self, composed: ComposedRoot) -> Evidence:
        """The evidence that the doctor reads there."""
        cores = self.cores or tuple(
            Core(cpus=(n,), package=n // 4, node=n // 4, l3=n // 4) for n in range(8)
        )
        composed.add_machine(cores)
        composed.write("proc/cpuinfo", cpuinfo(FLAGS))
        for path, text in self.files.items():
            composed.write(path, text)
        machine = read_machine(composed.root, live=False)

        def between(seconds: float) -> None:
            for path, text in (self.later or {}).items():
                composed.write(path, text)

        seen = gather(
            composed.root,
            machine,
            self.make_layout(),
            live=False,
            interval_s=0.0 if self.later is None else 0.001,
            sleep=between,
        )
        if seen.second is not None:
            seen = dataclasses.replace(
                seen,
                first=dataclasses.replace(seen.first, at_s=0.0),
                second=dataclasses.replace(seen.second, at_s=1.0),
            )
        return dataclasses.replace(seen, **self.evidence)

    def make_layout(self) -> Layout:
        """Two workers of three cores, each with a frontend on the node's fourth."""
        pids = PIDS if self.running else (None, None)
        engine = {"precision": "int8", "isa": "brgconv_avx512_amx"} if self.running else {}
        workers = tuple(
            SeenWorker(
                id=n,
                cell=n,
                cpus=tuple(range(4 * n + 1, 4 * n + 4)),
                cores=3,
                memory_node=n,
                pid=pids[n],
                engine=engine,
                took_hold={"amx": "permitted"} if self.running else {},
            )
            for n in range(2)
        )
        fields: dict[str, Any] = {
            "mode": "rti",
            "workers": workers,
            "frontends": tuple(
                SeenFrontend(cell=n, cpus=(4 * n,), pid=FRONT_PID if self.running else None)
                for n in range(2)
            ),
            "running": self.running,
            "allocator": "tcmalloc",
            "huge_pages": True,
        }
        return Layout(**{**fields, **self.layout})

    def finding(self, composed: ComposedRoot, check: str) -> Finding:
        """What one check makes of it."""
        report = examine(self.seen(composed))
        return next(finding for finding in report.checks if finding.id == check)


def cpuinfo(flags: str, vendor: str = "GenuineIntel", family: int = 6, model: int = 143) -> str:
    """A CPU's block, for every CPU."""
    head = f"vendor_id : {vendor}\ncpu family : {family}\nmodel : {model}\nmodel name : A CPU\n"
    return "\n".join(f"processor : {n}\n{head}flags : {flags}\n" for n in range(8))


def on_cpus(name: str, text: str, cpus: range = range(8)) -> dict[str, str]:
    """The same file of each CPU."""
    return {f"{CPU}/cpu{cpu}/{name}": text for cpu in cpus}


def stat(busy: int, steal: int = 0, idle: int = 1000) -> str:
    """/proc/stat: ticks of every CPU."""
    lines = [f"cpu{n} {busy} 0 0 {idle} 0 0 0 {steal} 0 0" for n in range(8)]
    return "\n".join(["cpu  0 0 0 0 0 0 0 0 0 0", *lines])


def interrupts(of_a_device: int) -> str:
    """/proc/interrupts: one device's, on CPU 1, beside timers that count for nothing."""
    head = " ".join(f"CPU{n}" for n in range(8))
    return (
        f"   {head}\n 24: 0 {of_a_device} 0 0 0 0 0 0 PCI-MSI eth0\n"
        f"LOC: {' '.join(['999999'] * 8)} Local timer interrupts"
    )


def of_workers(name: str, text: str) -> dict[str, str]:
    """The same file of each worker's process."""
    return {f"proc/{pid}/{name}": text for pid in PIDS}


def idle(latency_us: int) -> dict[str, str]:
    """An idle state of every CPU that takes so long to leave."""
    return {
        **on_cpus("cpuidle/state0/name", "C6"),
        **on_cpus("cpuidle/state0/latency", str(latency_us)),
        **on_cpus("cpuidle/state0/disable", "0"),
    }


def cgroup(**files: str) -> dict[str, str]:
    """A cgroup v2 with these files (``cpu_max`` is cpu.max)."""
    written = {f"sys/fs/cgroup/a/{n.replace('_', '.', 1)}": text for n, text in files.items()}
    return {
        "proc/mounts": "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0",
        "proc/self/cgroup": "0::/a",
        **written,
    }


def limits(files: int | str) -> str:
    """/proc/PID/limits."""
    return f"Max open files            {files}   {files}   files\nMax locked memory         8388608"


def dimms(channels: int) -> dict[str, str]:
    """So many channels with a module, on each of two packages."""
    found = {}
    for package in range(2):
        for channel in range(channels):
            folder = f"{EDAC}/mc{package}/dimm{channel}"
            found[f"{folder}/size"] = "16384"
            found[f"{folder}/dimm_location"] = f"channel {channel} slot 0"
    return found


TWO_THREADS = tuple(Core(cpus=(n, n + 4), package=0, node=0, l3=0) for n in range(4))
ONE_NODE = tuple(Core(cpus=(n,), package=0, node=0, l3=0) for n in range(8))
PROBED = Probed(
    bandwidth={0: 80.0, 1: 78.0},
    threads={0: 4, 1: 4},
    frequency_ghz=dict.fromkeys(range(8), 3.0),
    wake_up=Waits(p50_us=12.0, p99_us=40.0),
    front_per_s=6000.0,
    front_bytes=150 * 1024,
)


def probed(**changes: Any) -> Machine:
    """What the probes measured, with changes."""
    return Machine(evidence={"probed": dataclasses.replace(PROBED, **changes)})


def one_engine(**said: str) -> Mapping[str, Any]:
    """A layout of one worker whose engine says this of itself."""
    worker = SeenWorker(
        id=0, cell=0, cpus=(1,), cores=1, memory_node=None, pid=PIDS[0], engine=said,
        took_hold={"amx": "not permitted", "allocator": "system"},
    )  # fmt: skip
    return {"workers": (worker,)}


#: by check: a machine where it is in order
GOOD: dict[str, Machine] = {
    "cpu-quota": Machine(files=cgroup(cpu_max="800000 100000")),
    "quota-throttling": Machine(
        files=cgroup(cpu_stat="nr_periods 900\nnr_throttled 0\nthrottled_usec 0")
    ),
    "cpuset": Machine(files={"proc/self/status": "Cpus_allowed_list: 0-7"}),
    "whole-cores": Machine(cores=TWO_THREADS),
    "other-load": Machine(files={"proc/stat": stat(10)}, later={"proc/stat": stat(10)}),
    "steal": Machine(files={"proc/stat": stat(10, steal=0)}),
    "cpu-pressure": Machine(
        files={"proc/pressure/cpu": "some avg10=0.10 avg60=0 avg300=0 total=1"}
    ),
    "governor": Machine(files=on_cpus("cpufreq/scaling_governor", "performance")),
    "frequency-driver": Machine(files=on_cpus("cpufreq/scaling_driver", "intel_pstate")),
    "energy-preference": Machine(
        files=on_cpus("cpufreq/energy_performance_preference", "performance")
    ),
    "energy-bias": Machine(files=on_cpus("power/energy_perf_bias", "0")),
    "turbo": Machine(files={f"{CPU}/intel_pstate/no_turbo": "0"}),
    "frequency-ceiling": Machine(
        files={
            **on_cpus("cpufreq/scaling_max_freq", "3500000"),
            **on_cpus("cpufreq/cpuinfo_max_freq", "3500000"),
        }
    ),
    "thermal-throttling": Machine(files=on_cpus("thermal_throttle/core_throttle_count", "0")),
    "power-limit": Machine(
        files={
            "sys/class/powercap/intel-rapl:0/constraint_0_power_limit_uw": "350000000",
            "sys/class/powercap/intel-rapl:0/constraint_0_max_power_uw": "350000000",
        }
    ),
    "uncore": Machine(
        files={
            f"{CPU}/intel_uncore_frequency/package_00_die_00/max_freq_khz": "2500000",
            f"{CPU}/intel_uncore_frequency/package_00_die_00/initial_max_freq_khz": "2500000",
        }
    ),
    "idle-states": Machine(files=idle(2)),
    "smt": Machine(cores=TWO_THREADS, layout=one_engine()),
    "core-kinds": Machine(files={}),
    "huge-pages": Machine(files={f"{THP}/enabled": "always [madvise] never"}),
    "huge-pages-stalls": Machine(
        files={f"{THP}/defrag": "always defer defer+madvise [madvise] never"}
    ),
    "huge-pages-got": Machine(
        files=of_workers("smaps_rollup", "AnonHugePages:    4096 kB"), running=True
    ),
    "numa-balancing": Machine(files={"proc/sys/kernel/numa_balancing": "0"}),
    "zone-reclaim": Machine(files={"proc/sys/vm/zone_reclaim_mode": "0"}),
    "memory-node": Machine(
        files={
            f"proc/{PIDS[0]}/numa_maps": "7f00 bind:0 anon=100 dirty=100 N0=99 N1=1",
            f"proc/{PIDS[1]}/numa_maps": "7f00 bind:1 anon=100 dirty=100 N1=100",
        },
        running=True,
    ),
    "numa-misses": Machine(
        files={f"{NODE}/node{n}/numastat": "numa_miss 5\nnuma_foreign 5" for n in range(2)},
        later={},
    ),
    "node-clustering": Machine(),
    "memory-channels": Machine(files=dimms(8)),
    "swap": Machine(files={"proc/swaps": "Filename Type Size Used Priority"}),
    "swapped-workers": Machine(files=of_workers("status", "VmSwap:        0 kB"), running=True),
    "memory-limit": Machine(files=cgroup(memory_max=str(2**34), memory_current=str(2**32))),
    "interrupts": Machine(
        files={"proc/interrupts": interrupts(5)}, later={"proc/interrupts": interrupts(9)}
    ),
    "irqbalance": Machine(files={"proc/1/comm": "systemd"}),
    "kernel": Machine(files={"proc/sys/kernel/osrelease": "6.8.0-45-generic"}),
    "mitigations": Machine(files={f"{CPU}/vulnerabilities/mds": "Not affected"}),
    "clocksource": Machine(
        files={"sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc"}
    ),
    "isolation": Machine(files={f"{CPU}/isolated": ""}),
    "open-files": Machine(files={"proc/self/limits": limits(65536)}),
    "locked-memory": Machine(files={"proc/self/limits": limits(65536)}),
    "processes": Machine(files=cgroup(pids_max="10000", pids_current="10")),
    "network": Machine(files={f"{NET}/speed": "25000", f"{NET}/device/numa_node": "0"}),
    "hypervisor": Machine(files={"sys/class/dmi/id/sys_vendor": "Somebody"}),
    "isa": Machine(),
    "amx-permission": Machine(running=True),
    "engine-isa": Machine(running=True),
    "allocator": Machine(
        files=of_workers("maps", "7f-8f r-xp 0 08:01 1 /usr/lib/libtcmalloc_minimal.so.4"),
        running=True,
    ),
    "openmp": Machine(
        files=of_workers("maps", "7f-8f r-xp 0 08:01 1 /usr/lib/libiomp5.so"), running=True
    ),
    "thread-affinity": Machine(
        files={
            f"proc/{PIDS[0]}/task/4711/status": "Cpus_allowed_list: 1-3",
            f"proc/{PIDS[1]}/task/4712/status": "Cpus_allowed_list: 5-7",
            f"proc/{FRONT_PID}/task/4710/status": "Cpus_allowed_list: 0",
        },
        running=True,
    ),
    "server-warnings": Machine(running=True),
    "probe-bandwidth": probed(),
    "probe-frequency": probed(),
    "probe-wake-up": probed(),
    "probe-front": probed(),
}

#: by check: a machine where it is not, the status that this has, and the workers that suffer
BAD: dict[str, tuple[Machine, str, list[int]]] = {
    "cpu-quota": (Machine(files=cgroup(cpu_max="250000 100000")), "error", [0, 1]),
    "quota-throttling": (
        Machine(
            files=cgroup(cpu_stat="nr_periods 900\nnr_throttled 0\nthrottled_usec 0"),
            later=cgroup(cpu_stat="nr_periods 910\nnr_throttled 3\nthrottled_usec 9"),
        ),
        "error",
        [0, 1],
    ),
    "cpuset": (Machine(files={"proc/self/status": "Cpus_allowed_list: 0-5"}), "error", [1]),
    "whole-cores": (
        Machine(
            cores=TWO_THREADS,
            files={"proc/self/status": "Cpus_allowed_list: 0-6"},
            layout={"workers": (SeenWorker(id=0, cell=0, cpus=(3,), cores=1, memory_node=0),)},
        ),
        "warning",
        [0],
    ),
    "other-load": (
        Machine(files={"proc/stat": stat(10)}, later={"proc/stat": stat(60)}),
        "warning",
        [0, 1],
    ),
    "steal": (Machine(files={"proc/stat": stat(10, steal=90)}), "warning", [0, 1]),
    "cpu-pressure": (
        Machine(files={"proc/pressure/cpu": "some avg10=40.00 avg60=0 avg300=0 total=1"}),
        "warning",
        [0, 1],
    ),
    "governor": (
        Machine(
            files={
                **on_cpus("cpufreq/scaling_governor", "performance"),
                **on_cpus("cpufreq/scaling_governor", "powersave", range(4, 8)),
            }
        ),
        "warning",
        [1],
    ),
    "frequency-driver": (
        Machine(files=on_cpus("cpufreq/scaling_driver", "acpi-cpufreq")),
        "info",
        [0, 1],
    ),
    "energy-preference": (
        Machine(files=on_cpus("cpufreq/energy_performance_preference", "balance_power")),
        "warning",
        [0, 1],
    ),
    "energy-bias": (Machine(files=on_cpus("power/energy_perf_bias", "6")), "info", [0, 1]),
    "turbo": (Machine(files={f"{CPU}/cpufreq/boost": "0"}), "warning", [0, 1]),
    "frequency-ceiling": (
        Machine(
            files={
                **on_cpus("cpufreq/scaling_max_freq", "3500000"),
                **on_cpus("cpufreq/cpuinfo_max_freq", "3500000"),
                f"{CPU}/cpu2/cpufreq/scaling_max_freq": "2000000",
            }
        ),
        "warning",
        [0],
    ),
    "thermal-throttling": (
        Machine(
            files=on_cpus("thermal_throttle/core_throttle_count", "0"),
            later={f"{CPU}/cpu5/thermal_throttle/core_throttle_count": "3"},
        ),
        "warning",
        [1],
    ),
    "power-limit": (
        Machine(
            files={
                "sys/class/powercap/intel-rapl:0/constraint_0_power_limit_uw": "200000000",
                "sys/class/powercap/intel-rapl:0/constraint_0_max_power_uw": "350000000",
            }
        ),
        "info",
        [0, 1],
    ),
    "uncore": (
        Machine(
            files={
                f"{CPU}/intel_uncore_frequency/package_00_die_00/max_freq_khz": "1200000",
                f"{CPU}/intel_uncore_frequency/package_00_die_00/initial_max_freq_khz": "2500000",
            }
        ),
        "warning",
        [0, 1],
    ),
    "idle-states": (Machine(files=idle(190)), "warning", [0, 1]),
    "smt": (
        Machine(
            cores=TWO_THREADS,
            layout={
                "workers": (SeenWorker(id=0, cell=0, cpus=(1, 5), cores=2, memory_node=0),),
            },
        ),
        "warning",
        [0],
    ),
    "core-kinds": (
        Machine(
            files=on_cpus("cpu_capacity", "1024") | on_cpus("cpu_capacity", "400", range(6, 8))
        ),
        "info",
        [1],
    ),
    "huge-pages": (Machine(files={f"{THP}/enabled": "always madvise [never]"}), "warning", [0, 1]),
    "huge-pages-stalls": (
        Machine(files={f"{THP}/defrag": "[always] defer defer+madvise madvise never"}),
        "info",
        [0, 1],
    ),
    "huge-pages-got": (
        Machine(
            files={
                f"proc/{PIDS[0]}/smaps_rollup": "AnonHugePages:    4096 kB",
                f"proc/{PIDS[1]}/smaps_rollup": "AnonHugePages:       0 kB",
            },
            running=True,
        ),
        "info",
        [1],
    ),
    "numa-balancing": (Machine(files={"proc/sys/kernel/numa_balancing": "1"}), "warning", [0, 1]),
    "zone-reclaim": (Machine(files={"proc/sys/vm/zone_reclaim_mode": "1"}), "info", [0, 1]),
    "memory-node": (
        Machine(
            files={
                f"proc/{PIDS[0]}/numa_maps": "7f00 bind:0 anon=100 dirty=100 N0=60 N1=40",
                f"proc/{PIDS[1]}/numa_maps": "7f00 bind:1 anon=100 dirty=100 N1=100",
            },
            running=True,
        ),
        "warning",
        [0],
    ),
    "numa-misses": (
        Machine(
            files={f"{NODE}/node{n}/numastat": "numa_miss 5\nnuma_foreign 5" for n in range(2)},
            later={f"{NODE}/node0/numastat": "numa_miss 9005\nnuma_foreign 5"},
        ),
        "warning",
        [0, 1],
    ),
    "node-clustering": (
        Machine(files={f"{NODE}/node1/meminfo": "Node 1 MemTotal: 0 kB"}),
        "warning",
        [1],
    ),
    "memory-channels": (Machine(files=dimms(4)), "warning", [0, 1]),
    "swap": (
        Machine(
            files={
                "proc/swaps": "Filename Type Size Used Priority\n/swap file 1000 0 -2",
                "proc/sys/vm/swappiness": "60",
            }
        ),
        "warning",
        [0, 1],
    ),
    "swapped-workers": (
        Machine(
            files={
                f"proc/{PIDS[0]}/status": "VmSwap:        0 kB",
                f"proc/{PIDS[1]}/status": "VmSwap:    20480 kB",
            },
            running=True,
        ),
        "warning",
        [1],
    ),
    "memory-limit": (
        Machine(files=cgroup(memory_max=str(2**34), memory_current=str(2**34 - 2**30))),
        "warning",
        [0, 1],
    ),
    "interrupts": (
        Machine(
            files={"proc/interrupts": interrupts(5)}, later={"proc/interrupts": interrupts(5005)}
        ),
        "warning",
        [0],
    ),
    "irqbalance": (
        Machine(
            files={"proc/1/comm": "irqbalance", "proc/interrupts": interrupts(5)},
            later={"proc/interrupts": interrupts(5005)},
        ),
        "warning",
        [0, 1],
    ),
    "kernel": (Machine(files={"proc/sys/kernel/osrelease": "5.4.0"}), "error", [0, 1]),
    "mitigations": (
        Machine(files={f"{CPU}/vulnerabilities/gather_data_sampling": "Mitigation: Microcode"}),
        "info",
        [],
    ),
    "clocksource": (
        Machine(files={"sys/devices/system/clocksource/clocksource0/current_clocksource": "hpet"}),
        "warning",
        [0, 1],
    ),
    "isolation": (Machine(files={f"{CPU}/isolated": "8-15"}), "info", []),
    "open-files": (Machine(files={"proc/self/limits": limits(256)}), "warning", []),
    "locked-memory": (
        Machine(files={"proc/self/limits": limits(65536).replace("8388608", "0")}),
        "info",
        [],
    ),
    "processes": (Machine(files=cgroup(pids_max="50", pids_current="10")), "warning", [0, 1]),
    "network": (
        Machine(files={f"{NET}/speed": "25000", f"{NET}/device/numa_node": "3"}),
        "info",
        [],
    ),
    "hypervisor": (Machine(files={"proc/cpuinfo": cpuinfo(f"{FLAGS} hypervisor")}), "info", []),
    "isa": (Machine(files={"proc/cpuinfo": cpuinfo("sse4_1")}), "warning", [0, 1]),
    "amx-permission": (Machine(running=True, layout=one_engine(precision="int8")), "error", [0]),
    "engine-isa": (
        Machine(running=True, layout=one_engine(precision="int8", isa="brgconv_avx2_I8")),
        "warning",
        [0],
    ),
    "allocator": (Machine(running=True, layout=one_engine()), "warning", [0]),
    "openmp": (
        Machine(
            files=of_workers(
                "maps",
                "7f-8f r-xp 0 08:01 1 /usr/lib/libiomp5.so\n"
                "8f-9f r-xp 0 08:01 1 /usr/lib/libgomp-24e2.so.1",
            ),
            running=True,
        ),
        "info",
        [0, 1],
    ),
    "thread-affinity": (
        Machine(
            files={
                f"proc/{PIDS[0]}/task/4711/status": "Cpus_allowed_list: 0-7",
                f"proc/{PIDS[1]}/task/4712/status": "Cpus_allowed_list: 5-7",
            },
            running=True,
        ),
        "warning",
        [0],
    ),
    "server-warnings": (
        Machine(
            running=True,
            layout={
                "workers": (SeenWorker(id=0, cell=0, cpus=(1,), cores=1, memory_node=0, pid=None),)
            },
        ),
        "error",
        [0],
    ),
    "probe-bandwidth": (probed(bandwidth={0: 80.0, 1: 40.0}), "warning", [1]),
    "probe-frequency": (
        probed(frequency_ghz={**dict.fromkeys(range(8), 3.0), 2: 2.0}),
        "warning",
        [0],
    ),
    "probe-wake-up": (probed(wake_up=Waits(p50_us=900.0, p99_us=1200.0)), "warning", [0, 1]),
    "probe-front": (probed(front_per_s=900.0), "info", []),
}
