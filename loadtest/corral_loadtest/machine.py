"""The machine that the generators run on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

from corral_loadtest.result import Machine


def describe() -> Machine:
    """Its CPU, and the versions that matter to a figure."""
    return Machine(
        cpu=_cpu(),
        cpus=len(os.sched_getaffinity(0)),
        kernel=platform.release(),
        python=platform.python_version(),
        grpcio=importlib.metadata.version("grpcio"),
    )


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())
