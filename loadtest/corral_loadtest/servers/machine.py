"""The machine that the generators run on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

from corral_loadtest.result import Machine

#: of the words of /proc/stat's first line: its name, user, nice, system, idle, iowait, irq, softirq
_STEAL = 8


def describe() -> Machine:
    """Its CPU, and the versions that matter to a figure."""
    return Machine(
        cpu=_cpu(),
        cpus=len(os.sched_getaffinity(0)),
        kernel=platform.release(),
        python=platform.python_version(),
        grpcio=importlib.metadata.version("grpcio"),
    )


def stolen_s(stat: Path = Path("/proc/stat")) -> float:
    """CPU time that the hypervisor gave to others while this machine wanted it, since its start.

    All CPUs together; 0 on hardware of one's own, and where it cannot be read.
    """
    try:
        total = stat.read_text("utf-8", "replace").split("\n", 1)[0].split()
        return int(total[_STEAL]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return 0.0


def has_amx() -> bool:
    """Whether the CPUs have Intel's tiles for INT8."""
    return "amx_int8" in _said_of_a_cpu("flags").split()


def _cpu() -> str:
    return _said_of_a_cpu("model name") or platform.machine()


def _said_of_a_cpu(key: str) -> str:
    """What /proc/cpuinfo says of the first; "" where it cannot be read or has no such line."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")
