"""Control groups, v1 and v2: where a process's groups lie, what they allow, how they throttled.

Everything is read below a root folder. In a container the path that /proc/PID/cgroup names often
lies outside what is mounted; then the mount's own folder is the group, as container-aware
runtimes take it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from corral.system.cpu_list import parse_cpu_list
from corral.system.tree import read_text, whole_number

#: a group's limit, what it has taken, and the field of memory.stat with what of that is files
_MEMORY_V2 = ("memory.max", "memory.current", "file")
_MEMORY_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache")
#: v1 writes "no limit" as a number near 2^63
_UNLIMITED = 1 << 60
_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclasses.dataclass(frozen=True, slots=True)
class Mount:
    """A mounted hierarchy.

    Attributes:
        folder: where, below the root folder.
        group: the group that is mounted there; ``/`` but in containers.
        controllers: of v1; empty for v2.
        v2: True for cgroup v2.
        prefix: what this hierarchy's cpuset files begin with (``noprefix`` mounts have none).
    """

    folder: Path
    group: str
    controllers: frozenset[str]
    v2: bool
    prefix: str = "cpuset."


@dataclasses.dataclass(frozen=True, slots=True)
class Throttling:
    """How often and how long a CPU quota stopped a group's threads."""

    periods: int
    throttled_periods: int
    throttled_seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What a process's groups allow; None where they say nothing.

    Attributes:
        cpus: CPUs of its cpuset.
        memory_nodes: NUMA nodes of its cpuset.
        quota: CPUs' worth of time, the smallest among the group and its ancestors.
    """

    cpus: tuple[int, ...] | None
    memory_nodes: tuple[int, ...] | None
    quota: float | None


def read_limits(root: Path, process: str = "self") -> Limits:
    """What the groups of a process below ``root`` allow."""
    cpuset = list(_groups(root, process, "cpuset"))
    return Limits(
        cpus=_first_list(cpuset, ("cpus.effective", "effective_cpus", "cpus")),
        memory_nodes=_first_list(cpuset, ("mems.effective", "effective_mems", "mems")),
        quota=_smallest_quota(root, process),
    )


def read_throttling(root: Path = Path("/"), process: str = "self") -> Throttling | None:
    """What cpu.stat of the process's group says; None where there is none.

    The group with a quota counts; failing that, the process's own.
    """
    found: Throttling | None = None
    for mount, folder in _groups(root, process, "cpu"):
        counts = _counts(folder / "cpu.stat")
        if not {"nr_throttled", "nr_periods"} <= counts.keys():
            continue
        seconds = (
            counts["throttled_usec"] / 1e6
            if "throttled_usec" in counts
            else counts.get("throttled_time", 0) / 1e9
        )
        stat = Throttling(counts["nr_periods"], counts["nr_throttled"], seconds)
        if _quota(mount, folder) is not None:
            return stat
        found = found or stat
    return found


def cpu_group(root: Path, process: str = "self") -> Path | None:
    """The folder of the group within which a process's CPU time is shared out.

    None for the machine's own group, and where it cannot be read.
    """
    for mount, folder in _groups(root, process, "cpu"):
        if mount.v2:
            # A group that has no such file shares with those of the group above it.
            if (folder / "cpu.weight").exists():
                return folder
        else:
            # The machine's own has that file; a container's looks as if it were that from inside.
            return None if (folder / "release_agent").exists() else folder
    return None


def read_number(root: Path, controller: str, name: str, process: str = "self") -> int | None:
    """The smallest number that a file of this name has in the process's group and its ancestors.

    None where no file says one: "max" is none.
    """
    texts = [_read(folder / name) for _, folder in _groups(root, process, controller)]
    numbers = [number for text in texts if (number := whole_number(text)) is not None]
    return min((number for number in numbers if number >= 0), default=None)


def read_memory_left(root: Path, process: str = "self") -> int | None:
    """Bytes that the process's group and its ancestors still allow; None where none has a limit.

    What a group holds of files is given back when it is wanted, and counts as left.
    """
    left = []
    for mount, folder in _groups(root, process, "memory"):
        names = _MEMORY_V2 if mount.v2 else _MEMORY_V1
        limit, used = (whole_number(_read(folder / name)) for name in names[:2])
        if limit is not None and used is not None and 0 <= limit < _UNLIMITED:
            of_files = _counts(folder / "memory.stat").get(names[2], 0)
            left.append(limit - max(0, used - of_files))
    return min(left, default=None)


def _smallest_quota(root: Path, process: str) -> float | None:
    quotas = [_quota(mount, folder) for mount, folder in _groups(root, process, "cpu")]
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota(mount: Mount, folder: Path) -> float | None:
    if mount.v2:
        fields = _read(folder / "cpu.max").split()
        if len(fields) != 2 or fields[0] == "max":
            return None
        quota_us, period_us = whole_number(fields[0]), whole_number(fields[1])
    else:
        quota_us = whole_number(_read(folder / "cpu.cfs_quota_us"))
        period_us = whole_number(_read(folder / "cpu.cfs_period_us"))
    # Where no quota is set, that of version 1 is -1.
    if quota_us is None or period_us is None or quota_us <= 0 or period_us <= 0:
        return None
    return quota_us / period_us


def _first_list(
    groups: Iterable[tuple[Mount, Path]], names: tuple[str, ...]
) -> tuple[int, ...] | None:
    """The nearest group's list that is not empty: an empty one in v2 means the parent's."""
    for mount, folder in groups:
        for name in names:
            # A file that says nothing that can be read is one that is not there.
            with contextlib.suppress(ValueError):
                if numbers := parse_cpu_list(_read(folder / f"{mount.prefix}{name}")):
                    return numbers
    return None


def _groups(root: Path, process: str, controller: str) -> Iterator[tuple[Mount, Path]]:
    """The folders of a process's group and of its ancestors, nearest first, v1 before v2."""
    paths = _paths(root, process)
    for mount in sorted(_mounts(root), key=lambda mount: mount.v2):
        if not mount.v2 and controller not in mount.controllers:
            continue
        path = paths.get("" if mount.v2 else controller)
        if path is None and controller == "cpuset":
            # Where /proc/PID/cgroup is missing, /proc/PID/cpuset names the cpuset's group.
            path = _read(root / "proc" / process / "cpuset") or None
        if path is None:
            continue
        yield from ((mount, folder) for folder in _folders(mount, path))


