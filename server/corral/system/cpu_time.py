"""What the machine's CPUs have done since it started, from /proc/stat."""

from __future__ import annotations

import os
from pathlib import Path

#: where "steal" stands behind the name of a line
_STEAL = 8


def steal(root: Path = Path("/proc")) -> tuple[float, int] | None:
    """Time that a hypervisor gave to others, over all CPUs, and how many CPUs there are.

    Returns:
        seconds, and CPUs that are online; None where the kernel does not say.
    """
    try:
        lines = (root / "stat").read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    rows = [line.split() for line in lines if line.startswith("cpu")]
    if not rows or len(rows[0]) <= _STEAL or not rows[0][_STEAL].isdigit():
        return None
    return int(rows[0][_STEAL]) / os.sysconf("SC_CLK_TCK"), len(rows) - 1
