"""Which limits of processes and memory are in force, in words for a person."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import resource
from pathlib import Path

from corral.errors import ConfigError
from corral.system import cgroups

#: why an engine may fail where it writes machine code of its own
NO_EXECUTABLE_MEMORY = (
    "this process may not make memory executable (systemd's MemoryDenyWriteExecute=, PR_SET_MDWE, "
    "SELinux's execmem), and this engine writes its kernels at run time: allow it, or use another "
    "engine"
)


#: what a start may get a moment later, once others have let go of it
PASSING = {errno.EAGAIN, errno.ENOMEM, errno.ENFILE, errno.EINTR}

#: what a limit of a process, a user or the machine is behind
REFUSED = {errno.EMFILE, *PASSING} - {errno.EINTR}


def read_limit(kind: int) -> int | None:
    """A soft limit of this process; None where there is none, or nobody may ask.

    Args:
        kind: ``resource.RLIMIT_…``.
    """
    try:
        most, _ = resource.getrlimit(kind)
    except OSError:
        return None
    return None if most == resource.RLIM_INFINITY else most


def check_descriptors(count: int) -> None:
    """Makes sure that this process may open so many descriptors more.

    Tried, not counted: what is open already is unknown. A limit that this process may raise by
    itself is raised.

    Raises:
        ConfigError: it may not.
    """
    try:
        _open_many(count)
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        try:
            _open_many(count)
        except OSError as error:
            raise ConfigError(start_refusal(error)) from None


def _open_many(count: int) -> None:
    with contextlib.ExitStack() as opened:
        for _ in range(count):
            opened.callback(os.close, os.dup(2))


def memory_limits() -> str:
    """The limits of this process's memory, for the end of a sentence; empty without any."""
    named = (
        (resource.RLIMIT_AS, "ulimit -v, systemd's LimitAS="),
        (resource.RLIMIT_DATA, "ulimit -d, systemd's LimitDATA="),
    )
    found = [(most, name) for kind, name in named if (most := read_limit(kind)) is not None]
    return " and ".join(
        f"it may have {most // 1024:,} KiB of memory ({name})" for most, name in found
    )


def check_memory(addresses_bytes: int, data_bytes: int) -> None:
    """Raises ConfigError where a limit of this process's memory leaves less than that.

    Libraries that are refused memory while they are loaded crash, or end the process by themselves.

    Args:
        addresses_bytes: of all that will be mapped.
        data_bytes: of it, what will be written to.
    """
    if not (limited := memory_limits()):
        return
    try:
        # What is only read counts against the one limit, and what may be written against both.
        for size, access in (
            (addresses_bytes, mmap.PROT_READ),
            (data_bytes, mmap.PROT_READ | mmap.PROT_WRITE),
        ):
            mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, access).close()
    except OSError as error:
        raise ConfigError(
            f"this process has too little memory: {error.strerror}; {limited}"
        ) from None


def refuses_executable_memory() -> bool:
    """Whether memory that is written to may not be executed here, which takes JIT compilers away.

    Tried, not read: it may be a flag of the process, a filter of its calls, or a policy.
    """
    wanted = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    try:
        mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, wanted).close()
    except PermissionError:
        return True
    return False


def check_file_size(size_bytes: int, what: str) -> None:
    """Raises ConfigError where RLIMIT_FSIZE forbids a file, or shared memory, of that size.

    Args:
        size_bytes: of the largest.
        what: takes as much, for the sentence.
    """
    most = read_limit(resource.RLIMIT_FSIZE)
    if most is not None and size_bytes > most:
        raise ConfigError(
            f"{what} takes {size_bytes:,} bytes of shared memory, which is a file, and this "
            f"process may write none above {most:,} (ulimit -f, systemd's LimitFSIZE=)"
        )


def start_refusal(error: OSError, root: Path = Path("/")) -> str:
    """Why a process or thread could not be started: the error, and the limit that is behind it.

    Args:
        error: of fork or exec, or of the memory that a process shares.
        root: what /proc and /sys lie below.
    """
    reason = error.strerror or str(error)
    if error.errno == errno.EFBIG and (size := read_limit(resource.RLIMIT_FSIZE)) is not None:
        return f"{reason}: shared memory is a file, and its size may be {size:,} bytes (ulimit -f)"
    if error.errno == errno.EMFILE and (most := read_limit(resource.RLIMIT_NOFILE)) is not None:
        return (
            f"{reason}: a process may have {most} descriptors (ulimit -n, systemd's LimitNOFILE=)"
        )
    if error.errno == errno.ENOMEM and (memory := memory_limits()):
        return f"{reason}: {memory}"
    if error.errno != errno.EAGAIN:
        return reason
    limits = []
    processes = read_limit(resource.RLIMIT_NPROC)
    if processes is not None:
        limits.append(f"the user's limit of processes and threads is {processes} (ulimit -u)")
    pids = cgroups.read_number(root, "pids", "pids.max")
    if pids is not None:
        limits.append(f"the cgroup's is {pids} (pids.max)")
    return f"{reason}: {' and '.join(limits)}" if limits else reason


def out_of_memory(error: MemoryError | RuntimeError) -> str:
    """Why memory or a thread is not to be had: the error's words, and the limits behind it."""
    reason = str(error) or "out of memory"
    # A thread is refused as a process is, or for want of memory for its stack.
    said = (
        start_refusal(OSError(errno.EAGAIN, reason)) if isinstance(error, RuntimeError) else reason
    )
    return f"{said}; {limited}" if (limited := memory_limits()) else said


def killed_for_memory(root: Path = Path("/")) -> str:
    """What may be behind a SIGKILL that nobody here has sent: memory, and its limit."""
    if limits := _cgroup_limits(root):
        return f"probably out of memory: the cgroup's limit is {min(limits) // 10**6} MB"
    return "probably out of memory"


def memory_there(root: Path = Path("/")) -> tuple[int, str]:
    """Bytes of the machine, or of the cgroup where that allows less, and words before them."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = _cgroup_limits(root)
    if limits and min(limits) < machine:
        return min(limits), "this cgroup may have"
    return machine, "this machine has"


def _cgroup_limits(root: Path) -> list[int]:
    names = ("memory.max", "memory.limit_in_bytes")
    limits = [cgroups.read_number(root, "memory", name) for name in names]
    return [limit for limit in limits if limit is not None and limit < 1 << 60]


def memory_left(root: Path = Path("/")) -> int | None:
    """Bytes that may still be taken: of the machine and of the cgroup; None where neither says.

    What the kernel keeps of files is given back when it is wanted, and counts as left.
    """
    found = []
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            found.append(int(line.split()[1]) * 1024)
    group = cgroups.read_memory_left(root)
    if group is not None:
        found.append(group)
    return min(found, default=None)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").splitlines()
    except OSError:
        return []