def _folders(mount: Mount, path: str) -> Iterator[Path]:
    """From the group's folder up to the mount's; the mount's alone where the group's is not."""
    inside = PurePosixPath(path)
    if mount.group != "/" and inside.is_relative_to(mount.group):
        inside = PurePosixPath("/") / inside.relative_to(mount.group)
    parts = inside.parts[1:]
    if ".." in parts or not mount.folder.joinpath(*parts).is_dir():
        parts = ()
    for length in range(len(parts), -1, -1):
        yield mount.folder.joinpath(*parts[:length])


def _paths(root: Path, process: str) -> dict[str, str]:
    """The process's group by controller; v2's under the empty name."""
    paths: dict[str, str] = {}
    for line in _read(root / "proc" / process / "cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            paths[controller] = path
    return paths


def _mounts(root: Path) -> list[Mount]:
    """The cgroup mounts that we see: the groups of another process lie there for us, too."""
    mounts = []
    for line in _read(root / "proc/self/mountinfo").splitlines():
        head, _, tail = line.partition(" - ")
        fields, end = head.split(), tail.split()
        if len(end) > 2 and end[0] in {"cgroup", "cgroup2"}:
            mounts.append(_mount(root, fields[4], _unescape(fields[3]), end[0], end[2]))
    if mounts:
        return mounts
    for line in _read(root / "proc" / "mounts").splitlines():
        fields = line.split()
        if len(fields) > 3 and fields[2] in {"cgroup", "cgroup2"}:
            mounts.append(_mount(root, fields[1], "/", fields[2], fields[3]))
    return mounts


def _mount(root: Path, folder: str, group: str, kind: str, options: str) -> Mount:
    words = frozenset(options.split(","))
    return Mount(
        folder=root / _unescape(folder).lstrip("/"),
        group=group,
        controllers=frozenset() if kind == "cgroup2" else words,
        v2=kind == "cgroup2",
        prefix="" if "noprefix" in words else "cpuset.",
    )


def _unescape(text: str) -> str:
    """Mount tables write blanks as ``\\040``."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)


def _counts(path: Path) -> dict[str, int]:
    """The lines ``name number`` of a file; none where it cannot be read."""
    pairs = (line.partition(" ") for line in _read(path).splitlines())
    found = {name: whole_number(text.strip()) for name, _, text in pairs}
    return {name: number for name, number in found.items() if number is not None}


def _read(path: Path) -> str:
    """The file's text without its end; empty where it cannot be read."""
    try:
        return read_text(path)
    except OSError:
        return ""
