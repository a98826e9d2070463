"""Which limits of processes and memory are in force, in words for a person."""

from __future__ import annotations

import errno
import mmap
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
    most, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if most != resource.RLIM_INFINITY and size_bytes > most:
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
    if error.errno == errno.EFBIG:
        size, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        return f"{reason}: shared memory is a file, and its size may be {size:,} bytes (ulimit -f)"
    if error.errno != errno.EAGAIN:
        return reason
    limits = []
    processes, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if processes != resource.RLIM_INFINITY:
        limits.append(f"the user's limit of processes and threads is {processes} (ulimit -u)")
    most = cgroups.read_number(root, "pids", "pids.max")
    if most is not None:
        limits.append(f"the cgroup's is {most} (pids.max)")
    return f"{reason}: {' and '.join(limits)}" if limits else reason


def killed_for_memory(root: Path = Path("/")) -> str:
    """What may be behind a SIGKILL that nobody here has sent: memory, and its limit."""
    v2 = cgroups.read_number(root, "memory", "memory.max")
    v1 = cgroups.read_number(root, "memory", "memory.limit_in_bytes")
    limits = [limit for limit in (v2, v1) if limit is not None and limit < 1 << 60]
    if limits:
        return f"probably out of memory: the cgroup's limit is {min(limits) // 10**6} MB"
    return "probably out of memory"


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
