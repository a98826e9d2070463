"""What libiomp5 leaves in /dev/shm of a process that was killed: a page with its pid in the name.

It is there to find a second libiomp5 in the same process while that is loaded, and is of no use
afterwards: to remove it harms nobody.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_FOLDER = Path("/dev/shm")  # noqa: S108
_PREFIX = "__KMP_REGISTERED_LIB_"
#: of the namespace in which every process has a number, as Linux has it (PROC_PID_INIT_INO)
_ALL_PROCESSES = 0xEFFFFFFC


def remove(pid: int, folder: Path = _FOLDER) -> None:
    """Removes a process's own."""
    for left in folder.glob(f"{_PREFIX}{pid}_*"):
        with contextlib.suppress(OSError):
            left.unlink()


def sweep(folder: Path = _FOLDER) -> None:
    """Removes our user's of all processes that are dead.

    Only where every process is seen: in a container, whose shared memory may be that of others, a
    number without a process may be somebody's there.
    """
    if not _sees_all():
        return
    for left in folder.glob(f"{_PREFIX}*_{os.geteuid()}"):
        pid = left.name.removeprefix(_PREFIX).partition("_")[0]
        with contextlib.suppress(OSError):
            if pid.isdecimal() and left.lstat().st_uid == os.geteuid() and not _lives(int(pid)):
                left.unlink()


def _sees_all() -> bool:
    try:
        return Path("/proc/self/ns/pid").stat().st_ino == _ALL_PROCESSES
    except OSError:
        return False


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True
