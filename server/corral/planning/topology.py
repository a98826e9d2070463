"""Reads a machine below a root folder: /sys for what there is, /proc for what is ours of it.

The root folder is ``/``, or a copy of another machine's /sys and /proc.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from corral.errors import ConfigError
from corral.planning.machine import Core, CpuKind, Machine, Node
from corral.system import cgroups, procfs
from corral.system.cpu_list import parse_cpu_list, parse_cpu_mask
from corral.system.tree import read_text, whole_number

__all__ = ["Machine", "read_allowed", "read_machine"]

#: a core this much slower than the fastest of its kind is of another kind; turbo-favoured cores
#: differ by a few percent, efficiency cores by a quarter and more
_SAME_KIND_RATIO = 0.85


def read_machine(root: Path = Path("/"), live: bool = True, process: int | None = None) -> Machine:
    """Reads the machine below ``root``.

    Args:
        root: the folder that holds ``sys`` and ``proc``.
        live: the affinity mask is this process's; otherwise it is what ``proc/self/status`` below
            ``root`` says, if it is there.
        process: whose mask and control groups count; None: those of this process.

    Raises:
        ProcessLookupError: that process has ended.
        ConfigError: there is nothing below ``root`` that tells of CPUs.
    """
    name = "self" if process is None else str(process)
    status = _status(root, name)
    affinity = tuple(sorted(os.sched_getaffinity(process or 0))) if live else status("Cpus_allowed")
    limits = cgroups.read_limits(root, name)
    online, offline = _online(root)
    if live:
        # A process runs on what is in its mask, whatever a container's files say of it.
        online = tuple(sorted({*online, *(affinity or ())}))
        offline = tuple(cpu for cpu in offline if cpu not in online)
    if not online:
        online = affinity or procfs.cpu_numbers(root)
    if not online:
        raise ConfigError(f"{root}: no CPUs below sys/devices/system/cpu or in proc/cpuinfo")
    nodes = _nodes(root, set(online))
    l3_groups = _l3_groups(root, online)
    return Machine(
        cores=_cores(root, online, nodes, l3_groups),
        nodes=nodes,
        l3_groups=l3_groups,
        offline_cpus=offline,
        model_name=procfs.cpu_model(root),
        isa=procfs.cpu_flags(root),
        affinity_cpus=affinity,
        cpuset_cpus=limits.cpus,
        allowed_memory_nodes=_both(status("Mems_allowed"), limits.memory_nodes),
        cpu_quota=limits.quota,
    )


def read_allowed(root: Path = Path("/"), live: bool = True) -> tuple[tuple[int, ...], float | None]:
    """The CPUs that affinity mask and cpuset allow, and the quota; far cheaper than the machine.

    Args:
        root: as in ``read_machine``.
        live: likewise.
    """
    affinity = tuple(sorted(os.sched_getaffinity(0))) if live else _status(root)("Cpus_allowed")
    limits = cgroups.read_limits(root)
    return _both(affinity, limits.cpus) or (), limits.quota


def _both(one: tuple[int, ...] | None, other: tuple[int, ...] | None) -> tuple[int, ...] | None:
    if one is None or other is None:
        return other if one is None else one
    return tuple(sorted(set(one) & set(other)))


def _status(root: Path, process: str = "self") -> Callable[[str], tuple[int, ...] | None]:
    """Looks up a mask in a process's status, which older kernels write only as words of bits."""
    lines = (_read(root / "proc" / process / "status") or "").splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)

    def mask(name: str) -> tuple[int, ...] | None:
        with contextlib.suppress(ValueError):
            if f"{name}_list" in fields:
                return parse_cpu_list(fields[f"{name}_list"])
            return parse_cpu_mask(fields[name]) if name in fields else None
        return None

    return mask


def _online(root: Path) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """CPUs that are online, and present ones that are not."""
    folder = _cpus(root)
    shown = sorted(_numbered(folder, "cpu"))
    present = _list_or_mask(folder / "present")
    online = _list_or_mask(folder / "online")
    if online is None:
        # Kernels before 2.6.26 tell it CPU by CPU, and nothing of one that cannot be switched off.
        online = tuple(cpu for cpu in shown if _read(folder / f"cpu{cpu}" / "online") != "0")
    present = tuple(shown) if present is None else present
    return online, tuple(sorted(set(present) - set(online)))


def _nodes(root: Path, online: set[int]) -> tuple[Node, ...]:
    folder = root / "sys/devices/system/node"
    numbers = sorted(_numbered(folder, "node"))
    nodes = []
    for number in numbers:
        entry = folder / f"node{number}"
        cpus = _list_or_mask(entry / "cpulist", entry / "cpumap") or ()
        distances = _numbers(entry / "distance")
        nodes.append(
            Node(
                id=number,
                cpus=tuple(cpu for cpu in cpus if cpu in online),
                memory_bytes=_memory_bytes(entry / "meminfo"),
                distances=dict(zip(numbers, distances, strict=False)),
            )
        )
    return tuple(nodes)


def _memory_bytes(path: Path) -> int:
    for line in (_read(path) or "").splitlines():
        name, _, rest = line.partition(":")
        if name.endswith("MemTotal"):
            with contextlib.suppress(ValueError, IndexError):
                return int(rest.split()[0]) * 1024
    return 0


