"""What a machine is made of (packages, NUMA nodes, cores, caches), and what of it is ours.

Pure data: topology.py reads it, placement.py plans on it. CPU numbers are the kernel's, and may
have holes.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping


class CpuKind(enum.IntEnum):
    """How fast a core is among the machine's; all are PERFORMANCE where all are alike."""

    PERFORMANCE = 0
    EFFICIENCY = 1
    LOW_POWER = 2

    @property
    def label(self) -> str:
        """The kind as a person writes it, e.g. ``low-power``."""
        return self.name.lower().replace("_", "-")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """One physical core with at least one CPU online.

    Attributes:
        cpus: its online CPUs (SMT siblings), sorted.
        package: physical package, the number the kernel gives it.
        node: NUMA node; 0 where the machine shows none.
        l3: index of the L3 it shares in ``Machine.l3_groups``; None where none is shown.
        kind: see CpuKind.
    """

    cpus: tuple[int, ...]
    package: int
    node: int
    l3: int | None
    kind: CpuKind = CpuKind.PERFORMANCE


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A NUMA node, which may be memory without CPUs or CPUs without memory.

    Attributes:
        id: the kernel's number.
        cpus: its online CPUs, sorted.
        memory_bytes: 0 where it has none.
        distances: the kernel's distance to each node by id; 10 is itself.
    """

    id: int
    cpus: tuple[int, ...]
    memory_bytes: int
    distances: Mapping[int, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine, and what this process may use of it.

    Attributes:
        cores: every core that has a CPU online, by first CPU.
        nodes: NUMA nodes by id; empty where the machine shows none.
        l3_groups: the CPUs that share each L3.
        offline_cpus: present, but switched off.
        model_name: the CPU's name.
        isa: flags of /proc/cpuinfo that every CPU has.
        affinity_cpus: the process's affinity mask; None where it is not known.
        cpuset_cpus: what the cgroup's cpuset allows; None where there is none.
        allowed_memory_nodes: nodes that the process may allocate on; None where it is not known.
        cpu_quota: CPUs' worth of time that the smallest quota among the cgroup's ancestors
            grants, e.g. 2.5; None where there is none.
    """

    cores: tuple[Core, ...]
    nodes: tuple[Node, ...] = ()
    l3_groups: tuple[tuple[int, ...], ...] = ()
    offline_cpus: tuple[int, ...] = ()
    model_name: str = "unknown CPU"
    isa: frozenset[str] = frozenset()
    affinity_cpus: tuple[int, ...] | None = None
    cpuset_cpus: tuple[int, ...] | None = None
    allowed_memory_nodes: tuple[int, ...] | None = None
    cpu_quota: float | None = None

    @property
    def online_cpus(self) -> tuple[int, ...]:
        """Every CPU that is online, sorted."""
        return tuple(sorted(cpu for core in self.cores for cpu in core.cpus))

    @property
    def packages(self) -> tuple[int, ...]:
        """The packages' numbers, sorted."""
        return tuple(sorted({core.package for core in self.cores}))

    @property
    def allowed_cpus(self) -> tuple[int, ...]:
        """Online CPUs inside the affinity mask and the cpuset, sorted."""
        limits = [set(cpus) for cpus in (self.affinity_cpus, self.cpuset_cpus) if cpus is not None]
        return tuple(sorted(set(self.online_cpus).intersection(*limits)))

    @property
    def cpu_budget(self) -> int:
        """CPUs that may be busy at once: the allowed ones, or the whole CPUs of the quota."""
        allowed = len(self.allowed_cpus)
        return allowed if self.cpu_quota is None else min(allowed, whole_cpus(self.cpu_quota))

    @property
    def most_siblings(self) -> int:
        """CPUs of the core that has the most of them."""
        return max((len(core.cpus) for core in self.cores), default=0)

    def with_siblings_as_cores(self) -> Machine:
        """The same machine, with a core for each CPU."""
        cores = [dataclasses.replace(core, cpus=(cpu,)) for core in self.cores for cpu in core.cpus]
        return dataclasses.replace(self, cores=tuple(sorted(cores, key=lambda core: core.cpus)))

    @property
    def features(self) -> tuple[str, ...]:
        """What matters to inference of the instruction set, e.g. ``("AVX2", "AVX-512 VNNI")``."""
        return tuple(name for name, flags in _FEATURES.items() if flags & self.isa)


#: instruction sets by the flags that show them, any of which will do
_FEATURES = {
    "AVX2": {"avx2"},
    "AVX-512": {"avx512f"},
    "AVX-VNNI": {"avx_vnni"},
    "AVX-512 VNNI": {"avx512_vnni"},
    "AVX-512 BF16": {"avx512_bf16"},
    "AMX INT8": {"amx_int8"},
    "AMX BF16": {"amx_bf16"},
    "NEON": {"asimd"},
    "SVE": {"sve"},
    "I8MM": {"i8mm"},
    "BF16": {"bf16"},
}


def whole_cpus(quota: float) -> int:
    """The whole CPUs of a quota, at least one."""
    return max(1, math.floor(quota))
