"""What file systems refuse because they do not have it: locks, modes, syncing.

Network file systems (NFS, Lustre, CIFS) and layers of containers lack one or another. None is
needed for a result to be right.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

#: how file systems refuse what they do not have; all else, a full disk, is an error
_NOT_SUPPORTED = {
    *(errno.EPERM, errno.EACCES, errno.EINVAL, errno.EBADF),
    *(errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP),
}


def refusal(call: Callable[[], None]) -> set[str]:
    """Calls; returns the words in which the file system refuses what it does not have."""
    try:
        call()
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
        return {str(error.strerror)}
    return set()


def lock(fd: int, on_wait: Callable[[], None]) -> set[str]:
    """Locks a file, or waits for its lock; returns how the file system refuses to."""
    try:
        return refusal(lambda: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB))
    except BlockingIOError:
        on_wait()
    return refusal(lambda: fcntl.flock(fd, fcntl.LOCK_EX))


def sync(path: Path) -> None:
    """Has a file's or folder's content written to the disk. Raises OSError: it cannot be."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
