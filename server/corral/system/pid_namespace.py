"""The same process has another number in each PID namespace: what ours for it is."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from pathlib import Path

#: what is told where a server's processes cannot be seen
HIDDEN = (
    "the server's processes are in a PID namespace that is not seen from here; ask inside its "
    "container, or on the machine itself as root"
)
_PROC = Path("/proc")


def own() -> int | None:
    """This process's PID namespace, by the number that it has all over the machine; None if none
    is told."""
    return _of("self")


def as_seen_here(pids: Collection[int], namespace: int) -> dict[int, int]:
    """Processes by the numbers that they have here, by those of another namespace.

    Those that are not below us are not to be seen: they are missing.

    Args:
        pids: numbers that are right in the namespace.
        namespace: see ``own``.
    """
    if namespace == own() and _proc_is_ours():
        return {pid: pid for pid in pids}
    found = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and _of(entry.name) == namespace:
            theirs = _innermost(entry)
            if theirs is not None and theirs in pids:
                found[theirs] = int(entry.name)
    return found


def _of(process: str) -> int | None:
    try:
        return (_PROC / process / "ns" / "pid").stat().st_ino
    except OSError:
        return None


def _proc_is_ours() -> bool:
    """Whether /proc was mounted in our namespace, and not in one above, whose numbers it has."""
    try:
        return (_PROC / "self").readlink() == Path(str(os.getpid()))
    except OSError:
        return False


def _innermost(process: Path) -> int | None:
    """The number that a process has for itself."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (process / "status").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
    return None
