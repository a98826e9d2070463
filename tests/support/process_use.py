"""What a process holds: memory, its peak, descriptors, threads; read from /proc."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator
from pathlib import Path


@dataclasses.dataclass
class Growth:
    """Filled in when the block has ended."""

    bytes: int = 0


@dataclasses.dataclass(frozen=True)
class Use:
    """What a process holds now.

    Attributes:
        memory_bytes: resident memory.
        descriptors: open ones; 0 where they cannot be counted, see ``may_look_into``.
        threads: of the process.
    """

    memory_bytes: int
    descriptors: int
    threads: int


def use_of(pid: int) -> Use:
    """What the process holds now."""
    return Use(
        memory_bytes=_status(pid, "VmRSS"),
        descriptors=len(list(Path(f"/proc/{pid}/fd").iterdir())) if may_look_into(pid) else 0,
        threads=len(list(Path(f"/proc/{pid}/task").iterdir())),
    )


def _status(pid: int, field: str) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)
    assert found, f"{field} of {pid}"
    return int(found[1]) * 1024


def peak_bytes(pid: int) -> int:
    """The most that was resident since the process started, or since ``forget_peak``."""
    return _status(pid, "VmHWM")


def forget_peak(pid: int) -> None:
    """The peak counts from now on."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def may_look_into(pid: int) -> bool:
    """Whether descriptors and peaks can be read: frontends hide themselves from all but root."""
    return os.access(f"/proc/{pid}/fd", os.R_OK) and os.access(f"/proc/{pid}/clear_refs", os.W_OK)


@contextlib.contextmanager
def peak_growth_bytes(pid: int) -> Iterator[Growth]:
    """How far a process's resident memory rises above what it is at the block's start.

    Where the peak cannot be forgotten, how far it rises above the earlier peak.
    """
    growth = Growth()
    if may_look_into(pid):
        forget_peak(pid)
        before = _status(pid, "VmRSS")
    else:
        before = peak_bytes(pid)
    try:
        yield growth
    finally:
        growth.bytes = max(0, peak_bytes(pid) - before)
