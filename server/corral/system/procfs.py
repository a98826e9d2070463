"""What is read below /proc: of the CPU, and of the running server and its children."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import ipaddress
import os
import struct
from collections.abc import Collection, Iterable
from pathlib import Path

from corral.errors import printable
from corral.system import cgroups
from corral.system.cpu_list import parse_cpu_list
from corral.system.tree import read_text

_ROOT = Path("/")
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
#: of a CPU's name: no real one is longer
_MOST_CHARACTERS = 200
#: a state in /proc/net/tcp
_ESTABLISHED = "01"


@dataclasses.dataclass(frozen=True, slots=True)
class Memory:
    """A process's memory.

    Attributes:
        resident_bytes: pages it has in memory, shared ones included (RSS).
        proportional_bytes: the same, but its share alone of each shared page (PSS); the resident
            bytes where the kernel does not say.
    """

    resident_bytes: int
    proportional_bytes: int


def thread_affinities(pid: int, root: Path = _ROOT) -> dict[int, set[int]]:
    """The CPUs that each thread of a process may run on, by thread id.

    Raises:
        ProcessLookupError: there is no such process.
    """
    affinities = {}
    for task in _tasks(pid, root):
        try:
            status = (task / "status").read_text("utf-8", "replace")
        except (FileNotFoundError, ProcessLookupError):
            continue  # the thread ended while we looked
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        affinities[int(task.name)] = set(parse_cpu_list(fields["Cpus_allowed_list"]))
    return affinities


def move(pid: int, cpus: Iterable[int], root: Path = _ROOT) -> None:
    """Sets the CPUs that every thread of a process may run on; nothing happens if it has ended."""
    mask = set(cpus)
    with contextlib.suppress(OSError):
        for task in _tasks(pid, root):
            os.sched_setaffinity(int(task.name), mask)


def mapped_libraries(pid: int, root: Path = _ROOT) -> set[str]:
    """The paths of all files that a process has mapped.

    Raises:
        ProcessLookupError: there is no such process.
    """
    lines = _read(pid, "maps", root).splitlines()
    # address, permissions, offset, device, inode, and a path that may contain blanks
    fields = (line.split(maxsplit=5) for line in lines)
    return {
        field[5].removesuffix(" (deleted)") for field in fields if field[5:] and "/" in field[5]
    }


def memory(pid: int, root: Path = _ROOT) -> Memory:
    """A process's memory.

    Raises:
        ProcessLookupError: there is no such process.
    """
    resident = int(_read(pid, "statm", root).split()[1]) * _PAGE_BYTES
    try:
        rollup = _read(pid, "smaps_rollup", root)
    except (PermissionError, ProcessLookupError):
        return Memory(resident, resident)
    sizes = {
        name: int(rest.split()[0]) * 1024
        for name, _, rest in (line.partition(":") for line in rollup.splitlines()[1:])
    }
    return Memory(sizes.get("Rss", resident), sizes.get("Pss", resident))


def resident_bytes(pid: int, root: Path = _ROOT) -> int:
    """Bytes of memory that a process has resident (RSS), to some hundred KB.

    ``memory`` is exact, and goes over every page of the process while nobody can map another:
    a millisecond for each 250 MB, too much for a process that looks at itself while it serves.

    Raises:
        ProcessLookupError: there is no such process.
    """
    return int(_read(pid, "statm", root).split()[1]) * _PAGE_BYTES


def children(pid: int, root: Path = _ROOT) -> set[int]:
    """The process ids of a process's children, whichever thread started them.

    Raises:
        ProcessLookupError: there is no such process.
    """
    found: set[int] = set()
    if (root / "proc" / str(pid) / "task" / str(pid) / "children").exists():
        for task in _tasks(pid, root):
            try:
                found.update(map(int, (task / "children").read_text("utf-8", "replace").split()))
            except (FileNotFoundError, ProcessLookupError):
                continue
        return found
    # Kernels without CONFIG_PROC_CHILDREN: ask everybody who their parent is.
    _tasks(pid, root)
    for entry in (root / "proc").iterdir():
        if entry.name.isdigit():
            try:
                whose = parent(int(entry.name), root)
            except ProcessLookupError:
                continue
            if whose == pid:
                found.add(int(entry.name))
    return found


def parent(pid: int, root: Path = _ROOT) -> int:
    """The process id of a process's parent; 0 where it has none that we see.

    Raises:
        ProcessLookupError: there is no such process.
    """
    return int(_stat_fields(pid, root)[1])


def process_cpu_seconds(pid: int, root: Path = _ROOT) -> float:
    """CPU time that a process has used, user and system, all its threads.

    Raises:
        ProcessLookupError: there is no such process.
    """
    fields = _stat_fields(pid, root)
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def tree_cpu_seconds(pid: int, root: Path = _ROOT) -> float:
    """CPU time of a process and all below it, those that have ended and were reaped included.

    Raises:
        ProcessLookupError: there is no such process.
    """
    fields = _stat_fields(pid, root)
    total = sum(map(int, fields[11:15])) / _TICKS_PER_SECOND
    for child in children(pid, root):
        with contextlib.suppress(ProcessLookupError):
            total += tree_cpu_seconds(child, root)
    return total


def busy_seconds(cpus: Collection[int], root: Path = _ROOT) -> float | None:
    """What these CPUs were busy, in all, since the machine started; None where it is not told.

    Time that a hypervisor gave to others (steal) counts, for it was not ours.
    """
    try:
        lines = (root / "proc/stat").read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
    wanted = {f"cpu{cpu}" for cpu in cpus}
    ticks = 0
    for fields in map(str.split, lines):
        if fields and fields[0] in wanted:
            wanted.discard(fields[0])
            user, nice, system, _idle, _waiting, *more = map(int, fields[1:])
            # Guests' time, which comes last, is in the user's already.
            ticks += user + nice + system + sum(more[:3])
    return None if wanted else ticks / _TICKS_PER_SECOND


def open_descriptors() -> int:
    """How many descriptors this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


