"""Which limits of processes and memory are in force, in words for a person."""

from __future__ import annotations

import errno
import resource
from pathlib import Path

from corral.system import cgroups


def start_refusal(error: OSError, root: Path = Path("/")) -> str:
    """Why a process or thread could not be started: the error, and the limit that is behind it.

    Args:
        error: of fork or exec.
        root: what /proc and /sys lie below.
    """
    reason = error.strerror or str(error)
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