def _l3_groups(root: Path, online: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    groups = set()
    for cpu in online:
        cache = _cpus(root) / f"cpu{cpu}" / "cache"
        for index in _numbered(cache, "index"):
            entry = cache / f"index{index}"
            if _read(entry / "level") == "3":
                shared = _list_or_mask(entry / "shared_cpu_list", entry / "shared_cpu_map")
                groups.add(tuple(c for c in shared or (cpu,) if c in online))
    return tuple(sorted(group for group in groups if group))


def _cores(
    root: Path,
    online: Sequence[int],
    nodes: Iterable[Node],
    l3_groups: Iterable[tuple[int, ...]],
) -> tuple[Core, ...]:
    nodes = list(nodes)
    node_of = {cpu: node.id for node in nodes for cpu in node.cpus}
    l3_of = {cpu: i for i, group in enumerate(l3_groups) for cpu in group}
    kind_of = _kinds(root, online, l3_of)
    homeless = nodes[0].id if nodes else 0
    cores: list[Core] = []
    seen: set[int] = set()
    for cpu in online:
        if cpu in seen:
            continue
        siblings = tuple(c for c in _siblings(root, cpu) if c in online and c not in seen)
        seen.update(siblings)
        cores.append(
            Core(
                cpus=siblings,
                package=_package(root, cpu),
                node=node_of.get(cpu, homeless),
                l3=l3_of.get(cpu),
                kind=kind_of.get(cpu, CpuKind.PERFORMANCE),
            )
        )
    return tuple(cores)


def _siblings(root: Path, cpu: int) -> tuple[int, ...]:
    entry = _cpus(root) / f"cpu{cpu}" / "topology"
    names = ("core_cpus_list", "core_cpus", "thread_siblings_list", "thread_siblings")
    siblings = _list_or_mask(*(entry / name for name in names)) or ()
    # AMD's Bulldozer calls the two cores of a module siblings, though their core ids differ.
    core_id = _read(entry / "core_id")
    same = [c for c in siblings if _read(_cpus(root) / f"cpu{c}/topology/core_id") == core_id]
    return tuple(same) if cpu in same else (cpu,)


def _package(root: Path, cpu: int) -> int:
    entry = _cpus(root) / f"cpu{cpu}" / "topology"
    number = _number(entry / "physical_package_id", -1)
    if number >= 0:
        return number
    # Firmware that numbers no packages: the first CPU of the package stands for it.
    names = ("package_cpus_list", "package_cpus", "core_siblings_list", "core_siblings")
    together = _list_or_mask(*(entry / name for name in names)) or ()
    return together[0] if cpu in together else 0


def _kinds(root: Path, online: Sequence[int], l3_of: Mapping[int, int]) -> dict[int, CpuKind]:
    """The kind of each CPU, from the first source that tells them apart; empty if none does."""
    efficient = _efficiency_cpus(root).intersection(online)
    if efficient and len(efficient) < len(online):
        # Low-power cores sit outside the L3 that the other efficiency cores share.
        outside = {cpu for cpu in efficient if cpu not in l3_of}
        low_power = outside if outside < efficient else set()
        return {
            cpu: CpuKind.LOW_POWER if cpu in low_power else CpuKind.EFFICIENCY for cpu in efficient
        }
    for name in ("cpu_capacity", "cpufreq/base_frequency", "cpufreq/cpuinfo_max_freq"):
        speeds = {cpu: _number(_cpus(root) / f"cpu{cpu}" / name, 0) for cpu in online}
        if min(speeds.values()) > 0 and min(speeds.values()) < max(speeds.values()):
            return _kinds_by_speed(speeds)
    return {}


def _efficiency_cpus(root: Path) -> set[int]:
    """What the kernel itself calls Atom cores beside Core cores."""
    folders = [root / "sys/devices/cpu_atom", *_cpus(root).glob("types/intel_atom*")]
    found: set[int] = set()
    for folder in folders:
        found.update(_list_or_mask(folder / "cpus", folder / "cpulist", folder / "cpumap") or ())
    return found


def _kinds_by_speed(speeds: Mapping[int, int]) -> dict[int, CpuKind]:
    kinds: dict[int, CpuKind] = {}
    kind, top = CpuKind.PERFORMANCE, max(speeds.values())
    for cpu in sorted(speeds, key=lambda cpu: (-speeds[cpu], cpu)):
        if speeds[cpu] < _SAME_KIND_RATIO * top:
            kind, top = CpuKind(min(kind + 1, max(CpuKind))), speeds[cpu]
        kinds[cpu] = kind
    return kinds


def _cpus(root: Path) -> Path:
    return root / "sys/devices/system/cpu"


def _numbered(folder: Path, stem: str) -> list[int]:
    """The numbers of the entries that are called ``stem`` and a number."""
    try:
        names = [entry.name.removeprefix(stem) for entry in folder.glob(f"{stem}[0-9]*")]
    except OSError:
        return []
    return [int(name) for name in names if name.isdecimal()]


def _list_or_mask(*paths: Path) -> tuple[int, ...] | None:
    """CPU numbers from the first of the files that can be read, list or mask by its name."""
    for path in paths:
        text = _read(path)
        # A file that says nothing that can be read is one that is not there.
        with contextlib.suppress(ValueError):
            if text is None:
                continue
            masks = path.name.endswith(("map", "_cpus", "siblings"))
            return parse_cpu_mask(text) if masks else parse_cpu_list(text)
    return None


def _number(path: Path, otherwise: int) -> int:
    """The number in a file, or another where there is none."""
    return next(iter(_numbers(path)), otherwise)


def _numbers(path: Path) -> list[int]:
    """The numbers in a file; none where it is missing or says something else."""
    numbers = [whole_number(word) for word in (_read(path) or "").split()]
    known = [number for number in numbers if number is not None]
    return known if len(known) == len(numbers) else []


def _read(path: Path) -> str | None:
    """The file's text without its end, or None where it cannot be read."""
    try:
        return read_text(path)
    except OSError:
        return None