def unacknowledged_bytes(port: int, root: Path = _ROOT) -> int:
    """The most that one client of this machine's TCP port has not acknowledged yet."""
    most = 0
    for table in ("tcp", "tcp6"):
        try:
            lines = (root / "proc/net" / table).read_text("utf-8", "replace").splitlines()[1:]
        except OSError:
            continue  # a kernel without IPv6, or one that does not say
        for line in lines:
            _, local, _, _, queues, *_ = line.split()
            if int(local.rpartition(":")[2], 16) == port:
                most = max(most, int(queues.partition(":")[0], 16))
    return most


def kernel_address(host: str, port: int) -> str:
    """An address as /proc/net/tcp and tcp6 print it, "0100007F:1F90".

    Raises:
        ValueError: the host is no IP address.
    """
    return f"{_kernel_host(host)}:{port:04X}"


# A host asks again and again.
@functools.lru_cache(maxsize=256)
def _kernel_host(host: str) -> str:
    packed = ipaddress.ip_address(host.partition("%")[0]).packed
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words)


def open_connections(ports: Collection[int], root: Path = _ROOT) -> set[tuple[int, str]] | None:
    """The connections on TCP ports of this machine whose other end has not closed them.

    Args:
        ports: local ones.
        root: for tests.

    Returns:
        (local port, the other end as ``kernel_address`` gives it) of each; None where the kernel
        does not say.
    """
    found: set[tuple[int, str]] = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = (root / "proc/net" / table).read_text("utf-8", "replace").splitlines()[1:]
        except OSError:
            if table == "tcp":
                return None
            continue  # a kernel without IPv6
        for line in lines:
            _, local, remote, state, _ = line.split(None, 4)
            port = int(local[-4:], 16)
            if state == _ESTABLISHED and port in ports:
                found.add((port, remote))
    return found


def cpu_throttling(root: Path = _ROOT) -> cgroups.Throttling | None:
    """How the CPU quota of our group throttled it; None where cpu.stat does not say."""
    return cgroups.read_throttling(root)


def throttling() -> tuple[int, float] | None:
    """Periods in which, and seconds for which, a CPU quota stopped us; None where unknown."""
    stat = cpu_throttling()
    return None if stat is None else (stat.throttled_periods, stat.throttled_seconds)


def cpu_model(root: Path = _ROOT) -> str:
    """The name of the machine's CPU, as /proc/cpuinfo has it."""
    for processor in _cpuinfo(root):
        for name in ("model name", "Model", "cpu model", "Processor"):
            if processor.get(name):
                return printable(" ".join(processor[name].split()))[:_MOST_CHARACTERS]
        if "CPU implementer" in processor:
            part = processor.get("CPU part", "?")
            return printable(f"ARM {processor['CPU implementer']}:{part}")[:_MOST_CHARACTERS]
    return "unknown CPU"


def cpu_flags(root: Path = _ROOT) -> frozenset[str]:
    """The instruction-set flags that all CPUs have, by their names in /proc/cpuinfo."""
    flags = [
        frozenset((processor.get("flags") or processor.get("Features") or "").split())
        for processor in _cpuinfo(root)
        if "processor" in processor
    ]
    return frozenset.intersection(*flags) if flags else frozenset()


def cpu_numbers(root: Path = _ROOT) -> tuple[int, ...]:
    """The CPUs that /proc/cpuinfo lists."""
    found = (processor.get("processor", "") for processor in _cpuinfo(root))
    return tuple(sorted(int(number) for number in found if number.isdecimal()))


def _cpuinfo(root: Path) -> list[dict[str, str]]:
    """The blocks of /proc/cpuinfo, a dictionary each; none where it cannot be read."""
    try:
        text = read_text(root / "proc" / "cpuinfo")
    except OSError:
        return []
    blocks = []
    for block in text.split("\n\n"):
        pairs = (line.partition(":") for line in block.splitlines())
        blocks.append({name.strip(): value.strip() for name, _, value in pairs})
    return [block for block in blocks if block]


def _tasks(pid: int, root: Path) -> list[Path]:
    try:
        return sorted((root / "proc" / str(pid) / "task").iterdir())
    except FileNotFoundError:
        raise ProcessLookupError(f"no process {pid}") from None


def _stat_fields(pid: int, root: Path) -> list[str]:
    """The fields of stat from the third on: state, parent, … (the second may hold blanks)."""
    return _read(pid, "stat", root).rpartition(")")[2].split()


def _read(pid: int, name: str, root: Path) -> str:
    try:
        return (root / "proc" / str(pid) / name).read_text("utf-8", "replace")
    except FileNotFoundError:
        raise ProcessLookupError(f"no process {pid}") from None
